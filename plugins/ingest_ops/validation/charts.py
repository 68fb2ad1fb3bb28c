"""The charts and tables of the criteria."""

from collections.abc import Callable

import numpy as np

from ingest_ops.common.report_settings import MB
from ingest_ops.render import Band, Block, Cell, Chart, Column, Series, Span, Table, Text, Threshold
from ingest_ops.render.numbers import duration
from ingest_ops.validation import checks_feed, checks_process, checks_rate, process_memory
from ingest_ops.validation.day import Array
from ingest_ops.validation.day_view import DayView
from ingest_ops.validation.week import Week

SlotValues = Callable[[DayView], dict[str, Array]]
QUARTER = 900.0
LEAST_HOLE = 120.0
"""Seconds between two points that break a line."""


def columns(*parts: str | Column) -> list[str | Column]:
    """A table's header."""
    return list(parts)


def day_columns(week: Week) -> list[str | Column]:
    """A numeric column for each day."""
    return [Column(f"{when:%m-%d}", numeric=True) for when in week.given.dates]


def _lines(week: Week, values: SlotValues) -> list[Series]:
    """One series for each name, over all days; a day without data breaks the line."""
    points: dict[str, list[tuple[float, float | None]]] = {}
    for view in week.views.values():
        for name, found in values(view).items():
            times = view.day.start + (np.arange(view.slots) + 0.5) * view.step
            row = points.setdefault(name, [])
            row += [(t, v if v == v else None) for t, v in zip(times.tolist(), found.tolist(), strict=True)]
    return [Series(name, points[name]) for name in sorted(points)]


def _chart(week: Week, title: str, unit: str, values: SlotValues, limit: Threshold, note: str = "") -> Chart:
    return Chart(
        title=title, unit=unit, series=_lines(week, values), thresholds=[limit], x_range=(week.start, week.end),
        max_gap=LEAST_HOLE, spans=_absent(week), note=note,
    )  # fmt: skip


def _absent(week: Week) -> list[Span]:
    found = []
    for at, when in enumerate(week.given.dates):
        view = week.views.get(when)
        start = week.start + at * 86_400.0
        if view is None or not view.has_data:
            found.append(Span(start, start + 86_400.0, "no data", "warn"))
        else:
            found += [Span(a, b, "no data", "warn") for a, b in view.holes]
    return found


def _per_instance(view: DayView, metric: str, scale: float = 1.0) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for one in view.series(metric):
        name = view.name_of(one.instance)
        values = view.in_slots(one) / scale
        found[name] = np.fmax(found[name], values) if name in found else values
    return found


def memory_charts(week: Week) -> list[Block]:
    """Resident memory, its trend, and each process's lowest and highest."""
    limit = week.limits.memory_mb
    chart = _chart(
        week, "Resident memory", "MB", lambda view: _per_instance(view, process_memory.RSS, MB),
        Threshold(limit, f"limit {limit:g} MB"),
    )  # fmt: skip
    series = [*chart.series]
    bands = []
    for one in week.memory:
        middle, span = (one.end - one.start) / 2, one.end - one.start
        at_middle = one.trend.intercept + one.trend.slope * middle
        points = [(one.start + x, at_middle + one.trend.slope * (x - middle)) for x in (0.0, middle, span)]
        series.append(Series(f"trend of {one.name}: {one.growth} over the window", [*points], style="dashed"))
        edges: list[tuple[float, float, float]] = []
        for x in (0.0, middle, span):
            low, high = sorted(at_middle + slope * (x - middle) for slope in (one.trend.low, one.trend.high))
            edges.append((one.start + x, low, high))
        bands.append(Band(f"90 % interval of the trend of {one.name}", edges))
    return [
        Chart(title=chart.title, unit="MB", series=series, thresholds=chart.thresholds, bands=bands, spans=chart.spans,
              x_range=chart.x_range, max_gap=chart.max_gap),
        _memory_table(week),
    ]  # fmt: skip


