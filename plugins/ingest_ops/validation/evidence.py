"""What a day is judged by besides its samples: audits of the topic and reports of deployments, read from their folders.

An audit's file is what ``ingest audit --json`` writes, with ``audited_at`` (RFC 3339) added; a deployment lasted from
the first line of its report's trail to the last, or as its ``window`` (``start``, ``end``) says.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ingest.decoding import Undecodable, decode_json, decoding
from ingest_ops.common.verdict import Verdict
from ingest_ops.index import NoSuchReport, list_reports, read_report
from ingest_ops.validation.day import sha256
from ingest_ops.validation.expected import Expected

SLACK = 60.0
"""Seconds by which a sample may show an action of a deployment before or after its trail does."""
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
    covers: tuple[float, float] | None = None
    """What it read was written between these times; ``None`` if it does not say."""
    symbols: frozenset[str] | None = None
    """Those that it judged; ``None`` if it does not say."""

    def lacks(self, start: float, end: float) -> str:
        """Why it does not speak for a time; empty if it does."""
        if self.covers is None:
            return "it does not say what it covered"
        begin, until = self.covers
        if begin > start or until < end:
            return f"it covered {_clock(begin) if begin else 'everything'} to {_clock(until)} alone"
        return "" if self.totals.get("committed", 0) else "it judged no record"


@dataclass(frozen=True)
class Action:
    """What a deployment's trail says that it did to a slot's process, some time between (seconds since 1970)."""

    slot: str
    what: Literal["start", "stop"]
    earliest: float
    latest: float
    version: str = ""
    """Of the process that was started."""

    def at(self, when: float) -> bool:
        """Whether it may have been at that time: clocks differ, and a scrape shows it later."""
        return self.earliest - SLACK <= when <= self.latest + SLACK


@dataclass(frozen=True)
class Deployment:
    """A deployment as its report has it."""

    file: str
    start: float
    end: float
    title: str
    verdict: str
    actions: tuple[Action, ...] = ()
    """What its trail explains: nothing else that happened meanwhile was planned."""


class Explained:
    """Deployments whose actions explain a start or an end of a process, each once."""

    def __init__(self, deployments: Iterable[Deployment]) -> None:
        self._left = [(one, action) for one in deployments for action in one.actions]

    def start(self, slot: str, at: float, version: str) -> str:
        """The deployment that started this version in this slot then; empty if none did."""
        return self._take(
            lambda one: (
                one.what == "start"
                and one.slot == slot
                and one.at(at)
                and (not version or not one.version or version == one.version)
            )
        )

    def stop(self, slot: str, last: float) -> str:
        """The deployment that stopped the slot's process, last seen then; empty if none did."""
        return self._take(lambda one: one.what == "stop" and one.slot == slot and one.at(last))

    def _take(self, fits: Callable[[Action], bool]) -> str:
        for found in self._left:
            if fits(found[1]):
                self._left.remove(found)
                return f"deployment {found[0].title}"
        return ""


@dataclass(frozen=True)
class Evidence:
    """Everything that was found, oldest first, and the digests of the files."""

    audits: tuple[Audit, ...] = ()
    deployments: tuple[Deployment, ...] = ()
    digests: Mapping[str, str] | None = None
    expected: Expected = field(default_factory=Expected)
    """What other days showed."""

    def deploying(self, start: float, end: float) -> bool:
        """Whether a deployment was under way at some time between."""
        return any(one.start - SLACK <= end and start <= one.end + SLACK for one in self.deployments)

    def audits_for(self, end: float, within: float) -> tuple[Audit, ...]:
        """The audits from ``end`` on that came within so many seconds."""
        return tuple(one for one in self.audits if end <= one.at <= end + within)

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
            with decoding():
                data = decode_json(raw)
                file = f"{entry.id}.json"
                if entry.folder == "audit":
                    audits.append(_audit(file, data))
                else:
                    deployments.append(_deployment(file, data))
        except (NoSuchReport, Undecodable):
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
    covers = data.get("covers")
    span = None if covers is None else (float(covers["from"]), float(covers["to"]))
    symbols = frozenset(data["symbols"]) if isinstance(data.get("symbols"), dict) else None
    return Audit(file, at, Verdict(data["verdict"]), str(data.get("reason", "")), totals, span, symbols)


def _deployment(file: str, data: Mapping[str, Any]) -> Deployment:
    lines = (data.get("trail") or {}).get("lines") or [{"at": None}]
    window = data.get("window") or {"start": lines[0]["at"], "end": lines[-1]["at"]}
    start = _seconds(window["start"])
    end = _seconds(window["end"]) if window.get("end") else start
    title = str(data.get("title") or data["run_id"])
    return Deployment(file, start, end, title, str(data.get("verdict")), tuple(_actions(data)))


def _actions(data: Mapping[str, Any]) -> Iterator[Action]:
    """Starts and ends of processes that the lines of the trail name."""
    facts, plan = data.get("facts") or {}, data.get("plan") or {}
    lines = (data.get("trail") or {}).get("lines") or []
    candidate, live = str(facts.get("candidate") or ""), str(facts.get("live") or "")
    stopped: set[str] = set()
    reasons = [str((line.get("data") or {}).get("reason") or "") for line in lines]
    for at, (line, reason) in enumerate(zip(lines, reasons, strict=True)):
        now, before = float(line["at"]), float(lines[max(0, at - 1)]["at"])
        after = float(lines[min(at + 1, len(lines) - 1)]["at"])
        if str(line.get("what", "")).endswith("-> STANDBY") and candidate:
            yield Action(candidate, "start", now, after, str(plan.get("version") or ""))
        for slot in {candidate, live} - {""}:
            # What had ended by itself was not stopped.
            ended = any(f"{slot} does not run" in one for one in reasons[: at + 1])
            if f"{slot} is stopped" in reason and slot not in stopped and not ended:
                stopped.add(slot)
                yield Action(slot, "stop", before, now)
        if at == 0 and data.get("deployment_kind") not in (None, "deploy") and live:
            # A way back without a deployment: the predecessor is started if it does not run.
            yield Action(live, "start", now, float(lines[-1]["at"]), str(facts.get("live_version") or ""))


def _clock(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M}"


def _seconds(value: str | float) -> float:
    if isinstance(value, int | float):
        return float(value)
    at = datetime.fromisoformat(value)
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()
