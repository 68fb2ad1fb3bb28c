"""``python -m ingest_ops decide ID approve|reject``: a person's word on a deployment that waits for it."""

import argparse
import sys

from ingest_ops.deployment.commands.common import LIVE, NOT_LIVE, guarded
from ingest_ops.deployment.machine import State
from ingest_ops.deployment.settings import Workshop, actor

DECISIONS = {"approve": "approved", "reject": "rejected"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("id", help="name of the deployment")
    parser.add_argument("decision", choices=sorted(DECISIONS))


def run(namespace: argparse.Namespace) -> int:
    """Record the decision; returns the exit code."""

    def decide(workshop: Workshop) -> int:
        record = workshop.journal.read(namespace.id)
        if record.state is not State.APPROVAL:
            sys.stderr.write(f"ingest_ops: {record.id} does not wait for a decision: it is in state {record.state}\n")
            return NOT_LIVE
        workshop.deployer.decide(record.id, DECISIONS[namespace.decision], actor())
        return LIVE

    return guarded(decide)
