"""Charts and time lines as geometry: what the template draws. Coordinates in a plot of 1,000 by 300, y downwards.

The plot is stretched to whatever width there is; labels are text of the page at percentages beside it, so that they
keep their size on a phone.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ingest_ops.render.model import Chart, Series, Span, Spark, Timeline
from ingest_ops.render.numbers import duration, moment, number, ticks, time_ticks

WIDTH, HEIGHT = 1000.0, 300.0
MOST_POINTS = 1440
ROOM_PERCENT = 12.0
"""A mark of a time line that is as wide has room for its name and how long it took."""
HITS = 48
"""Strips of a plot that say their values."""


@dataclass(frozen=True)
class Tick:
    """A label at ``percent`` of the axis; ``minor`` ones give way on a narrow screen."""

    percent: float
    label: str
    minor: bool = False


@dataclass(frozen=True)
class Line:
    """A series' path; ``number`` chooses colour and dash."""

    name: str
    number: int
    style: str
    path: str
    summary: str


@dataclass(frozen=True)
class Mark:
    """A threshold, or a span as left and width in percent."""

    percent: float
    label: str
    width: float = 0.0
    tone: str = "info"
    said: str = ""
    """What stands inside, where there is room."""


@dataclass(frozen=True)
class Hit:
    """A strip of the plot that says the values there when it is pointed at."""

    percent: float
    width: float
    text: str


@dataclass(frozen=True)
class SparkView:
    """A spark's path in a box of 100 by 24, the height of its limit where that is near, and what it says."""

    path: str
    limit: float | None
    text: str


def spark_view(spark: Spark) -> SparkView:
    """Lay a spark out. A limit further away than the data is high is left out: the line would be flat."""
    points = [(x, y) for x, y in spark.points if math.isfinite(y)]
    if not points:
        return SparkView("", None, "no data")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    low, high = min(ys), max(ys)
    height = (high - low) or abs(high) / 10 or 1.0
    limit = spark.limit if spark.limit is not None and low - height <= spark.limit <= high + height else None
    low, high = min([low, *([] if limit is None else [limit])]), max([high, *([] if limit is None else [limit])])
    span, wide = (high - low) or 1.0, (max(xs) - min(xs)) or 1.0

    def place(y: float) -> float:
        return 22.0 - (y - low) / span * 20.0 if high > low else 12.0

    runs = thin(Series("", points), None)
    path = "".join(
        "M" + "L".join(f"{_short((x - min(xs)) / wide * 100)},{_short(place(y))}" for x, y in run) for run in runs
    )
    text = f"lowest {number(min(ys))}, highest {number(max(ys))}"
    return SparkView(path, None if limit is None else round(place(limit), 1), text)


@dataclass(frozen=True)
class ChartView:
    """Everything the template needs for one chart."""

    title: str
    unit: str
    lines: list[Line]
    bands: list[tuple[str, str]]
    thresholds: list[Mark]
    spans: list[Mark]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    x_note: str
    note: str
    empty: bool
    hits: list[Hit]

    @property
    def legend(self) -> bool:
        """One line alone is named by the title."""
        return len(self.lines) + len(self.bands) + len(self.spans) > 1


