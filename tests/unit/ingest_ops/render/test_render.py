"""Pages: escaped, closed to the outside, legible without colour, the same figures in every form."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_ops.common.verdict import Verdict
from ingest_ops.render import (
    Band,
    Block,
    Cell,
    Chart,
    Code,
    Column,
    Details,
    Event,
    Fact,
    Facts,
    Judged,
    Lane,
    Link,
    Page,
    Section,
    Series,
    Span,
    Spark,
    Table,
    Text,
    Threshold,
    Timeline,
    envelope,
    to_html,
    to_markdown,
    write_atomically,
    write_json,
    write_report,
)  # fmt: skip
from ingest_ops.render.chart import MOST_POINTS, chart_view, spark_view, thin, timeline_view
from ingest_ops.render.numbers import duration, number, ticks, time_ticks

START = 1_768_435_200.0
DAY = 86_400.0
EVIL = "<script>alert(1)</script>\" onload='x' &amp; |`*_[x](javascript:y)"


def page(text: str = "plain", verdict: Verdict | None = Verdict.FAIL) -> Page:
    """One of everything, with the text wherever text can be."""
    series = [Series(text, [(START + at * 60, float(at % 50)) for at in range(200)]), Series("other", [(START, None)])]
    bands, spans = [Band(text, [(START, 1, 2), (START + 600, 2, 3)])], [Span(START, START + 60, text)]
    limits = [Threshold(40.0, text)]
    chart = Chart(text, unit=text, series=series, thresholds=limits, note=text, bands=bands, spans=spans)
    rows: list[list[Cell]] = [[text, 1234.5, Judged(Verdict.PASS, text)], [Code(text), None, Verdict.INCONCLUSIVE]]
    table = Table([text, Column(text, numeric=True), "c"], rows, caption=text)
    line = Timeline(START, START + DAY, [Lane(text, [Event(START + 60, text, START + 120, "bad", text)]), Lane("none")])
    words: list[Block] = [Text(text), Text(text, code=True), Facts([Fact(text, text)]), Details(text, [Text(text)])]
    sections = [
        Section(text, [*words, table, chart, line], Verdict.PASS, id="one"),
        Section("b", id="two"),
        Section("c", id="three"),
    ]
    return Page(kind="test", title=text, verdict=verdict, summary=text, coverage=[Fact(text, text)], reasons=[text],
                sections=sections,
                facts=[Fact(text, Code(text))], generated_at="2026-01-22T00:00:00Z", label=text,
                links=[Link(text, "https://example.org/x?a=1&b=2")])  # fmt: skip


class Tags(HTMLParser):
    VOID = frozenset({"meta", "br", "link", "hr", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    return tags


def test_every_text_is_escaped_wherever_it_stands() -> None:
    tags = parsed(to_html(page(EVIL)))
    assert "script" not in tags.seen
    assert not [name for name, _ in tags.attributes if name.startswith("on")]


@settings(deadline=None, max_examples=50)
@given(st.text(min_size=1))
def test_any_text_leaves_the_page_whole(text: str) -> None:
    assert parsed(to_html(page(text))).seen == parsed(to_html(page("plain"))).seen


def test_nothing_is_loaded_and_nothing_may_be() -> None:
    text = to_html(page())
    tags = parsed(text)
    policy = dict(tags.attributes).get("content")
    assert "default-src &#39;none&#39;" in text
    assert policy is not None
    assert not {"script", "img", "link", "iframe", "object", "form"} & tags.seen
    assert not [value for name, value in tags.attributes if name == "src"]
    assert "@import" not in text
    assert "url(" not in text


ODD = ["javascript:alert(1)", "data:text/html,x", "//host/x", "../up", "a/../../b", "", " x", "x y", "vbscript:x"]


@pytest.mark.parametrize("href", [*ODD, "file:///etc/passwd", "https://a b"])
def test_a_link_leads_nowhere_odd(href: str) -> None:
    with pytest.raises(ValueError, match="no link"):
        Link("x", href)


@pytest.mark.parametrize(
    "href", ["https://host/a?b=c", "http://host:9090/graph", "#memory", "x.json", "days/x.json.gz"]
)
def test_a_link_leads_to_pages_and_files(href: str) -> None:
    assert Link("x", href).href == href


def test_a_verdict_is_a_word_and_a_shape_not_a_colour_alone() -> None:
    text = to_html(page())
    for verdict in Verdict:
        assert f'id="icon-{verdict}"' in text
    assert re.search(r'class="hidden">PASS</span>', text)
    assert re.search(r'class="verdict FAIL">.*?FAIL</span>', text, re.DOTALL)


def test_the_page_begins_with_verdict_and_coverage() -> None:
    text = to_html(page())
    assert text.index('class="banner FAIL"') < text.index('class="coverage"') < text.index('<section id="one">')
    assert 'class="banner "' in to_html(page(verdict=None))


def test_markdown_says_the_same_and_keeps_its_tables() -> None:
    text = to_markdown(page(EVIL))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows[:4]} == {4}
    prose = re.sub(r"(`{2,}).*?\1", "", text, flags=re.DOTALL)  # code spans and blocks show it as it is
    assert "<script>" not in prose.replace("\\<script\\>", "")
    assert "1,234.5" in text
    assert "FAIL" in text


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells for 1"):
        Table(["a"], [["x", "y"]])


# Charts


def test_a_line_is_thinned_and_keeps_its_peaks() -> None:
    points = [(START + at * 15, 1.0) for at in range(40_320)]
    points[20_000] = (points[20_000][0], 99.0)
    points[30_000] = (points[30_000][0], -5.0)
    runs = thin(Series("x", points), None)
    kept = [y for run in runs for _, y in run]
    assert len(kept) <= MOST_POINTS
    assert (max(kept), min(kept)) == (99.0, -5.0)
    assert [x for run in runs for x, _ in run] == sorted(x for run in runs for x, _ in run)


@pytest.mark.parametrize("hole", [None, math.nan, math.inf])
def test_a_hole_stays_a_hole(hole: float | None) -> None:
    points = [(0.0, 1.0), (1.0, 2.0), (2.0, hole), (3.0, 1.0)]
    assert thin(Series("x", points), None) == [[(0.0, 1.0), (1.0, 2.0)], [(3.0, 1.0)]]


def test_a_missing_stretch_breaks_the_line() -> None:
    points = [(0.0, 1.0), (15.0, 2.0), (600.0, 1.0), (615.0, 1.0)]
    assert len(thin(Series("x", points), 60.0)) == 2
    view = chart_view(Chart("t", unit="MB", series=[Series("x", points)], max_gap=60.0))
    assert view.lines[0].path.count("M") == 2
    assert "1 hole" in view.lines[0].summary


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 1e9), st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True))), max_size=60
    ),
    st.floats(-1e6, 1e6),
)
def test_any_points_stay_within_the_plot(points: list[tuple[float, float | None]], limit: float) -> None:
    points = [
        (x, y if y is None or not math.isfinite(y) else max(-1e12, min(1e12, y)))
        for x, y in sorted(points, key=lambda p: p[0])
    ]
    view = chart_view(Chart("t", unit="", series=[Series("x", points)], thresholds=[Threshold(limit, "l")]))
    for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", view.lines[0].path):
        assert -0.1 <= float(x) <= 1000.1
        assert -0.1 <= float(y) <= 300.1
    assert all(-0.01 <= mark.percent <= 100.01 for mark in view.thresholds)


def test_an_empty_chart_says_so() -> None:
    assert chart_view(Chart("t", unit="", series=[Series("x", [])])).empty
    assert "No data." in to_html(Page(kind="k", title="t", verdict=None, summary="s", sections=[
        Section("a", [Chart("t", unit="", series=[])])]))  # fmt: skip


def test_events_outside_are_listed_and_not_drawn() -> None:
    line = Timeline(
        START, START + DAY, [Lane("a", [Event(START - 10, "before"), Event(START - 10, "into", START + 10)])]
    )
    view = timeline_view(line)
    assert [mark.label for mark in view.lanes[0].marks] == ["into 20 s"]
    assert len(view.rows) == 2


def test_a_long_list_of_events_says_how_many_more() -> None:
    view = timeline_view(
        Timeline(START, START + DAY, [Lane("a", [Event(START + at, "x") for at in range(50)])], rows=20)
    )
    assert (len(view.rows), view.more) == (20, 30)


# Numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1440, "1,440"), (0.0123, "0.0123"), (99.95, "99.95"), (1234.56, "1,234.6"), (0, "0"), (-2.5, "-2.5"),
        (1e-7, "0.0000001"), (math.nan, "not a number"), (math.inf, "∞"), (12.0, "12"),
    ],
)  # fmt: skip
def test_numbers_read_well(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0.4 s"), (0, "0 s"), (185, "3 min 5 s"), (100_800, "1 d 4 h"), (59.6, "1 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@settings(deadline=None)
@given(st.floats(-1e9, 1e9), st.floats(0, 1e9))
def test_ticks_enclose_the_data_and_are_few(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert 2 <= len(found) <= 12
    tolerance = 1e-6 * max(1.0, abs(low), span)
    assert found[0] <= low + tolerance
    assert found[-1] >= low + span - tolerance


@settings(deadline=None)
@given(st.floats(60, 400 * DAY))
def test_ticks_of_time_are_few_and_within(span: float) -> None:
    found = time_ticks(START, START + span)
    assert len(found) <= 14
    assert all(START <= at <= START + span for at, _ in found)


# Files


def test_a_report_is_three_files_and_the_json_has_what_the_index_reads(tmp_path: Path) -> None:
    made = page()
    paths = write_report(tmp_path, "run-1", envelope(made, run_id="run-1", schema_version=1), made)
    assert sorted(path.name for path in paths.values()) == ["run-1.html", "run-1.json", "run-1.md"]
    assert json.loads(paths["json"].read_text())["verdict"] == "FAIL"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run-1.html", "run-1.json", "run-1.md"]


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".x", "a b", "x\n", "é", "a" * 200])
def test_a_report_has_a_plain_name(tmp_path: Path, name: str) -> None:
    made = page()
    with pytest.raises(ValueError, match="no name"):
        write_report(tmp_path, name, envelope(made, run_id=name, schema_version=1), made)


def test_a_report_and_its_json_agree(tmp_path: Path) -> None:
    made = page()
    for change in ({"verdict": "PASS"}, {"run_id": "other"}):
        with pytest.raises(ValueError, match="not about the same"):
            write_report(tmp_path, "run", envelope(made, run_id="run", schema_version=1) | change, made)
    with pytest.raises(ValueError, match="lacks"):
        write_report(tmp_path, "run", {}, made)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"a": math.nan})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    write_atomically(path, b"raw")
    assert path.read_bytes() == b"raw"
    assert [one.name for one in tmp_path.iterdir()] == ["x.json"]


def test_a_spark_fits_its_data_and_shows_only_a_limit_that_is_near() -> None:
    near = spark_view(Spark([(0, 90.0), (1, 95.0), (2, 92.0)], limit=97.0))
    assert near.limit is not None
    assert near.path.startswith("M0,")
    assert spark_view(Spark([(0, 60.0), (1, 61.0)], limit=400.0)).limit is None, "the line would be flat"
    assert spark_view(Spark([(0, 5.0), (1, 5.0)])).path == "M0,12L100,12"
    assert spark_view(Spark([(0, math.nan)])).path == ""


def test_a_plot_says_its_values_without_a_script() -> None:
    points = [(START + 10.0 * at, float(at)) for at in range(480)]
    chart = Chart(title="rate", unit="msg/s", series=[Series("blue", points), Series("green", points[:100])])
    hits = chart_view(chart).hits
    assert len(hits) == 48
    assert "blue" in hits[0].text
    assert "green" in hits[0].text
    assert "green" not in hits[-1].text
    assert sum(hit.width for hit in hits) == pytest.approx(100, abs=0.5)


def test_a_stage_with_room_says_its_name_and_how_long_it_took() -> None:
    stages = [Event(START, "BUILD", START + 60), Event(START + 60, "SHADOW", START + 3600)]
    (lane,) = timeline_view(Timeline(START, START + 3600, [Lane("Stages", stages)])).lanes
    assert [mark.said for mark in lane.marks] == ["", "SHADOW 59 min"]
