"""The way of a trade through the pipeline, and back after a recycled producer."""

from typing import Any

from ingest.core.errors import Reject
from ingest.core.pending_batches import LETTER_OVERHEAD
from ingest.core.trade import Position
from ingest.metrics import Metrics
from ingest.service.pipeline import Pipeline
from tests.unit.ingest.service.backfilling import PlainEncoder, trade


def build(max_trades: int = 1000) -> tuple[Pipeline, Metrics]:
    metrics = Metrics(process=False)
    pipeline = Pipeline(
        encoder=PlainEncoder(),
        metrics=metrics,
        max_trades=max_trades,
        batch_records=3,
        jump_limit=1000,
        dead_letter_max_bytes=10,
        monotonic=lambda: 5.0,
        time_ns=lambda: 1,
    )
    pipeline.sequencer.add("BTCUSDT")
    return pipeline, metrics


def test_a_full_batch_is_announced() -> None:
    pipeline, _ = build()
    announced = []
    pipeline.on_ready = lambda: announced.append(1)
    pipeline.activate({"BTCUSDT": Position(1, 9, 9)})
    pipeline.on_trades("a", [trade(10), trade(11)])
    assert announced == []
    pipeline.on_trades("a", [trade(12)])
    assert announced == [1]


def test_a_recycled_producer_gets_exactly_what_kafka_lacks() -> None:
    pipeline, _ = build()
    pipeline.activate({"BTCUSDT": Position(1, 9, 9)})
    pipeline.on_trades("a", [trade(i) for i in range(10, 17)])
    assert pipeline.outbox.take() is not None
    assert pipeline.outbox.take() is not None
    pipeline.rewind({"BTCUSDT": Position(1, 12, 12)})
    batch = pipeline.outbox.take()
    assert batch is not None
    assert [r[1] for r in batch.records] == [13, 14, 15]


def test_a_position_ahead_of_what_we_know_is_believed() -> None:
    pipeline, _ = build()
    pipeline.activate({"BTCUSDT": Position(1, 9, 9)})
    pipeline.on_trades("a", [trade(10), trade(11)])
    pipeline.rewind({"BTCUSDT": Position(1, 20, 20)})
    pipeline.on_trades("a", [trade(12), trade(21)])
    batch = pipeline.outbox.take()
    assert batch is not None
    assert [r[1] for r in batch.records] == [21]


def test_back_pressure_holds_and_resumes() -> None:
    pipeline, _ = build(max_trades=12)
    pipeline.activate({"BTCUSDT": Position(1, 0, 0)})
    for i in range(1, 11):
        pipeline.on_trades("a", [trade(i)])
    assert len(pipeline.outbox) == 6
    assert pipeline.sequencer.pending == 4
    assert not pipeline.room_for_history()
    batch = pipeline.outbox.take()
    assert batch is not None
    pipeline.acknowledge(batch, {"BTCUSDT": 6})
    assert len(pipeline.outbox) == 6
    assert pipeline.sequencer.sequences["BTCUSDT"].next_id == 10


def test_counts_move_into_the_metrics_once() -> None:
    pipeline, metrics = build()
    pipeline.activate({"BTCUSDT": Position(1, 9, 9)})
    pipeline.on_trades("a", [trade(10), trade(10), trade(12)])
    pipeline.publish()
    pipeline.publish()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, labels)

    assert value("ingest_duplicates_dropped_total") == 1
    assert value("ingest_gaps_found_total") == 1
    assert value("ingest_gaps_open") == 1
    assert value("ingest_buffered_trades") == 1
    assert value("ingest_held_trades") == 1


def test_a_symbol_that_leaves_and_comes_back_goes_on_where_it_was_queued() -> None:
    pipeline, _ = build()
    pipeline.activate({"BTCUSDT": Position(1, 9, 9)})
    pipeline.on_trades("a", [trade(10), trade(11)])
    pipeline.remove("BTCUSDT")
    pipeline.on_trades("a", [trade(12)])
    pipeline.add("BTCUSDT", 9)  # Kafka has 9, the outbox holds 10 and 11
    pipeline.on_trades("a", [trade(11), trade(12)])
    batch = pipeline.outbox.take()
    assert batch is not None
    assert [r[1] for r in batch.records] == [10, 11, 12]


def test_a_symbol_that_is_gone_when_the_producer_was_replaced_is_remembered() -> None:
    pipeline, _ = build()
    pipeline.activate({"BTCUSDT": Position(1, 9, 9)})
    pipeline.on_trades("a", [trade(10), trade(11), trade(12)])
    batch = pipeline.outbox.take()
    pipeline.remove("BTCUSDT")
    del batch
    pipeline.rewind({"BTCUSDT": Position(1, 7, 7)})  # less than what is queued continues
    assert len(pipeline.outbox) == 0
    pipeline.add("BTCUSDT", 7)
    pipeline.on_trades("a", [trade(8)])
    again = pipeline.outbox.take()
    assert again is not None
    assert [r[1] for r in again.records] == [8]


def test_dead_letters_are_bounded_while_the_broker_is_away() -> None:
    pipeline, metrics = build()
    pipeline.activate({"BTCUSDT": Position(1, 9, 9)})
    pipeline.outbox._letter_bytes = 3 * (LETTER_OVERHEAD + 13)
    for _ in range(10):
        pipeline.on_rejected("a", b"x" * 50, Reject("malformed_json", "no"))
    assert metrics.registry.get_sample_value("ingest_dead_letters_dropped_total") == 7
    batch = pipeline.outbox.take()
    assert batch is not None
    assert [len(letter.raw) for letter in batch.dead_letters] == [10, 10, 10]
    pipeline.acknowledge(batch, {})
    pipeline.on_rejected("a", b"y", Reject("malformed_json", "no"))
    assert metrics.registry.get_sample_value("ingest_dead_letters_dropped_total") == 7


def test_a_book_whose_break_is_queued_again_without_its_snapshot_waits_for_one() -> None:
    class Lane:
        taken: dict[str, Position]

        def take_up(self, next_ids: dict[str, int], positions: dict[str, Position]) -> None:
            self.taken = positions

        def stand_by(self) -> None: ...

    pipeline, _ = build()
    lane: Any = Lane()
    pipeline.lanes["depth"] = lane
    pipeline.outbox.add_span(("depth:BTCUSDT", "break", 5, 6, b"", 0))
    pipeline.deactivate()
    pipeline.activate({"depth:BTCUSDT": Position(1, 4, 1)})
    assert lane.taken["depth:BTCUSDT"].unsynced
    pipeline.deactivate()
    pipeline.activate({"depth:BTCUSDT": Position(1, 6, 1)})
    assert not lane.taken["depth:BTCUSDT"].unsynced
