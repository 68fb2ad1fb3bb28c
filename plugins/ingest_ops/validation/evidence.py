"""What a day is judged by besides its samples: audits of the topic and reports of deployments, read from their folders.

An audit's file is what ``ingest audit --json`` writes, with ``audited_at`` (RFC 3339) added; a deployment lasted from
the first line of its report's trail to the last, or as its ``window`` (``start``, ``end``) says.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest_ops.common.verdict import Verdict
from ingest_ops.index import NoSuchReport, list_reports, read_report
from ingest_ops.validation.day import sha256
from ingest_ops.validation.expected import Expected

FAULTS = ("reordered", "altered", "unknown", "false_void", "unaccounted", "scattered", "position", "id_reset")
"""What else an audit counts beside missing and duplicated."""


@dataclass(frozen=True)
class Audit:
    """What the auditor said at one time about the whole topic. Times in seconds since 1970."""

    file: str
    at: float
    verdict: Verdict
    reason: str
    totals: Mapping[str, int]


@dataclass(frozen=True)
class Deployment:
    """A deployment as its report has it."""

    file: str
    start: float
    end: float
    title: str
    verdict: str


@dataclass(frozen=True)
class Evidence:
    """Everything that was found, oldest first, and the digests of the files."""

    audits: tuple[Audit, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    digests: Mapping[str, str] | None = None
    expected: Expected = field(default_factory=Expected)
    """What other days showed."""

    def during(self, start: float, end: float, slack: float = 60.0) -> Deployment | None:
        """The deployment that was going on at some time between."""
        return next((one for one in self.deployments if one.start - slack <= end and start <= one.end + slack), None)

    def audit_for(self, end: float, within: float) -> Audit | None:
        """The first audit from ``end`` on that came within so many seconds."""
        return next((one for one in self.audits if end <= one.at <= end + within), None)

    def within(self, start: float, end: float) -> "Evidence":
        """Only what matters between two times: a later audit must not change an old report."""
        audits = tuple(one for one in self.audits if start <= one.at <= end)
        deployments = tuple(one for one in self.deployments if one.start < end and one.end > start)
        kept = {one.file for one in audits} | {one.file for one in deployments}
        digests = {file: digest for file, digest in (self.digests or {}).items() if file in kept}
        return Evidence(audits, deployments, digests, self.expected)


def collect(reports: Path) -> Evidence:
    """Read the folders ``audit`` and ``deployments``. A file that cannot be understood is no evidence."""
    audits: list[Audit] = []
    deployments: list[Deployment] = []
    digests: dict[str, str] = {}
    for entry in list_reports(reports):
        if entry.folder not in ("audit", "deployments"):
            continue
        try:
            raw = read_report(reports, entry.id, "json")
            data = json.loads(raw)
            file = f"{entry.id}.json"
            if entry.folder == "audit":
                audits.append(_audit(file, data))
            else:
                deployments.append(_deployment(file, data))
        except (NoSuchReport, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        digests[file] = sha256(raw)
    return Evidence(
        tuple(sorted(audits, key=lambda one: (one.at, one.file))),
        tuple(sorted(deployments, key=lambda one: (one.start, one.file))),
        digests,
    )


def _audit(file: str, data: Mapping[str, Any]) -> Audit:
    totals = {name: int(value) for name, value in data["totals"].items() if isinstance(value, int)}
    for name in ("missing", "duplicated"):
        totals[name] = int(data["totals"][name])
    at = _seconds(data.get("audited_at") or data["generated_at"])
    return Audit(file, at, Verdict(data["verdict"]), str(data.get("reason", "")), totals)


def _deployment(file: str, data: Mapping[str, Any]) -> Deployment:
    lines = (data.get("trail") or {}).get("lines") or [{"at": None}]
    window = data.get("window") or {"start": lines[0]["at"], "end": lines[-1]["at"]}
    start = _seconds(window["start"])
    end = _seconds(window["end"]) if window.get("end") else start
    return Deployment(file, start, end, str(data.get("title") or data["run_id"]), str(data.get("verdict")))


def _seconds(value: str | float) -> float:
    if isinstance(value, int | float):
        return float(value)
    at = datetime.fromisoformat(value)
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
