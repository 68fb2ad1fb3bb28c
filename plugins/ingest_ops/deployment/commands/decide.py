"""``python -m ingest_ops decide ID approve|reject``: approve or reject a deployment that waits for a decision."""

import argparse
import json

from ingest.command import terminal
from ingest_ops.deployment.commands.common import LIVE, NOT_LIVE, explain, guarded
from ingest_ops.deployment.settings import DeployerContext, actor
from ingest_ops.deployment.state_machine import State

DECISIONS = {"approve": "approved", "reject": "rejected"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    explain(
        parser,
        "0 recorded, 1 it does not wait for a decision, 2 bad settings",
        "decide deploy-20260121T101500-4711 approve",
    )
    parser.add_argument("--json", action="store_true", help="what was recorded as one JSON object")
    parser.add_argument("id", help="name of the deployment")
    parser.add_argument("decision", choices=sorted(DECISIONS))


def run(namespace: argparse.Namespace) -> int:
    """Record the decision; returns the exit code."""

    def decide(parts: DeployerContext) -> int:
        record = parts.journal.read(namespace.id)
        if record.state is not State.APPROVAL:
            reason = f"{record.id} does not wait for a decision: it is in state {record.state}"
            terminal.complain("ingest_ops", reason)
            return NOT_LIVE
        who = actor()
        parts.deployer.decide(record.id, DECISIONS[namespace.decision], who)
        data = {"id": record.id, "decision": DECISIONS[namespace.decision], "actor": who}
        text = json.dumps(data, indent=2) if namespace.json else f"{record.id}: {data['decision']} by {who}"
        terminal.write(text + "\n")
        return LIVE

    return guarded(decide)