def thin(series: Series, max_gap: float | None) -> list[list[tuple[float, float]]]:
    """Runs of points without a hole, together at most ``MOST_POINTS``: each slot keeps its lowest and its highest."""
    runs: list[list[tuple[float, float]]] = [[]]
    last: float | None = None
    for x, y in series.points:
        value = None if y is None or not math.isfinite(y) else y
        if value is None or (last is not None and max_gap is not None and x - last > max_gap):
            runs.append([])
        if value is not None:
            runs[-1].append((x, value))
        last = x
    runs = [run for run in runs if run]
    total = sum(len(run) for run in runs)
    if total <= MOST_POINTS:
        return runs
    share = MOST_POINTS / (2 * total)
    return [_extremes(run, max(1, math.floor(len(run) * share))) for run in runs][: MOST_POINTS // 2]


def _extremes(run: Sequence[tuple[float, float]], slots: int) -> list[tuple[float, float]]:
    kept: list[tuple[float, float]] = []
    for slot in range(slots):
        part = run[slot * len(run) // slots : (slot + 1) * len(run) // slots]
        chosen = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
        kept += sorted(chosen)
    return kept


def chart_view(chart: Chart) -> ChartView:
    """Lay the chart out."""
    thinned = [(series, thin(series, chart.max_gap)) for series in chart.series]
    xs = [x for _, runs in thinned for run in runs for x, _ in run] + [x for b in chart.bands for x, _, _ in b.points]
    ys = [y for _, runs in thinned for run in runs for _, y in run]
    ys += [y for band in chart.bands for _, low, high in band.points for y in (low, high)]
    empty = not xs
    left, right = chart.x_range or ((min(xs), max(xs)) if xs else (0.0, 1.0))
    right = right if right > left else left + 1.0
    ys += [threshold.value for threshold in chart.thresholds] + ([0.0] if chart.from_zero or not ys else [])
    y_ticks = ticks(min(ys), max(ys))
    scale = _Scale(left, right, y_ticks[0], y_ticks[-1])
    return ChartView(
        title=chart.title,
        unit=chart.unit,
        lines=[_line(at, series, runs, scale, chart) for at, (series, runs) in enumerate(thinned)],
        bands=[(band.name, _polygon(band.points, scale)) for band in chart.bands],
        thresholds=[Mark(scale.y_percent(one.value), one.label) for one in chart.thresholds],
        spans=[_span(span, scale) for span in chart.spans if span.end > left and span.start < right],
        x_ticks=_x_ticks(chart, left, right),
        y_ticks=[Tick(scale.y_percent(value), number(value)) for value in y_ticks],
        x_note="time, UTC" if chart.x == "time" else chart.x_unit,
        note=chart.note,
        empty=empty,
        hits=_hits(thinned, scale, chart),
    )


def _hits(
    thinned: Sequence[tuple[Series, list[list[tuple[float, float]]]]], scale: "_Scale", chart: Chart
) -> list[Hit]:
    """For each strip the last value of every line in it; strips without a value say nothing."""
    width = (scale.right - scale.left) / HITS
    texts: list[list[str]] = [[] for _ in range(HITS)]
    for series, runs in thinned:
        last: dict[int, tuple[float, float]] = {}
        for run in runs:
            for x, y in run:
                if scale.left <= x <= scale.right:
                    last[min(HITS - 1, int((x - scale.left) / width))] = (x, y)
        for strip, (x, y) in last.items():
            at = moment(x) if chart.x == "time" else f"{number(x)} {chart.x_unit}".strip()
            texts[strip].append(f"{at}: {series.name} {number(y)} {chart.unit}".rstrip())
    return [
        Hit(round(100 * at / HITS, 2), round(100 / HITS, 2), "\n".join(said)) for at, said in enumerate(texts) if said
    ]


@dataclass(frozen=True)
class _Scale:
    left: float
    right: float
    low: float
    high: float

    def x(self, value: float) -> float:
        return (value - self.left) / (self.right - self.left) * WIDTH

    def y(self, value: float) -> float:
        return HEIGHT - (value - self.low) / (self.high - self.low) * HEIGHT

    def x_percent(self, value: float) -> float:
        return round(self.x(value) / WIDTH * 100, 3)

    def y_percent(self, value: float) -> float:
        return round(self.y(value) / HEIGHT * 100, 3)

    def point(self, x: float, y: float) -> str:
        return f"{_short(self.x(x))},{_short(self.y(y))}"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _line(at: int, series: Series, runs: list[list[tuple[float, float]]], scale: _Scale, chart: Chart) -> Line:
    if series.style == "dots":
        # A stroke without length and with round ends is a dot that keeps its shape when the plot is stretched.
        path = "".join(f"M{scale.point(x, y)}h0" for run in runs for x, y in run)
    else:
        path = "".join(_run_path(run, scale) for run in runs)
    values = [y for run in runs for _, y in run]
    summary = "no data"
    if values:
        holes = len(runs) - 1 if series.style != "dots" else 0
        summary = f"lowest {number(min(values))}, highest {number(max(values))} {chart.unit}"
        summary += f", {holes} hole{'s' if holes > 1 else ''}" if holes else ""
    return Line(series.name, at % 6 + 1, series.style, path, summary)


def _run_path(run: Sequence[tuple[float, float]], scale: _Scale) -> str:
    first, *rest = (scale.point(x, y) for x, y in run)
    return f"M{first}L{' '.join(rest)}" if rest else f"M{first}h0"


def _polygon(points: Iterable[tuple[float, float, float]], scale: _Scale) -> str:
    points = list(points)
    upper = [scale.point(x, high) for x, _, high in points]
    lower = [scale.point(x, low) for x, low, _ in reversed(points)]
    return f"M{'L'.join(upper + lower)}Z" if points else ""


def _span(span: Span, scale: _Scale) -> Mark:
    start, end = max(span.start, scale.left), min(span.end, scale.right)
    left = scale.x_percent(start)
    return Mark(left, span.label, round(max(0.15, scale.x_percent(end) - left), 3), span.tone)


def _x_ticks(chart: Chart, left: float, right: float) -> list[Tick]:
    scale = _Scale(left, right, 0, 1)
    if chart.x == "time":
        pairs = time_ticks(left, right)
    else:
        pairs = [(value, number(value)) for value in ticks(left, right) if left <= value <= right]
    return [Tick(scale.x_percent(at), label, minor=index % 2 == 1) for index, (at, label) in enumerate(pairs)]


@dataclass(frozen=True)
class LaneView:
    """One lane's bars and marks, as left and width in percent."""

    name: str
    marks: list[Mark]
    count: str


@dataclass(frozen=True)
class TimelineView:
    """Everything the template needs for a time line."""

    lanes: list[LaneView]
    x_ticks: list[Tick]
    rows: list[tuple[str, str, str, str, str]]
    """When, how long, lane, label, detail."""
    more: int


def timeline_view(timeline: Timeline) -> TimelineView:
    """Lay the time line out; events outside of it are in the table alone."""
    scale = _Scale(timeline.start, max(timeline.end, timeline.start + 1), 0, 1)
    lanes, events = [], []
    for lane in timeline.lanes:
        marks = []
        for event in lane.events:
            events.append((event.at, lane.name, event))
            start = max(event.at, timeline.start)
            end = min(event.until if event.until is not None else event.at, timeline.end)
            if start <= end:
                left = scale.x_percent(start)
                width = round(scale.x_percent(end) - left, 3)
                lasted = f" {duration(event.until - event.at)}" if event.until is not None else ""
                said = f"{event.label}{lasted}" if width >= ROOM_PERCENT else ""
                marks.append(Mark(left, f"{event.label}{lasted}", width, event.tone, said))
        lanes.append(LaneView(lane.name, marks, str(len(lane.events)) if lane.events else "none"))
    events.sort(key=lambda one: (one[0], one[1], one[2].label))
    return TimelineView(
        lanes=lanes,
        x_ticks=[
            Tick(scale.x_percent(at), label, minor=index % 2 == 1)
            for index, (at, label) in enumerate(time_ticks(timeline.start, timeline.end))
        ],
        rows=[
            (
                moment(event.at),
                duration(event.until - event.at) if event.until is not None else "",
                lane,
                event.label,
                event.detail,
            )
            for _, lane, event in events[: timeline.rows]
        ],
        more=max(0, len(events) - timeline.rows),
    )
