"""A numbered stream besides the trades: the trades' own mechanism under another name."""

from ingest.core.market_events import CONTENTS, AggTrade, Bar
from ingest.core.streams import AGG_TRADE, Stream, bars
from ingest.core.trade import Position, Trade, Void
from ingest.metrics import Metrics
from ingest.service.lane_counters import StreamCounters
from ingest.service.numbered_lane import NumberedLane
from ingest.service.pipeline import Pipeline

TIME = 1_700_000_000_000_000


class PlainEncoder:
    def encode(self, trade: Trade, ingestion_us: int) -> bytes:
        return b"%d" % trade.trade_id

    def received(self, receive_us: int) -> None:
        pass


def aggregate(number: int, price: str = "1.0") -> AggTrade:
    return AggTrade("BTCUSDT", number, price, "1.0", 2 * number, 2 * number + 1, TIME + number, True)


def trade(number: int) -> Trade:
    return Trade("BTCUSDT", number, "1.0", "1.0", TIME + number, True)


def build(stream: Stream = AGG_TRADE) -> tuple[Pipeline, NumberedLane, Metrics]:
    metrics = Metrics(process=False)
    pipeline = Pipeline(
        encoder=PlainEncoder(), metrics=metrics, max_trades=1000, batch_records=100, jump_limit=100_000,
        dead_letter_max_bytes=1000, monotonic=lambda: 1.0, time_ns=lambda: TIME * 1000,
    )  # fmt: skip
    lane = NumberedLane(
        stream=stream, outbox=pipeline.outbox, counters=StreamCounters(metrics, "aggTrade"), encoder=PlainEncoder(),
        limit=100, jump_limit=100_000, dead_letter_max_bytes=1000, monotonic=lambda: 1.0, time_ns=lambda: TIME * 1000,
        content=CONTENTS[stream.record],
    )  # fmt: skip
    pipeline.lanes[lane.stream.name] = lane
    pipeline.sequencer.add("BTCUSDT")
    lane.add("BTCUSDT", None)
    return pipeline, lane, metrics


def names(pipeline: Pipeline) -> list[tuple[str, int]]:
    batch = pipeline.take()
    return [] if batch is None else [(name, number) for name, number, _ in batch.records]


def test_both_streams_share_a_batch_and_keep_their_own_order() -> None:
    pipeline, lane, _ = build()
    pipeline.activate({"BTCUSDT": Position(1, 9, 9), "aggTrade:BTCUSDT": Position(1, 4, 4)})
    events: list[AggTrade] = [aggregate(5), aggregate(7)]
    lane.on_trades("aggTrade-g0a", events)  # type: ignore[arg-type]
    pipeline.on_trades("g0a", [trade(10)])
    lane.on_trades("aggTrade-g0a", [aggregate(6)])  # type: ignore[list-item]
    batch = pipeline.take()
    assert batch is not None
    name = "aggTrade:BTCUSDT"
    assert [(one, number) for one, number, _ in batch.records] == [(name, 5), ("BTCUSDT", 10), (name, 6), (name, 7)]
    assert batch.last_times_us == {"BTCUSDT": TIME + 10, name: TIME + 7}


def test_a_stream_without_a_position_begins_with_the_first_event_received() -> None:
    pipeline, lane, _ = build()
    lane.on_trades("aggTrade-g0a", [aggregate(8), aggregate(9)])  # type: ignore[list-item]
    pipeline.activate({})
    lane.begin_new(["BTCUSDT", "GONEUSDT"])
    batch = pipeline.take()
    assert batch is not None
    assert batch.baselines == {"aggTrade:BTCUSDT": 8}
    assert [number for _, number, _ in batch.records] == [8, 9]


def test_after_a_failed_transaction_only_the_stream_that_broke_reads_again() -> None:
    pipeline, lane, _ = build()
    pipeline.activate({"BTCUSDT": Position(1, 9, 9), "aggTrade:BTCUSDT": Position(1, 4, 4)})
    lane.on_trades("aggTrade-g0a", [aggregate(5), aggregate(6)])  # type: ignore[list-item]
    pipeline.on_trades("g0a", [trade(10)])
    assert len(names(pipeline)) == 3
    pipeline.rewind({"BTCUSDT": Position(1, 10, 10), "aggTrade:BTCUSDT": Position(1, 5, 5)})
    assert names(pipeline) == [("aggTrade:BTCUSDT", 6)]
    assert lane.sequencer.sequences["BTCUSDT"].next_id == 7


def test_a_standby_follows_the_positions_of_its_own_stream() -> None:
    pipeline, lane, _ = build()
    lane.on_trades("aggTrade-g0a", [aggregate(number) for number in (5, 6, 7)])  # type: ignore[misc]
    news = {"BTCUSDT": Position(1, 99, 99), "aggTrade:BTCUSDT": Position(1, 6, 6)}
    pipeline.committed({name: position.last_id for name, position in news.items()}, news)
    assert list(lane.sequencer.sequences["BTCUSDT"].pending) == [7]
    pipeline.activate(news)
    assert names(pipeline) == [("aggTrade:BTCUSDT", 7)]


def test_a_void_is_one_of_the_stream() -> None:
    pipeline, lane, metrics = build()
    pipeline.activate({"aggTrade:BTCUSDT": Position(1, 4, 4)})
    lane.on_trades("aggTrade-g0a", [aggregate(7)])  # type: ignore[list-item]
    lane.void(Void("BTCUSDT", 5, 6, "exchange_hole", {}))
    batch = pipeline.take()
    assert batch is not None
    assert [(void.symbol, void.first_id) for void in batch.voids] == [("aggTrade:BTCUSDT", 5)]
    assert metrics.registry.get_sample_value("ingest_voids_total", {"reason": "exchange_hole"}) in (None, 0)
    pipeline.publish()
    labels = {"stream": "aggTrade", "event": "void"}
    assert metrics.registry.get_sample_value("ingest_stream_events_total", labels) == 2


def test_a_bar_that_was_corrected_after_it_was_closed_is_counted_and_kept_as_a_dead_letter() -> None:
    stream = bars("1m")
    pipeline, lane, metrics = build(stream)
    pipeline.activate({"kline_1m:BTCUSDT": Position(1, 4, 4)})

    def bar(number: int, close: str, first: int) -> Bar:
        figures = ("1.0", "3.0", "0.5", close, "10.0", "20.0", "4.0", "8.0")
        return Bar("BTCUSDT", "1m", number, number * 60_000_000, number * 60_000_000 + 59, figures, 5, first, 9)

    lane.on_trades("k", [bar(5, "2.0", 5), bar(5, "2.0", -1), bar(5, "2.1", 5), bar(6, "2.0", 5)])  # type: ignore[list-item]
    batch = pipeline.take()
    assert batch is not None
    assert [number for _, number, _ in batch.records] == [5, 6]
    assert [letter.reason for letter in batch.dead_letters] == ["content_mismatch"]
    lane.publish()
    labels = {"stream": "aggTrade", "event": "mismatch"}
    assert metrics.registry.get_sample_value("ingest_stream_events_total", labels) == 1
