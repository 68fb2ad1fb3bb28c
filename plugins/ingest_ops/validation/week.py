"""Days joined: every check on every day, what they come to together, and what happened when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property

import numpy as np

from ingest_ops.common.growth import Growth, assess
from ingest_ops.common.report_settings import DAY, Limits
from ingest_ops.common.trend import Trend, minima, trend
from ingest_ops.common.verdict import Verdict, together
from ingest_ops.validation import checks_alerts_audit, checks_feed, checks_process, checks_rate
from ingest_ops.validation.check import INCONCLUSIVE, PASS, Check, Finding, Join
from ingest_ops.validation.day import Array, Day, midnight
from ingest_ops.validation.day_view import DayView, Process
from ingest_ops.validation.evidence import Evidence
from ingest_ops.validation.expected import Expected
from ingest_ops.validation.process_memory import memory_samples

CHECKS: tuple[Check, ...] = (*checks_process.CHECKS[:2], *checks_feed.CHECKS, *checks_rate.CHECKS,
    *checks_alerts_audit.CHECKS[:1], checks_process.CHECKS[2], *checks_alerts_audit.CHECKS[1:],
    checks_process.CHECKS[3])  # fmt: skip
"""Every check, in the order of the report."""

LEAST_WEEK_TREND = 3 * DAY
HOUR = 3600.0
LEAST_WEEK_BLOCKS = 6


@dataclass(frozen=True)
class Input:
    """What is judged: a day's data by its date, or why there is none; and the evidence."""

    dates: tuple[date, ...]
    days: Mapping[date, Day]
    absent: Mapping[date, str]
    evidence: Evidence
    history: tuple[Day, ...] = ()
    """Days before the window: what is usual."""
    exchange: bool = False
    """Whether the settings ask for the exchange's own counts: without them no symbol passes then."""


@dataclass(frozen=True)
class Joined:
    """One check over all days."""

    check: Check
    findings: tuple[Finding, ...]
    value: float | None
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class WeekTrend:
    """The memory of a process that lived through most of the days. Sizes in MB, x in seconds since ``start``."""

    name: str
    start: float
    end: float
    trend: Trend
    growth: Growth
    """Over the length of the window: blocks of whole days, so that a daily wave is compared with itself."""
    verdict: Verdict


def judge_day(
    day: Day | DayView | None, limits: Limits, evidence: Evidence, why: str = "", only: Sequence[str] = ()
) -> dict[str, Finding]:
    """Every check, or those of ``only``, on one day; a day without data is INCONCLUSIVE in each."""
    checks = [check for check in CHECKS if not only or check.id in only]
    if day is None:
        nothing = Finding(None, INCONCLUSIVE, why or "no data of this day")
        return {check.id: nothing for check in checks}
    view = day if isinstance(day, DayView) else DayView(day)
    return {check.id: check.judge(view, limits, evidence) for check in checks}


@dataclass(frozen=True)
class Week:
    """Everything that was judged."""

    given: Input
    limits: Limits
    findings: Mapping[date, Mapping[str, Finding]] = field(default_factory=dict)

    @classmethod
    def judge(cls, given: Input, limits: Limits) -> "Week":
        """Judge each day."""
        days = [*given.history, *given.days.values()]
        expected = Expected.of(days, limits.shards, limits.symbols, exchange=given.exchange)
        given = replace(given, evidence=replace(given.evidence, expected=expected))
        week = cls(given, limits)
        findings = {
            when: judge_day(week.views.get(when), limits, given.evidence, given.absent.get(when, ""))
            for when in given.dates
        }
        made = cls(given, limits, findings)
        made.views.update(week.views)
        return made

    @cached_property
    def views(self) -> dict[date, DayView]:
        """The days that have data."""
        found = {when: DayView(self.given.days[when]) for when in self.given.dates if when in self.given.days}
        for when, view in found.items():
            view.before, view.after = (found.get(when + timedelta(days=by)) for by in (-1, 1))
        return found

    @property
    def start(self) -> float:
        """The first midnight, seconds since 1970."""
        return midnight(self.given.dates[0])

    @property
    def end(self) -> float:
        """The midnight after the last day."""
        return midnight(self.given.dates[-1]) + DAY

    @cached_property
    def checks(self) -> tuple[Joined, ...]:
        """Every check over all days."""
        return tuple(self._join(check) for check in CHECKS)

    def _join(self, check: Check) -> Joined:
        findings = tuple(self.findings[when][check.id] for when in self.given.dates)
        values = [one.value for one in findings if one.value is not None]
        verdict = together([one.verdict for one in findings])
        worst = [
            f"{when}: {one.reason}"
            for when, one in zip(self.given.dates, findings, strict=True)
            if one.verdict is verdict is not PASS
        ]
        reason = "; ".join(worst[:3]) + (f"; and {len(worst) - 3} more days" if len(worst) > 3 else "")
        return Joined(check, findings, _joined(values, check.join, len(findings)), verdict, reason)

    @cached_property
    def memory(self) -> tuple[WeekTrend, ...]:
        """The trend of each process that lived three days of the window or more."""
        lives: list[tuple[Process, list[tuple[Array, Array]]]] = []
        for view in self.views.values():
            for process in view.processes:
                t, mb = memory_samples(view, process)
                if not len(t):
                    continue
                known = next((index for index, (one, _) in enumerate(lives) if process.continues(one)), None)
                if known is None:
                    lives.append((process, [(t, mb)]))
                else:
                    lives[known] = process, [*lives[known][1], (t, mb)]
        found = []
        for process, parts in sorted(lives, key=lambda one: (one[0].name, one[0].started, one[0].instance)):
            name = process.name
            t, mb = (np.concatenate([part[index] for part in parts]) for index in (0, 1))
            if t[-1] - t[0] < min(LEAST_WEEK_TREND, 0.75 * (self.end - self.start)):
                continue
            blocks = max(LEAST_WEEK_BLOCKS, round((t[-1] - t[0]) / DAY))
            growth = assess(t, mb, over=self.end - self.start, blocks=blocks)
            at, lowest = minima((t - t[0]).tolist(), mb.tolist(), HOUR)
            line = trend(at, lowest, block=4)
            if growth is None or line is None:
                continue
            verdict, _ = growth.verdict(self.limits.memory_growth_mb_per_week)
            found.append(WeekTrend(name, float(t[0]), float(t[-1]), line, growth, verdict))
        return tuple(found)

    @cached_property
    def verdict(self) -> Verdict:
        """The worst of all checks, and of the week's memory."""
        return together([one.verdict for one in self.checks] + [one.verdict for one in self.memory])

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not PASS: what failed, else what could not be known."""
        if self.verdict is PASS:
            return ()
        found = [f"{one.check.title}: {one.reason}" for one in self.checks if one.verdict is self.verdict]
        steep = [one for one in self.memory if one.verdict is self.verdict]
        return (*found, *(f"Memory over the window: {one.growth} ({one.name})" for one in steep))


def _joined(values: Sequence[float], join: Join, days: int) -> float | None:
    if not values:
        return None
    match join:
        case "sum":
            return float(sum(values))
        case "max":
            return float(max(values))
        case "min":
            return float(min(values))
        case "mean":
            return float(sum(values)) / len(values)
        case "share":
            return float(sum(values)) / days
