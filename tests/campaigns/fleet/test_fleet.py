"""The schedule, the judgement, and a short run on the real Kafka."""

import json
import time
from pathlib import Path
from typing import NoReturn

import pytest
from confluent_kafka import KafkaException

from tests.campaigns.fleet import runner
from tests.campaigns.fleet.environment import CONNECT_SECONDS, CONNECTS, Handshakes, Plan
from tests.campaigns.fleet.faults import FAULTS, schedule
from tests.harness import fleet as fleet_harness
from tests.harness.fleet import WriterLog, Written


def test_every_kind_of_fault_comes_before_one_comes_again() -> None:
    kinds = schedule(7, 2 * len(FAULTS) + 3)
    assert len(kinds) == 2 * len(FAULTS) + 3
    assert set(kinds[: len(FAULTS)]) == set(kinds[len(FAULTS) : 2 * len(FAULTS)]) == set(FAULTS)
    assert schedule(7, 5) == schedule(7, 5) != schedule(8, 5)


def test_the_plan_is_read_from_the_environment() -> None:
    assert Plan.of_environment({"FAULTS": "3", "SHARDS": "4"}) == Plan(faults=3, shards=4)
    with pytest.raises(ValueError, match="many"):
        Plan.of_environment({"FAULTS": "many"})


def log_of(*records: Written) -> WriterLog:
    log = WriterLog("localhost:9092", "t", 1)
    log.records[0].extend(records)
    return log


def test_two_writers_are_found() -> None:
    first, second = Written(1.0, 1, "a-s0", 1), Written(2.0, 2, "b-s0", 1)
    assert log_of(first, second).two_writers() == []
    assert log_of(second, first).two_writers() == ["shard 0: generation 1 after 2"]
    assert log_of(first, Written(2.0, 1, "b-s0", 2)).two_writers() == ["shard 0: generation 1 of two instances"]


def test_a_log_without_records_of_a_shard_is_no_proof() -> None:
    assert WriterLog("localhost:9092", "t", 2).two_writers() == [
        "shard 0: no writer was seen", "shard 1: no writer was seen",
    ]  # fmt: skip
    log = WriterLog("localhost:9092", "t", 2)
    log.records[1].append(Written(1.0, 1, "a-s1", 1))
    assert log.two_writers() == ["shard 0: no writer was seen"]


def test_a_log_that_ended_early_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __init__(self, _: object) -> None: ...

        def assign(self, _: object) -> None: ...

        def consume(self, *_: object) -> NoReturn:
            raise KafkaException("gone")

        def close(self) -> None: ...

    monkeypatch.setattr(fleet_harness, "Consumer", Broken)
    log = log_of(Written(1.0, 1, "a-s0", 1))
    log.run()
    assert log.two_writers() == ["the log of writers ended early: KafkaException('gone')"]


def test_handshakes_are_the_most_in_any_window_and_need_samples() -> None:
    counts: list[int | OSError] = []

    def count() -> int:
        found = counts.pop(0)
        if isinstance(found, OSError):
            raise found
        return found

    handshakes = Handshakes(count)
    now = time.monotonic()
    assert not handshakes.within_limit, "nothing was seen"
    counts += [0, 200, CONNECTS, CONNECTS + 150]
    handshakes.sample(now + 1)
    assert not handshakes.within_limit, "an exchange without a handshake was not used"
    handshakes.sample(now + 2)
    handshakes.sample(now + 3)
    handshakes.sample(now + 2.5 + CONNECT_SECONDS)
    assert (handshakes.most, handshakes.within_limit) == (CONNECTS, True), "200 are older than the window"
    counts += [OSError("gone"), CONNECTS + 150 + 301]
    handshakes.sample(now + 3 + CONNECT_SECONDS)
    assert not handshakes.within_limit, "one of five samples is missing"
    handshakes.sample(now + 4 + CONNECT_SECONDS)
    assert handshakes.most > CONNECTS


def test_a_move_is_the_time_between_two_writers_commits() -> None:
    log = log_of(Written(1.0, 1, "a-s0", 1), Written(2.0, 1, "a-s0", 2), Written(2.5, 2, "b-s0", 1))
    assert log.moves() == [(0, 2.5, 0.5)]
    assert list(log.gaps(0.0, 3.0)) == [(0, 1.0, False)]
    assert list(log.gaps(2.2, 3.0)) == [(0, 0.5, True)]


def test_a_kind_without_a_move_has_no_figure() -> None:
    rows = [
        {"fault": "kill", "moves": 2, "longest_move_seconds": 7.0, "recovered_after_fault_seconds": 8.0},
        {"fault": "kill", "moves": 0, "longest_move_seconds": 0.0, "recovered_after_fault_seconds": 1.0},
    ]
    kinds = runner.by_kind(rows)
    assert (kinds["kill"]["faults"], kinds["kill"]["longest_move_p50_seconds"]) == (2, 7.0)
    assert kinds["add"]["longest_move_p50_seconds"] is None


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_a_short_run_passes(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = tmp_path / "summary.json"
    monkeypatch.setattr(runner, "REPORT", report)
    monkeypatch.setattr(runner, "ROOT", tmp_path)
    plan = Plan(faults=3, seed=3, symbols=12, rate=200, shards=3, instances=2)
    assert runner.run(plan, bootstrap_servers=kafka) == 0
    assert json.loads(report.read_text())["verdict"] == "PASS"
