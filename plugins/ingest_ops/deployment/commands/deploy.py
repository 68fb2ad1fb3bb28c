"""``python -m ingest_ops deploy VERSION``: the same machine that the DAG runs, in this process."""

import argparse
import os
from typing import Any

import msgspec

from ingest.command import arguments as kinds
from ingest_ops.deployment.commands.common import CODES, MANUAL, OUTCOMES, add_shard, explain, handled, new_id, say
from ingest_ops.deployment.commands.rollout import Rollout, deploy_one
from ingest_ops.deployment.fleet import load_shards, of_name
from ingest_ops.deployment.plan import Plan, parse
from ingest_ops.deployment.settings import DeployerContext, actor, load, now

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
    add_shard(parser, "all of them, one after the other")
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

    def deploy() -> int:
        settings, plan = load(os.environ), _plan(namespace)
        name = namespace.id or new_id("deploy", now())
        if not namespace.shard and (shards := load_shards(settings)):
            rollout = Rollout(settings, name, shards, as_json=namespace.json)
            return rollout.say(rollout.deploy(plan))
        with DeployerContext(of_name(settings, namespace.shard), actor(), namespace.shard) as parts:
            record = deploy_one(parts, name, plan, as_json=namespace.json)
            say(record, parts, as_json=namespace.json)
        return CODES.get(record.state, MANUAL)

    return handled(deploy)


def _plan(namespace: argparse.Namespace) -> Plan:
    values: dict[str, Any] = {name: getattr(namespace, name) for name in (*TIMES, *THRESHOLDS)}
    return parse(
        {
            **values,
            "version": namespace.version,
            "approval": namespace.approval,
            "audit": namespace.audit,
            "compare_after": namespace.compare_after,
            "requested_by": actor(),
            "shard": namespace.shard,
        }
    )
