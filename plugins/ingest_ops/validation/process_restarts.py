"""Restarts: processes that were replaced, writers that did not return, and which of them a deployment explains."""

from collections.abc import Iterator
from dataclasses import dataclass

from ingest_ops.common.report_settings import Limits
from ingest_ops.validation.check import Finding, decide
from ingest_ops.validation.checks_rate import ACTIVE
from ingest_ops.validation.day_view import DayView, Process
from ingest_ops.validation.evidence import Evidence, Explained
from ingest_ops.validation.process_runs import START

ABSENT_SECONDS = 300.0
"""A writer whose samples end for longer has not returned."""
WRITER_SECONDS = 3600.0
"""One that wrote within so long before its end was the writer: it may have been fenced first."""


@dataclass(frozen=True)
class Restart:
    """A process that was replaced, or a writer that ended and did not return. Times in seconds since 1970."""

    at: float
    name: str
    away: float
    """Seconds between its last sample and the first of its successor at the address; infinite without one."""
    why: str
    """What explains it; empty if nothing does."""


@dataclass(frozen=True)
class _Happened:
    """A restart before it is explained. ``version``: of the successor; empty if unknown."""

    restart: Restart
    last: float
    started: float
    version_before: str
    version: str

    @property
    def gone(self) -> bool:
        return self.restart.away == float("inf")


def restarts_of(view: DayView, evidence: Evidence, limits: Limits) -> list[Restart]:
    """Every restart of the day, and every writer that ended for good."""
    happened = sorted([*_replaced(view), *_gone(view)], key=lambda one: one.restart.at)
    explained = Explained(evidence.deployments)
    found, unreported = [], 0
    for one in happened:
        why = (
            explained.stop(one.restart.name, one.last)
            if one.gone
            else explained.start(one.restart.name, one.started, one.version)
        )
        changed = bool(one.version_before and one.version and one.version != one.version_before)
        # What a deployment's trail does not explain is no upgrade that was not reported.
        if not why and changed and not evidence.deploying(one.last, one.restart.at):
            unreported += 1
            if unreported <= limits.unreported_upgrades:
                why = f"version {one.version_before} to {one.version}, without a deployment's report"
        found.append(Restart(one.restart.at, one.restart.name, one.restart.away, why))
    return found


def _replaced(view: DayView) -> Iterator[_Happened]:
    for process in view.processes:
        if process.restarted_from is None:
            continue
        restart = Restart(process.first, process.name, process.first - process.restarted_from, "")
        yield _Happened(restart, process.restarted_from, process.started, process.version_before or "", process.version)


def _gone(view: DayView) -> Iterator[_Happened]:
    """Writers whose samples end, while scraping goes on, in the day in which their absence shows."""
    latest = max((float(one.t[-1]) for one in view.day.series if len(one.t)), default=0.0)
    for instance in view.instances:
        actives = [one for one in view.series(ACTIVE, instance) if len(one.t)]
        if not actives:
            continue
        last = _last_sign(view, instance)
        recent = actives[0].t >= last - WRITER_SECONDS
        if not (actives[0].v[recent] > 0).any():
            continue
        shown = last + ABSENT_SECONDS
        if not view.day.start <= shown <= min(latest, view.day.end) or _elsewhere(view, instance):
            continue
        lives = [one for one in view.processes if one.instance == instance]
        version = lives[-1].version if lives else ""
        heir = _heir(view, instance)
        yield _Happened(
            Restart(last, view.name_of(instance), float("inf"), ""), last, 0.0, version, heir.version if heir else ""
        )


def _elsewhere(view: DayView, instance: str) -> bool:
    """Whether the last process of an address goes on at another one: the target was renamed."""
    mine = [one for one in view.processes if one.instance == instance]
    return bool(mine) and any(one.instance != instance and one.continues(mine[-1]) for one in view.processes)


def _heir(view: DayView, instance: str) -> Process | None:
    """The process that wrote last in the same shard."""
    shard = next((shard for shard, addresses in view.shards.items() if instance in addresses), "")
    wrote: list[tuple[float, Process]] = []
    for process in view.processes:
        if process.instance == instance or process.shard != shard:
            continue
        for one in view.series(ACTIVE, process.instance):
            times = one.t[(one.v > 0) & (one.t >= process.first) & (one.t <= process.last)]
            if len(times):
                wrote.append((float(times[-1]), process))
    return max(wrote, key=lambda pair: pair[0])[1] if wrote else None


def _last_sign(view: DayView, instance: str) -> float:
    """The last sample of anything that the process exposed itself, or its last answered scrape."""
    times = [one.t[one.v > 0] if one.name == "up" else one.t for one in view.of(instance)]
    return max(float(t[-1]) for t in times if len(t))


def restarts(view: DayView, limits: Limits, evidence: Evidence) -> Finding:
    """Restarts that no deployment explains, and writers that did not come back."""
    found = restarts_of(view, evidence, limits)
    unplanned = [one for one in found if not one.why]
    named = ", ".join(sorted({one.name for one in unplanned}))
    reason = f"{len(unplanned)} unplanned{f' ({named})' if named else ''}, {len(found) - len(unplanned)} by deployments"
    gone = [one.name for one in unplanned if one.away == float("inf")]
    reason += f"; did not return: {', '.join(gone)}" if gone else ""
    coverage = view.coverage((START, ACTIVE))
    return decide(
        bad=len(unplanned) > limits.restarts,
        coverage=coverage,
        limits=limits,
        value=float(len(unplanned)) if coverage.samples else None,
        reason=reason,
    )