def _memory_table(week: Week) -> Table:
    rows: list[list[Cell]] = []
    for when in week.given.dates:
        view = week.views.get(when)
        for process in view.processes if view is not None else ():
            t, mb = process_memory.memory_samples(view, process, after=0.0) if view is not None else (np.empty(0),) * 2
            if len(t):
                rows.append([str(when), process.name, process.version or None, f"{mb.min():.1f}", f"{mb.max():.1f}",
                             duration(float(t[-1] - t[0]))])  # fmt: skip
    lowest, highest = (Column(f"{word}, MB", numeric=True) for word in ("Lowest", "Highest"))
    header = columns("Day", "Process", "Version", lowest, highest, "Seen for")
    return Table(header, rows, empty="No process was seen.")


def age_chart(week: Week) -> list[Block]:
    """How old connections grew."""
    limit = week.limits.connection_age_seconds / 3600
    line = Threshold(limit, f"limit {limit:.3g} h")
    return [
        _chart(week, "Age of the oldest connection", "hours", lambda v: _per_instance(v, checks_feed.AGE, 3600.0), line)
    ]


def pong_chart(week: Week) -> list[Block]:
    """How long ago the last pong came."""
    limit = week.limits.pong_age_seconds

    def oldest(view: DayView) -> dict[str, Array]:
        ages = checks_feed.pong_ages(view)
        width = max(1, round(QUARTER / view.step))
        quarters = [ages[at : at + width] for at in range(0, view.slots, width)]
        found = np.full(view.slots, np.nan)
        for at, quarter in enumerate(quarters):
            if (known := quarter[~np.isnan(quarter)]).size:
                found[at * width : (at + 1) * width] = known.max()
        return {"oldest in each quarter of an hour": found}

    return [_chart(week, "Age of the last pong", "s", oldest, Threshold(limit, f"limit {limit:g} s"))]


def rate_chart(week: Week) -> list[Block]:
    """The rate of each window."""
    limit = week.limits.rate_per_second
    return [_chart(
        week, f"Messages per second, windows of {week.limits.rate_window_seconds / 60:g} minutes", "1/s",
        lambda view: {
            f"rate{f' of shard {shard}' if shard else ''}":
            checks_rate.window_rates(view, week.limits, shard).to_numpy(dtype=np.float64)
            for shard in checks_rate.shards_of(view, week.given.evidence)
        },
        Threshold(limit, f"limit {limit:g}/s"),
    )]  # fmt: skip


def freshness_chart(week: Week) -> list[Block]:
    """How old the last commit was."""
    limit = week.limits.commit_age_seconds

    def youngest(view: DayView) -> dict[str, Array]:
        ages = np.full(view.slots, np.nan)
        for one in view.series(checks_process.COMMIT):
            ages = np.fmin(ages, view.in_slots(one, one.t - one.v))
        return {"age": np.minimum(ages, 600.0)}

    note = "Ages above 600 s are drawn at 600 s."
    return [_chart(week, "Age of the last commit", "s", youngest, Threshold(limit, f"limit {limit:g} s"), note)]


def _reasons_table(week: Week, metric: str, what: str) -> Table:
    views = [week.views.get(when) for when in week.given.dates]
    by_day = [view.count_by(metric, "reason") if view is not None and view.has_data else None for view in views]
    reasons = sorted({reason for row in by_day if row for reason, count in row.items() if count})
    header = columns(
        what, *(Column(f"{when:%m-%d}", numeric=True) for when in week.given.dates), Column("All", numeric=True)
    )
    rows: list[list[Cell]] = [
        [reason, *(row.get(reason, 0) if row is not None else None for row in by_day),
         sum(row.get(reason, 0) for row in by_day if row)]
        for reason in reasons
    ]  # fmt: skip
    return Table(header, rows, empty=f"{what}: none on any day with data.")


def reconnects(week: Week) -> list[Block]:
    """Reconnections by reason and day."""
    return [_reasons_table(week, checks_feed.RECONNECTS, "Reason of the reconnection")]


def voids(week: Week) -> list[Block]:
    """Voids by reason and day."""
    return [
        Text(
            "Voids are trade ids that the exchange itself does not have, recorded with evidence. They are not judged."
        ),
        _reasons_table(week, "ingest_voids_total", "Void ids by reason"),
    ]
