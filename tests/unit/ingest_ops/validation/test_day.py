"""A day as data."""

import dataclasses
import gzip
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest_ops.validation import day_store
from ingest_ops.validation.day import BadDay, Collector, Day, midnight, pack, unpack
from tests.harness.production_week import calm, eventful
from tests.unit.ingest_ops.validation.days import day_of, raw, rules

WHEN = date(2026, 1, 15)
START = midnight(WHEN)


BOMB = (
    b'{"kind":"validation-day","version":1,"clocks":[[0,1]],"alerts":[],"about":[],'
    b'"series":[{"labels":{},"clock":0,"values":[1,9000000000000]}]}'
)


def same(one: Day, other: Day) -> bool:
    def plain(day: Day) -> object:
        parts = [sorted((sorted(r.labels.items()), r.t.tolist(), r.v.tolist()) for r in p)
                 for p in (day.series, day.alerts, day.about)]  # fmt: skip
        return parts, day.date, day.symbols, [dict(rule) for rule in day.rules], day.prometheus

    return plain(one) == plain(other)


def test_a_day_survives_its_packing_and_packs_to_the_same_bytes() -> None:
    day = day_of(eventful(step=60), 2)
    packed = pack(day)
    assert same(unpack(packed), day)
    assert pack(unpack(packed)) == packed
    assert pack(dataclasses.replace(day, series=tuple(reversed(day.series)))) == packed


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 10**8), st.floats(allow_nan=False, allow_infinity=False)), unique_by=lambda p: p[0]
    )
)
def test_any_samples_survive(points: list[tuple[int, float]]) -> None:
    points.sort()
    one = raw("m", [START + at / 1000 for at, _ in points], [v for _, v in points])
    again = unpack(pack(Day(date=WHEN, scrape_seconds=15, series=(one,)))).series[0]
    assert np.array_equal(np.rint(again.t * 1000), np.rint(one.t * 1000))
    assert np.array_equal(again.v, one.v)


# Bytes of gzip hold the time at which they were made: workers that collect in different seconds would not agree on ids.
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"no gzip", id="no gzip"),
        pytest.param(gzip.compress(b""), id="empty"),
        pytest.param(gzip.compress(b"{}"), id="no kind"),
        pytest.param(gzip.compress(b"[1]"), id="a list"),
        pytest.param(gzip.compress(b'{"kind": "validation-day", "version": 2}'), id="another version"),
        pytest.param(gzip.compress(b"{}")[:-9] + b"\xff" * 9, id="damaged deflate"),
        pytest.param(gzip.compress(BOMB), id="a length that would fill the memory"),
    ],
)
def test_what_is_no_day_is_refused(text: bytes) -> None:
    with pytest.raises(BadDay):
        unpack(text)


def test_a_day_that_inflates_beyond_the_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(day_of(calm(step=60), 1))
    assert unpack(packed).samples
    monkeypatch.setattr("ingest_ops.validation.day.MOST_BYTES", len(gzip.decompress(packed)) - 1)
    with pytest.raises(BadDay, match="more than"):
        unpack(packed)


def test_a_truncated_day_is_refused() -> None:
    packed = pack(day_of(calm(step=60), 1))
    with pytest.raises(BadDay):
        unpack(packed[: len(packed) // 2])


def test_the_border_of_two_chunks_is_one_sample() -> None:
    """The client's chunks share their borders: 2,892 samples instead of 2,881 were measured."""
    collector = Collector.around(WHEN)
    labels = {"__name__": "m"}
    collector.add(labels, [[START, "1"], [START + 15, "2"]])
    collector.add(labels, [[START + 15, "2"], [START + 30, "3"]])
    (one,) = collector.series()
    assert one.t.tolist() == [START, START + 15, START + 30]
    assert one.v.tolist() == [1, 2, 3]


def test_the_next_midnight_and_what_is_no_number_are_left_out() -> None:
    collector = Collector.around(WHEN)
    collector.add({"__name__": "m"}, [[START - 3601, "1"], [START, "NaN"], [START + 1, "+Inf"], [START + 2, "4"]])
    collector.add({"__name__": "m"}, [[START + 86_400, "5"]])
    (one,) = collector.series()
    assert one.v.tolist() == [4]


def test_a_day_that_was_read_in_vain_is_read_again(tmp_path: Path) -> None:
    day_store.save(tmp_path, Day(date=WHEN, scrape_seconds=15))
    assert not day_store.is_kept(tmp_path, WHEN)
    day_store.save(tmp_path, day_of(calm(step=60), 1))
    assert day_store.is_kept(tmp_path, WHEN)


def test_a_thinner_reading_does_not_replace_a_kept_day(tmp_path: Path) -> None:
    full = day_of(calm(step=60), 1)
    thin = dataclasses.replace(full, series=full.series[:3])
    path, written = day_store.save(tmp_path, full)
    assert written
    assert day_store.save(tmp_path, thin) == (path, False)
    assert day_store.load(tmp_path, full.date) is not None
    assert same(day_store.load(tmp_path, full.date) or thin, full)
    assert day_store.save(tmp_path, full) == (path, True)


def test_a_damaged_day_is_replaced_and_another_days_file_refused(tmp_path: Path) -> None:
    day = day_of(calm(step=60), 1)
    path = day_store.path_of(tmp_path, day.date)
    path.write_bytes(b"damaged")
    with pytest.raises(BadDay):
        day_store.load(tmp_path, day.date)
    assert day_store.save(tmp_path, day)[1]
    path.rename(day_store.path_of(tmp_path, date(2026, 2, 1)))
    assert day_store.load(tmp_path, day.date) is None
    with pytest.raises(BadDay, match="holds 2026-01-15"):
        day_store.load(tmp_path, date(2026, 2, 1))


def test_rules_of_the_generated_prometheus_are_read() -> None:
    assert {rule["severity"] for rule in rules()} == {"high", "page", "ticket"}
