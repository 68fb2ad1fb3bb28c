"""``python -m ingest_ops stop|hold|resume``: record a request for the open deployment; its deployer follows it."""

import argparse
import json

from ingest.command import terminal
from ingest_ops.deployment.commands.common import LIVE, NOT_LIVE, explain, guarded
from ingest_ops.deployment.journal import Record
from ingest_ops.deployment.settings import DeployerContext, actor
from ingest_ops.deployment.state_machine import AFTER_HANDOVER, State

EFFECTS = {
    "stop": "it is undone: the predecessor writes",
    "hold": "it stays {where} until `resume`, for a day at most, and is then undone; what fails is undone as always",
    "resume": "it goes on",
}
LATE = frozenset({State.HANDOVER, *AFTER_HANDOVER, State.RETIRE})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    explain(parser, "0 recorded, 1 nothing is open, or it is too late, 2 bad settings", "hold", "resume --json", "stop")
    parser.add_argument("--json", action="store_true", help="what was recorded as one JSON object")


def run(namespace: argparse.Namespace) -> int:
    """Record the request; returns the exit code."""

    def control(parts: DeployerContext) -> int:
        who = actor()
        try:
            record = asked(parts, namespace.command, who)
        except NotPossible as error:
            terminal.complain("ingest_ops", str(error))
            return NOT_LIVE
        data = {"id": record.id, "word": namespace.command, "state": str(record.state), "actor": who}
        text = json.dumps(data, indent=2) if namespace.json else effect(record, namespace.command, who)
        terminal.write(text + "\n")
        return LIVE

    return guarded(control)


class NotPossible(Exception):
    """The request has no object; the text says why."""


def asked(parts: DeployerContext, word: str, by: str) -> Record:
    """Record ``stop``, ``hold`` or ``resume`` for the open deployment. Raises ``NotPossible``."""
    record = parts.journal.open_one()
    if record is None or record.kind != "deploy":
        raise NotPossible(f"no deployment is open that one could {word}")
    if word == "resume" and not record.facts.held_by:
        raise NotPossible(f"{record.id} is not held: it is in state {record.state}")
    if word != "resume" and record.facts.cancelled_by:
        raise NotPossible(f"{record.id} is being undone, as {record.facts.cancelled_by} asked")
    if word == "stop" and not record.undoable:
        raise NotPossible(f"{record.id} is in state {record.state}: wait for its end, then `roll-back`")
    return parts.deployer.control(record.id, word, by)


def effect(record: Record, word: str, by: str) -> str:
    """What the request does, in a sentence."""
    where = "before the old slot is stopped" if record.state in LATE else "before the hand-over"
    return f"{record.id}: {word} by {by}: {EFFECTS[word].format(where=where)}"
