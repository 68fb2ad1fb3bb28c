"""What an alert is, and the expressions that several of them share."""

from dataclasses import dataclass
from itertools import pairwise

from deploy.records import BUDGET, JOB

MIB = "1048576"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alert rule. ``keep`` is Prometheus's ``keep_firing_for``; no rule has a ``for``: see ``deploy.checks``."""

    name: str
    group: str
    severity: str
    expr: str
    summary: str
    description: str
    keep: str = "0s"

    @property
    def anchor(self) -> str:
        """Of its section in the runbook."""
        return self.name.lower()


def burn(factor: float, long: str, short: str) -> str:
    """The error budget is used up faster than this many times, over a long and a short window."""
    limit = f"{factor * BUDGET:.4f}"
    return f"ingest:stale:ratio_{long} > {limit} and ingest:stale:ratio_{short} > {limit}"


def grew(metric: str, window: str, more_than: int = 0, by: str = "slot", matchers: str = "") -> str:
    """A counter grew by more than this within the window."""
    selector = f"{{{JOB}{',' + matchers if matchers else ''}}}"
    return f"sum by ({by}) (increase({metric}{selector}[{window}])) > {more_than}"


def mostly_true(condition: str, window: str, share: float) -> str:
    """The condition (0 or 1) held for more than this share of the window."""
    return f"avg_over_time(({condition})[{window}:15s]) > {share:g}"


def covered(series: str, window: str) -> str:
    """Both halves of a window have samples, however many scrapes failed or however rare they are."""
    half = {"2m": "1m", "5m": "150s", "10m": "5m", "15m": "450s"}[window]
    return f"count_over_time({series}[{half}]) > 0 and count_over_time({series}[{half}] offset {half}) > 0"


def mostly(series: str, window: str, more_than: str) -> str:
    """All but a fifth of the samples of a window lie above a limit, and both its halves have some."""
    return f"quantile_over_time(0.2, {series}[{window}]) > {more_than} and {covered(series, window)}"


def counted(condition: str, minutes: int) -> str:
    """The condition held for so many minutes of twice as many: one good scrape in between does not reset it."""
    return f"count_over_time(({condition})[{2 * minutes}m:15s]) > {minutes * 4}"


def absent_targets(job: str, minutes: int) -> str:
    """Expected targets of these jobs that gave no answer in so many minutes of twice as many."""
    answers = f"group by (job, instance) (up{{{job}}} == 1)"
    return counted(f"ingest:expected_watcher:info{{{job}}} unless on (job, instance) {answers}", minutes)


def overdue(job: str, stamp: str, seconds: int = 93_600) -> str:
    """Expected for so long, and nothing as young: also where there never was anything, or it vanished."""
    hours = seconds // 3600
    young = f"max by (job, instance) (max_over_time({stamp}[{hours}h])) > time() - {seconds}"
    expected = f'ingest:expected_watcher:info{{job="{job}"}}'
    return (
        f"{expected} unless on (job, instance) ({young})"
        f" and on (job, instance) count_over_time({expected}[1h] offset {hours}h) > 0"
    )


def each_hour(megabytes: int, hours: int = 4) -> str:
    """The low of a quarter of an hour rose by so much in each of so many hours."""
    lows = ["ingest:rss_min:15m", *(f"ingest:rss_min:15m offset {hour}h" for hour in range(1, hours + 1))]
    return " and ".join(f"{later} - {earlier} > {megabytes} * {MIB}" for later, earlier in pairwise(lows))
