"""``python -m ingest_ops deploy VERSION``: the same machine that the DAG runs, in this process."""

import argparse
from typing import Any

import msgspec

from ingest.command import arguments as kinds
from ingest_ops.deployment.commands.common import CODES, MANUAL, OUTCOMES, Progress, explain, guarded, new_id, said, say
from ingest_ops.deployment.plan import Plan, parse
from ingest_ops.deployment.settings import DeployerContext, actor, now

THRESHOLDS = (
    "min_rate",
    "max_memory_mb",
    "min_compared",
    "min_coverage",
    "max_handover_seconds",
    "max_growth_mb",
    "max_gap_seconds",
)
TIMES = (
    "build_seconds", "standby_seconds", "watch_seconds", "grace_seconds", "validate_seconds", "hold_seconds",
    "handover_seconds", "roll_back_seconds", "scrape_seconds", "holds",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options: the plan's fields under their names."""
    explain(parser, OUTCOMES, "deploy v2.0-stable", "deploy v2.0-stable --watch-seconds 1800 --approval --json")
    parser.add_argument("version", help="the image's tag, or a release of the agent's")
    parser.add_argument("--json", action="store_true", help="the outcome as one JSON object")
    parser.add_argument(
        "--id", type=kinds.run_id, help="name of the deployment; repeating it resumes that one (default: made up)"
    )
    parser.add_argument("--approval", action="store_true", help="wait for a person before the hand-over")
    audit = parser.add_mutually_exclusive_group()
    audit.add_argument("--audit", action="store_true", default=None, help="insist on the auditor: without one, refuse")
    audit.add_argument("--no-audit", dest="audit", action="store_false", help="do without it, though one is configured")
    parser.add_argument(
        "--no-compare-after",
        dest="compare_after",
        action="store_false",
        help="the predecessor's version cannot compare what the new one commits: do without those gates",
    )
    defaults = {field.name: field.default for field in msgspec.structs.fields(Plan)}
    for name in (*TIMES, *THRESHOLDS):
        kind = kinds.whole(0) if isinstance(defaults[name], int) else kinds.number(least=0)
        text = f"default: {defaults[name]:g}"
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="N", help=text)


def run(namespace: argparse.Namespace) -> int:
    """Deploy; returns the exit code."""

    def deploy(parts: DeployerContext) -> int:
        values: dict[str, Any] = {name: getattr(namespace, name) for name in (*TIMES, *THRESHOLDS)}
        plan = parse(
            {
                **values,
                "version": namespace.version,
                "approval": namespace.approval,
                "audit": namespace.audit,
                "compare_after": namespace.compare_after,
                "requested_by": actor(),
            }
        )
        deployer = parts.deployer
        record = deployer.open(namespace.id or new_id("deploy", now()), plan)
        said(f"deployment {record.id}", as_json=namespace.json)
        if plan.approval:
            said(f"to decide: python -m ingest_ops decide {record.id} approve|reject", as_json=namespace.json)
        deployer.run(record.id, until=Progress())
        record = deployer.finish(record.id)
        say(record, parts, as_json=namespace.json)
        return CODES.get(record.state, MANUAL)

    return guarded(deploy)
