"""The engine: a sample each interval, atomically kept; it ends when it is over or can no longer pass."""

import json
from pathlib import Path
from typing import NoReturn

import pytest

from ingest_ops.soak.engine import Engine
from ingest_ops.soak.plan import SOAK_1H, SOAK_24H, Plan
from ingest_ops.soak.record import CANDIDATE, BadRecord, Record, State
from ingest_ops.soak.samples import Sample
from ingest_ops.soak.sources import Source
from tests.unit.ingest_ops.soak.books import START, Clock, LiveSource, ScrapedSource, record_file, sample


def start(folder: Path, clock: Clock, source: Source, plan: Plan = SOAK_1H) -> Engine:
    return Engine.start(record_file(folder), "soak-test", plan, {CANDIDATE: source}, clock=clock, started=START)


@pytest.mark.parametrize("kind", [LiveSource, ScrapedSource])
def test_a_whole_soak_has_every_sample_and_a_line_each_five_minutes(tmp_path: Path, kind: type[LiveSource]) -> None:
    clock = Clock()
    record = start(tmp_path, clock, kind(clock)).run(clock.sleep)
    assert record.state is State.FINISHED
    assert [round(one.at - START) for one in record.samples] == [60 * n for n in range(61)]
    lines = [event for event in record.events if event["kind"] == "progress"]
    assert len(lines) == 12
    assert "2,000.0 msg/s" in lines[-1]["text"]
    assert clock.now - START < 3600 + 60


def test_the_last_scrape_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    class Late(ScrapedSource):
        def read(self, since: float, until: float) -> list[Sample]:
            return [one for one in super().read(since, until) if one.at <= self._clock.now - 9.0]

    clock = Clock()
    record = start(tmp_path, clock, Late(clock)).run(clock.sleep)
    assert round(record.samples[-1].at - START) == 3600
    assert clock.now - START < 3600 + 15

    class Gone(ScrapedSource):
        def read(self, since: float, until: float) -> list[Sample]:
            return [one for one in super().read(since, until) if one.at < START + 3590]

    clock = Clock()
    record = start(tmp_path / "gone", clock, Gone(clock)).run(clock.sleep)
    assert record.state is State.FINISHED
    assert 3600 + 30 <= clock.now - START < 3600 + 60


def test_each_sample_is_on_disk_before_the_next(tmp_path: Path) -> None:
    clock = Clock()
    engine = start(tmp_path, clock, LiveSource(clock))
    for count in range(1, 6):
        engine.tick()
        stored = Record.load(record_file(tmp_path))
        assert stored is not None
        assert len(stored.samples) == count
        clock.sleep(engine.next_due())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    engine = start(tmp_path, clock, LiveSource(clock))
    engine.tick()
    before = record_file(tmp_path).read_text()

    def killed(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    clock.sleep(60)
    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        engine.tick()
    assert record_file(tmp_path).read_text() == before
    json.loads(before)


def test_whoever_watches_next_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    first = start(tmp_path, clock, LiveSource(clock))
    for _ in range(10):
        first.tick()
        clock.sleep(60)
    clock.sleep(100)  # nobody watches
    record = start(tmp_path, clock, LiveSource(clock)).run(clock.sleep)
    assert record.state is State.FINISHED
    assert len(record.samples) in (59, 60)
    assert [event["text"] for event in record.events if event["kind"] == "resumed"] == ["resumed after 10 samples"]


def test_with_prometheus_a_dead_watcher_and_a_lost_record_cost_nothing(tmp_path: Path) -> None:
    clock = Clock()
    start(tmp_path, clock, ScrapedSource(clock)).tick()
    record_file(tmp_path).unlink()
    clock.now = START + 5000
    record = start(tmp_path, clock, ScrapedSource(clock)).run(clock.sleep)
    assert (record.state, len(record.samples)) == (State.FINISHED, 61)


def test_what_nobody_watched_is_not_invented_after_the_end(tmp_path: Path) -> None:
    clock = Clock()
    start(tmp_path, clock, LiveSource(clock)).tick()
    clock.now = START + 7200
    late = LiveSource(clock)
    record = start(tmp_path, clock, late).run(clock.sleep)
    assert record.state is State.ABORTED
    assert len(record.samples) == 1
    assert late.reads == 0


def test_memory_above_the_limit_ends_it_at_the_next_sample(tmp_path: Path) -> None:
    clock = Clock()

    def leaking(seconds: float) -> Sample:
        return sample(START + seconds, seconds, rss=60.0 + seconds)

    record = start(tmp_path, clock, ScrapedSource(clock, leaking), SOAK_24H).run(clock.sleep)
    assert record.state is State.ABORTED
    assert "above the limit of 450 MB" in record.reason
    passed = START + 390.0
    assert passed < clock.now <= passed + 2 * 60


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"started": START + 300.0}, "the service was restarted"),
        ({"drops.tls": 6.0, "rotations.stalled": 4.0}, "10 connection drops, allowed are fewer than 10"),
    ],
)
def test_what_cannot_pass_any_more_ends_at_once(tmp_path: Path, values: dict[str, float], reason: str) -> None:
    clock = Clock()

    def make(seconds: float) -> Sample:
        return sample(START + seconds, seconds, **(values if seconds >= 600 else {}))

    record = start(tmp_path, clock, ScrapedSource(clock, make)).run(clock.sleep)
    assert (record.state, record.reason) == (State.ABORTED, reason)
    assert clock.now - START < 600 + 2 * 60


def test_too_many_missing_samples_end_it(tmp_path: Path) -> None:
    clock = Clock()
    source = LiveSource(clock)
    engine = start(tmp_path, clock, source)
    engine.tick()
    source.broken = True
    record = engine.run(clock.sleep)
    assert record.state is State.ABORTED
    assert "samples are missing" in record.reason
    assert len([event for event in record.events if event["kind"] == "missed"]) <= 6


def test_while_prometheus_is_away_nothing_is_known_to_be_missing(tmp_path: Path) -> None:
    clock = Clock()
    source = ScrapedSource(clock)
    engine = start(tmp_path, clock, source)
    engine.tick()
    source.broken = True
    while clock.now < START + 1800:
        assert engine.tick() is State.RUNNING
        clock.sleep(20)
    source.broken = False
    record = engine.run(clock.sleep)
    assert (record.state, len(record.samples)) == (State.FINISHED, 61)


def test_the_death_of_the_watched_process_ends_it(tmp_path: Path) -> None:
    clock = Clock()
    source = LiveSource(clock)
    engine = Engine.start(
        record_file(tmp_path), "soak-test", SOAK_1H, {CANDIDATE: source}, clock=clock, watch=lambda: "exit code 137"
    )
    assert engine.tick() is State.ABORTED
    assert engine.record.reason == "the service ended: exit code 137"


def test_another_file_is_never_overwritten(tmp_path: Path) -> None:
    clock = Clock()
    path = record_file(tmp_path)
    path.parent.mkdir()
    path.write_text('{"kind": "something else"}')
    with pytest.raises(BadRecord):
        start(tmp_path, clock, LiveSource(clock))
    assert path.read_text() == '{"kind": "something else"}'
    path.unlink()
    start(tmp_path, clock, LiveSource(clock)).tick()
    with pytest.raises(ValueError, match="record of soak-test, not of other"):
        Engine.start(path, "other", SOAK_1H, {}, clock=clock)
