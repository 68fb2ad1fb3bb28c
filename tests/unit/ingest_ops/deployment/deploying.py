"""A deployment of short windows in a model of two slots."""

from ingest_ops.deployment.journal import Record
from ingest_ops.deployment.plan import Plan, parse
from tests.harness.deployment.model import TwoSlots, closing, deployer

SHORT = {"version": "v2", "watch_seconds": 120, "validate_seconds": 180, "hold_seconds": 60}
PLAN = parse(SHORT)


def deploy(world: TwoSlots, plan: Plan = PLAN) -> Record:
    with closing(deployer(world)) as one:
        one.open("d1", plan)
        one.run("d1", until=lambda _: False)
        return one.finish("d1")
