"""``python -m ingest_ops roll-back``: undo the open deployment, or let the other colour write again."""

import argparse
import os

from ingest.command import arguments as kinds
from ingest_ops.deployment.commands.common import LIVE, MANUAL, add_shard, explain, handled, say
from ingest_ops.deployment.commands.rollout import Rollout
from ingest_ops.deployment.commands.undoing import undo
from ingest_ops.deployment.fleet import Shard, load_shards, of_name
from ingest_ops.deployment.plan import BadPlan
from ingest_ops.deployment.settings import DeployerContext, DeploySettings, actor, load
from ingest_ops.deployment.state_machine import State


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    explain(
        parser,
        "0 the predecessor writes, 2 bad settings, 3 a person must look, 75 no answer now",
        "roll-back",
        "roll-back --version v1.9-stable --json",
    )
    add_shard(parser, "all that the deployment of --id has changed, or the latest one")
    parser.add_argument("--json", action="store_true", help="the outcome as one JSON object")
    parser.add_argument("--id", type=kinds.run_id, help="name of the roll-back, where none is open (default: made up)")
    parser.add_argument(
        "--version", help="what the other slot shall run, if it is stopped (default: what was live in it)"
    )
    parser.add_argument("--no-audit", action="store_true", help="do without the independent auditor")


def run(namespace: argparse.Namespace) -> int:
    """Roll back; returns the exit code."""

    def roll_back() -> int:
        settings = load(os.environ)
        if not namespace.shard and (shards := load_shards(settings)):
            return roll_back_all(settings, shards, namespace)
        with DeployerContext(of_name(settings, namespace.shard), actor(), namespace.shard) as parts:
            record = undo(
                parts, namespace.id, version=namespace.version, audit=not namespace.no_audit, as_json=namespace.json
            )
            say(record, parts, as_json=namespace.json)
        return LIVE if record.state in (State.ROLLED_BACK, State.ABORTED) else MANUAL

    return handled(roll_back)


def roll_back_all(settings: DeploySettings, shards: list[Shard], namespace: argparse.Namespace) -> int:
    """Take a deployment of several shards back from each of them; returns the exit code."""
    if namespace.version:
        raise BadPlan("--version is of one slot: choose its shard with --shard")
    rollout = Rollout(settings, namespace.id or Rollout.latest(settings), shards, as_json=namespace.json)
    code = rollout.say(rollout.undo(audit=not namespace.no_audit))
    return LIVE if code != MANUAL else MANUAL
