"""What happened in a day, as events: for the time line and the JSON's lists."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from ingest_ops.validation import checks_feed
from ingest_ops.validation.checks_alerts_audit import Firing, firings
from ingest_ops.validation.checks_process import fresh_slots
from ingest_ops.validation.day import midnight
from ingest_ops.validation.day_view import runs
from ingest_ops.validation.evidence import Deployment
from ingest_ops.validation.process_restarts import Restart, restarts_of
from ingest_ops.validation.week import Week

LEAST_STALE = 2
"""Slots without a fresh commit, one after the other, that make an event."""


@dataclass(frozen=True)
class Moment:
    """A count that rose. Times in seconds since 1970."""

    at: float
    name: str
    what: str
    count: int = 1


@dataclass(frozen=True)
class Hole:
    """A stretch without samples, or without commits."""

    start: float
    end: float
    what: str


@dataclass
class IncidentTimeline:
    """Everything, oldest first."""

    deployments: list[Deployment] = field(default_factory=list)
    handovers: list[Moment] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)
    alerts: list[Firing] = field(default_factory=list)
    reconnects: list[Moment] = field(default_factory=list)
    rotations: list[Moment] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    stale: list[Hole] = field(default_factory=list)


def incident_timeline(week: Week) -> IncidentTimeline:
    """Collect them from all days; stretches over midnight are one."""
    found = IncidentTimeline(deployments=list(week.given.evidence.within(week.start, week.end).deployments))
    for when in week.given.dates:
        view = week.views.get(when)
        if view is None or not view.has_data:
            begin = midnight(when)
            found.holes.append(Hole(begin, begin + 86_400.0, "no data"))
            continue
        found.holes += [Hole(start, end, "no process was up") for start, end in view.holes]
        found.restarts += restarts_of(view, week.given.evidence, week.limits)
        found.alerts += firings(view, week.limits)
        for metric, into, label in (
            ("ingest_handovers_total", found.handovers, ""),
            (checks_feed.RECONNECTS, found.reconnects, "reason"),
            (checks_feed.ROTATIONS, found.rotations, "reason"),
        ):
            into += [
                Moment(at, view.name_of(one.instance), one.labels.get(label, "took over") if label else "took over", by)
                for at, one, by in view.events(metric)
            ]
        fresh, seen = fresh_slots(view, week.limits, week.given.evidence)
        found.stale += [
            Hole(view.day.start + a * view.step, view.day.start + b * view.step, "no young commit")
            for a, b in runs(seen & ~fresh)
            if b - a >= LEAST_STALE
        ]
    found.holes = list(_merged(found.holes))
    found.alerts = list(_one_alert(found.alerts))
    return found


def _merged(holes: list[Hole]) -> Iterator[Hole]:
    last: Hole | None = None
    for hole in sorted(holes, key=lambda one: one.start):
        if last is not None and hole.start - last.end < 1.0:
            last = Hole(last.start, hole.end, last.what if last.what == hole.what else "no data")
            continue
        if last is not None:
            yield last
        last = hole
    if last is not None:
        yield last


def _one_alert(alerts: list[Firing]) -> Iterator[Firing]:
    """Join what the midnight cut in two."""
    open_: dict[tuple[tuple[str, str], ...], Firing] = {}
    for one in sorted(alerts, key=lambda firing: firing.start):
        key = tuple(sorted(one.labels.items()))
        before = open_.get(key)
        if before is not None and one.start - before.end <= 180.0:
            open_[key] = Firing(one.name, one.severity, before.start, one.end, one.labels, one.judged)
            continue
        if before is not None:
            yield before
        open_[key] = one
    yield from sorted(open_.values(), key=lambda firing: (firing.start, firing.name))
