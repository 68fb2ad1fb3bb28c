"""A soak's record on disk: everything that was seen so far, replaced atomically after each sample.

A watcher may be killed at any time: the next one reads the record and continues. At most one sample is lost.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from ingest_ops.common.files import NoFile, read_file
from ingest_ops.render.files import RUN_ID, write_atomically
from ingest_ops.soak.plan import Plan
from ingest_ops.soak.samples import Sample

CANDIDATE = "candidate"
PREVIOUS = "previous"
PROCESS_EXITED = "the service ended"
"""How a reason begins when the watched process is gone."""


class State(StrEnum):
    """Where a soak stands."""

    RUNNING = "running"
    FINISHED = "finished"
    ABORTED = "aborted"


class BadRecord(ValueError):
    """The file is no record of a soak; it is never overwritten."""


@dataclass
class Record:
    """One soak. ``tracks`` holds the samples of the candidate and, where it runs beside, of the previous release."""

    run_id: str
    plan: Plan
    started: float
    state: State = State.RUNNING
    reason: str = ""
    ended: float | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    tracks: dict[str, list[Sample]] = field(default_factory=lambda: {CANDIDATE: []})
    events: list[dict[str, Any]] = field(default_factory=list)
    """Progress lines, failed readings, resumptions: ``{"at", "kind", "text"}``."""

    @property
    def samples(self) -> list[Sample]:
        """The candidate's samples, oldest first."""
        return self.tracks[CANDIDATE]

    def note(self, at: float, kind: str, text: str) -> None:
        """Add an event."""
        self.events.append({"at": round(at, 3), "kind": kind, "text": text})

    def save(self, path: Path) -> None:
        """Replace the file, or leave it as it was."""
        write_atomically(path, json.dumps(self.as_json(), separators=(",", ":")))

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "kind": "soak-record",
            "version": 1,
            "run_id": self.run_id,
            "plan": self.plan.as_json(),
            "started": self.started,
            "state": str(self.state),
            "reason": self.reason,
            "ended": self.ended,
            "environment": self.environment,
            "tracks": {name: [one.as_json() for one in samples] for name, samples in self.tracks.items()},
            "events": self.events,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Raises ``BadRecord``."""
        try:
            if data["kind"] != "soak-record" or data["version"] != 1:
                raise BadRecord(f"kind {data['kind']!r}, version {data['version']!r}")
            if not RUN_ID.fullmatch(data["run_id"]):
                raise BadRecord(f"no name for a run: {data['run_id']!r}; allowed is {RUN_ID.pattern}")
            return cls(
                run_id=data["run_id"],
                plan=Plan.from_json(data["plan"]),
                started=float(data["started"]),
                state=State(data["state"]),
                reason=data["reason"],
                ended=data["ended"],
                environment=dict(data["environment"]),
                tracks={name: [Sample.from_json(row) for row in rows] for name, rows in data["tracks"].items()},
                events=list(data["events"]),
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise BadRecord(f"incomplete: {error!r}") from error

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """The record, or ``None`` where there is none yet. Raises ``BadRecord`` for anything else."""
        try:
            return cls.from_json(json.loads(read_file(path)))
        except FileNotFoundError:
            return None
        except NoFile as error:
            raise BadRecord(str(error)) from error
        except (ValueError, ArithmeticError, RecursionError) as error:
            raise BadRecord(f"{path}: {error}") from error
