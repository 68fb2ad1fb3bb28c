"""The soak before, to compare with: the newest other report of the same plan, of the same length and pace."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ingest.decoding import Undecodable, decode_typed
from ingest_ops.common.files import read_file
from ingest_ops.soak.record import Record

LOOK_BACK = 20
"""Reports in which it is looked for, the newest first."""


@dataclass(frozen=True)
class Before:
    """An earlier soak: its values by the id of the criterion."""

    run_id: str
    values: dict[str, float]


class _Check(msgspec.Struct):
    id: str
    value: float | None = None


class _Clock(msgspec.Struct):
    factor: float = 1.0
    trial: bool = False


class _Window(msgspec.Struct):
    start: str = ""
    """RFC 3339, UTC: in the order of time."""


class _Plan(msgspec.Struct):
    name: str = ""


class _Report(msgspec.Struct):
    run_id: str = ""
    state: str = ""
    plan: _Plan = msgspec.field(default_factory=_Plan)
    window: _Window = msgspec.field(default_factory=_Window)
    clock: _Clock = msgspec.field(default_factory=_Clock)
    checks: list[_Check] = msgspec.field(default_factory=list)


def before(folder: Path, record: Record) -> Before | None:
    """The newest report of a like soak that began before this one; None where there is none.

    What cannot be read is passed over: a report of another version does not stop this one.
    """
    try:
        found = [entry for entry in os.scandir(folder) if entry.name.endswith(".json") and entry.is_file()]
    except OSError:
        return None
    others = [one for one in found if one.name != f"{record.run_id}.json"]
    begun = f"{datetime.fromtimestamp(record.started, UTC):%Y-%m-%dT%H:%M:%SZ}"
    for entry in sorted(others, key=lambda one: one.stat().st_mtime, reverse=True)[:LOOK_BACK]:
        try:
            report = decode_typed(read_file(Path(entry.path)), _Report)
        except (OSError, Undecodable):
            continue
        plan, clock = record.plan, report.clock
        alike = (report.plan.name, clock.factor, clock.trial) == (plan.name, plan.factor, plan.trial)
        if alike and report.window.start < begun:
            return Before(report.run_id, {one.id: one.value for one in report.checks if one.value is not None})
    return None
