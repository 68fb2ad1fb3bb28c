"""What the commands share: exit codes, the id of a deployment, progress on the terminal."""

import argparse
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from ingest.command import exit_codes, terminal
from ingest.core.errors import BadSettings
from ingest_ops.agent.slots import AgentRefusal, AgentTrouble
from ingest_ops.deployment.control import ControlRefusal, ControlTrouble
from ingest_ops.deployment.fleet import of_name
from ingest_ops.deployment.journal import JournalError, Record
from ingest_ops.deployment.plan import BadPlan
from ingest_ops.deployment.settings import DeployerContext, actor, load
from ingest_ops.deployment.state_machine import State

LIVE = 0
"""The version is live; the roll-back is done."""
NOT_LIVE = 1
"""The version is not live: aborted or rolled back, the predecessor writes."""
MANUAL = exit_codes.CANNOT_WORK
"""It is not known which instance writes: a person must look."""

OUTCOMES = "0 live, 1 not live: the predecessor writes, 2 bad settings, 3 a person must look, 75 no answer now"

CODES = {State.DONE: LIVE, State.ABORTED: NOT_LIVE, State.ROLLED_BACK: NOT_LIVE}

SETTINGS = """\
settings: K2_DEPLOY_AGENT_URL, K2_DEPLOY_PROMETHEUS_URL, K2_DEPLOY_JOURNAL_URL, K2_DEPLOY_REPORTS,
K2_DEPLOY_AUDIT_COMMAND, K2_DEPLOY_FLEET_FILE, K2_AGENT_TOKEN(_FILE), K2_CONTROL_TOKEN(_FILE)
"""


def explain(parser: argparse.ArgumentParser, outcomes: str, *examples: str) -> None:
    """End the help with settings, exit codes and examples."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    lines = "".join(f"  python -m ingest_ops {example}\n" for example in examples)
    parser.epilog = f"{SETTINGS}\nexit codes: {outcomes}\n\nexamples:\n{lines}"


def new_id(kind: str, at: float) -> str:
    """A name for a deployment that sorts by time."""
    return f"{kind}-{datetime.fromtimestamp(at, UTC):%Y%m%dT%H%M%S}-{os.getpid() % 10_000:04d}"


def guarded(command: Callable[[DeployerContext], int], who: str = "", *, shard: str = "") -> int:
    """Run it with everything open; expected errors are printed without a traceback. ``shard``: one of several."""

    def opened() -> int:
        with DeployerContext(of_name(load(os.environ), shard), actor(who), shard) as parts:
            return command(parts)

    return handled(opened)


def add_shard(parser: argparse.ArgumentParser, without: str) -> None:
    """Add the option that chooses one of the shards of ``K2_DEPLOY_FLEET_FILE``; ``without``: what happens if not."""
    parser.add_argument("--shard", default="", metavar="NAME", help=f"one of K2_DEPLOY_FLEET_FILE (default: {without})")


def handled(command: Callable[[], int]) -> int:
    """Run it; expected errors are printed without a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        return command()
    except (BadSettings, BadPlan) as error:
        terminal.complain("ingest_ops", str(error))
        return exit_codes.UNUSABLE
    except (JournalError, AgentRefusal, ControlRefusal) as error:
        terminal.complain("ingest_ops", str(error))
        return MANUAL
    except (AgentTrouble, ControlTrouble) as error:
        terminal.complain("ingest_ops", f"{error}; try again")
        return exit_codes.TRY_AGAIN


def said(text: str, *, as_json: bool) -> None:
    """A line on the way: on standard error where standard output is for JSON."""
    terminal.write(text + "\n", sys.stderr if as_json else sys.stdout)


class Progress:
    """For ``Deployer.run``: where it stands, on standard error, at first after two seconds and then every ten."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._since = self._due = 0.0

    def __call__(self, record: Record) -> bool:
        """Say it, if it is time; never asks to stop."""
        now = time.monotonic()
        if record.state is not self._state:
            self._state, self._since, self._due = record.state, now, now + 2.0
        elif now >= self._due:
            self._due = now + 10.0
            why = f": {record.facts.reason}" if record.facts.reason else ""
            said(f"{record.state} for {now - self._since:.0f} s{why}", as_json=True)
        return False


def say(record: Record, parts: DeployerContext, *, as_json: bool) -> None:
    """The outcome in a few lines, or as one JSON object."""
    facts = record.facts
    report = parts.reports / "deployments" / f"{record.id}.html"
    if as_json:
        data = {
            "id": record.id,
            "kind": record.kind,
            "state": record.state,
            "version": record.plan.version,
            "report": str(report.with_suffix(".json")),
            "facts": msgspec.to_builtins(facts),
        }
        terminal.write(json.dumps(data, indent=2) + "\n")
        return
    lines = [f"{record.state}: {record.plan.version}" if record.kind == "deploy" else f"{record.state}"]
    if facts.reason:
        lines.append(f"because of {facts.failed_in}: {facts.reason}" if facts.failed_in else facts.reason)
    if facts.handover_seconds is not None:
        lines.append(f"hand-over {facts.handover_seconds:.3f} s, visible gap {_seconds(facts.gap_seconds)}")
    if facts.roll_back_seconds is not None and (facts.handover_began is not None or record.kind != "deploy"):
        gap = _seconds(facts.roll_back_gap_seconds)
        lines.append(f"roll-back {facts.roll_back_seconds:.3f} s, visible gap {gap}")
    if facts.audit is not None:
        lines.append(f"audit: {facts.audit['verdict']}, {facts.audit['reason']}")
    lines.append(f"report: {report}")
    terminal.write("\n".join(lines) + "\n")


def _seconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3f} s"
