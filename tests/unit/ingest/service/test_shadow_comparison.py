"""The shadow's comparison: agreement is counted, a difference is counted and kept, silence is neither."""

import msgspec
import pytest

from ingest.core.errors import Reject, Stop
from ingest.core.trade import Trade
from ingest.kafka.encoding import TradeEncoder
from ingest.kafka.schemas import trade_schema
from ingest.metrics import Metrics
from ingest.service.shadow_comparison import HORIZON_SECONDS, KEPT_EXAMPLES, LATE_SECONDS, SETTLE_SECONDS, Comparison
from ingest.service.shadow_runner import SCHEMAS_KEPT, SchemaReader

ASSETS = {"BTCUSDT": ("BTC", "USDT"), "ETHUSDT": ("ETH", "USDT"), "BNBUSDT": ("BNB", "USDT")}
NOW = 1_723_161_254_122_000


def trade(number: int, price: str = "61234.56000000", maker: bool = False) -> Trade:
    return Trade("BTCUSDT", number, price, "0.01000000", NOW + number, maker)


class Sides:
    """A shadow and a writer with encoders of their own."""

    def __init__(self, *, limit: int = 100, schema_id: int = 1) -> None:
        self.metrics = Metrics(process=False)
        self.writer = TradeEncoder(schema_id, ASSETS)
        self.reader = SchemaReader({1: trade_schema()})
        self.now = 100.0
        self.comparison = Comparison(
            TradeEncoder(1, ASSETS),
            self.reader.read,
            self.metrics,
            limit=limit,
            owns=lambda symbol: symbol != "SOLUSDT",
            monotonic=lambda: self.now,
            time_ns=lambda: (NOW + round((self.now - 100.0) * 1e6)) * 1000,
        )

    def commit(self, *trades: Trade, later: int = 5) -> None:
        self.comparison.committed([(one.symbol.encode(), self.writer.encode(one, NOW + later)) for one in trades])

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.comparison.expire()

    def missing(self) -> tuple[int, int]:
        """Never received here, never committed by the writer; metrics and status agree."""
        sample = self.metrics.registry.get_sample_value
        found = self.comparison.never_received, self.comparison.never_committed
        names = ("ingest_shadow_never_received_total", "ingest_shadow_never_committed_total")
        assert tuple(sample(name) for name in names) == found
        return found

    def counters(self) -> tuple[float | None, float | None]:
        sample = self.metrics.registry.get_sample_value
        return sample("ingest_shadow_compared_total"), sample("ingest_shadow_mismatch_total")


def test_equal_records_agree_whichever_comes_first_and_whenever_they_were_ingested() -> None:
    sides = Sides()
    sides.comparison.offer([trade(1)])
    sides.commit(trade(1))
    sides.comparison.offer([trade(2)])
    sides.commit(trade(2), trade(3), later=1_234_567)
    sides.comparison.offer([trade(3)])
    assert sides.counters() == (3, 0)
    status = sides.comparison.as_dict()
    assert (status["compared"], status["mismatched"]) == (3, 0)
    assert status["waiting"] == {"received": 0, "committed": 0}


def test_records_of_another_shard_are_passed_over() -> None:
    """All shards write to the topic: none of it is missing here, and none of it is judged."""
    sides = Sides()
    sides.comparison.offer([trade(1), trade(2)])
    sides.commit(trade(1), trade(2))
    value = sides.writer.encode(trade(7), NOW)
    sides.comparison.committed([(b"SOLUSDT", value), (b"SOLUSDT", b"no record")])
    sides.later(SETTLE_SECONDS + 2 * LATE_SECONDS)
    sides.comparison.committed([(b"SOLUSDT", value)])
    sides.later(2 * LATE_SECONDS)
    assert (sides.missing(), sides.comparison.unreadable, sides.counters()) == ((0, 0), 0, (2, 0))


def test_a_field_that_differs_is_counted_and_named() -> None:
    sides = Sides()
    sides.comparison.offer([trade(1), trade(2), trade(3)])
    sides.commit(trade(1), trade(2, price="61234.56000001"), trade(3, maker=True))
    assert sides.counters() == (3, 2)
    first, second = sides.comparison.mismatches
    assert (first.symbol, first.trade_id, set(first.fields)) == ("BTCUSDT", 2, {"price"})
    assert first.fields["price"] == ("Decimal('61234.56000000')", "Decimal('61234.56000001')")
    assert set(second.fields) == {"side"}


def test_only_the_first_mismatches_are_kept() -> None:
    sides = Sides(limit=1000)
    for number in range(100):
        sides.comparison.offer([trade(number)])
        sides.commit(trade(number, price="1.00000000"))
    assert sides.comparison.mismatched == 100
    assert [kept.trade_id for kept in sides.comparison.mismatches] == list(range(KEPT_EXAMPLES))


def test_what_the_shadow_would_have_refused_differs() -> None:
    sides = Sides()
    sides.comparison._encode = refuse  # type: ignore[assignment]  # an encoder that refuses everything
    sides.comparison.offer([trade(1)])
    sides.commit(trade(1))
    assert sides.counters() == (1, 1)
    assert "bad_decimal" in sides.comparison.mismatches[0].fields["record"][0]


def refuse(_trade: Trade, _ingestion_us: int) -> bytes:
    raise Reject("bad_decimal", "no")


def test_second_deliveries_and_what_was_committed_before_it_began_do_not_count() -> None:
    sides = Sides()
    sides.commit(trade(1), trade(2))
    sides.comparison.offer([trade(3), trade(4), trade(3)])
    sides.commit(trade(3), trade(4))
    sides.comparison.offer([trade(3), trade(2)])
    assert sides.counters() == (3, 0), "a late delivery of a record that is still kept is compared"
    sides.later(2 * HORIZON_SECONDS)
    assert sides.missing() == (0, 0)
    assert sides.comparison.as_dict()["waiting"] == {"received": 0, "committed": 0}


def test_what_waits_is_bounded() -> None:
    sides = Sides(limit=10)
    sides.comparison.offer([trade(0)])
    sides.commit(trade(0))
    sides.comparison.offer([trade(number) for number in range(1, 26)])
    assert sides.comparison.as_dict()["waiting"]["received"] == 10
    assert sides.missing() == (0, 15)
    sides.commit(*(trade(number) for number in range(100, 125)))
    assert sides.comparison.as_dict()["waiting"]["committed"] == 10
    assert sides.missing() == (15, 15)
    assert sides.counters() == (1, 0)


def test_a_record_that_this_side_never_received_is_counted_after_the_horizon() -> None:
    sides = Sides()
    sides.comparison.offer([trade(1), trade(3)])
    sides.commit(trade(1), trade(2), trade(3))
    sides.later(HORIZON_SECONDS - 1)
    assert sides.missing() == (0, 0)
    sides.later(2)
    assert sides.missing() == (1, 0)
    assert sides.comparison.as_dict()["missing"]["never_received"] == [["BTCUSDT", 2]]
    sides.comparison.offer([trade(2)])
    sides.later(2 * HORIZON_SECONDS)
    assert sides.missing() == (1, 0), "a late delivery is not counted again"


def test_a_trade_that_the_writer_never_committed_is_counted_after_the_horizon() -> None:
    sides = Sides()
    sides.comparison.offer([trade(1), trade(2), trade(3)])
    sides.commit(trade(1), trade(3))
    sides.later(HORIZON_SECONDS + 1)
    assert sides.missing() == (0, 1)
    sides.commit(trade(2))
    sides.later(2 * HORIZON_SECONDS)
    assert sides.missing() == (0, 1)


def test_a_symbol_that_one_side_does_not_have_at_all_is_counted() -> None:
    sides = Sides()
    sides.comparison.offer([trade(1)])
    sides.commit(trade(1))
    sides.later(6)
    sides.commit(msgspec.structs.replace(trade(7), symbol="ETHUSDT"))
    sides.comparison.offer([msgspec.structs.replace(trade(8), symbol="BNBUSDT")])
    sides.later(LATE_SECONDS - 1)
    assert sides.missing() == (0, 0)
    sides.later(2)
    assert sides.missing() == (1, 1)


@pytest.mark.parametrize("late", ["writer", "shadow"])
def test_a_side_that_is_on_its_way_to_an_id_has_more_time(late: str) -> None:
    """On a busy machine a commit is seen, or a trade received, seconds later: that is no missing record."""
    sides = Sides()
    offer, commit = sides.comparison.offer, sides.commit
    offer([trade(1)])
    commit(trade(1))
    if late == "writer":
        offer([trade(2), trade(3), trade(4)])
    else:
        commit(trade(2), trade(3), trade(4))
    sides.later(LATE_SECONDS - 1)
    assert sides.missing() == (0, 0)
    if late == "writer":
        commit(trade(2), trade(4))
    else:
        offer([trade(2), trade(4)])
    sides.later(0)
    assert sides.missing() == ((0, 1) if late == "writer" else (1, 0)), "it has gone past 3"
    sides.later(2 * LATE_SECONDS)
    assert sum(sides.missing()) == 1


def test_a_symbol_that_is_left_out_is_counted_at_once_where_the_others_go_on() -> None:
    sides = Sides()
    for number in range(1, 20):
        sides.comparison.offer([trade(number)])
        sides.commit(trade(number), msgspec.structs.replace(trade(number), symbol="ETHUSDT"))
        sides.later(1)
    assert sides.missing()[0] >= 3, "each after 10 s, from 5 s after the beginning"
    assert sides.missing()[1] == 0


def test_what_never_comes_is_counted_though_its_side_never_goes_past_it() -> None:
    sides = Sides()
    sides.comparison.offer([trade(1), trade(2)])
    sides.commit(trade(1))
    sides.later(LATE_SECONDS + 1)
    assert sides.missing() == (0, 1)


def test_what_is_from_before_one_side_began_is_not_counted() -> None:
    sides = Sides()
    sides.comparison.offer([trade(1), trade(2)])  # committed before the tail of the topic was open
    sides.commit(msgspec.structs.replace(trade(7), symbol="ETHUSDT"))  # before the symbol was subscribed
    sides.later(1)
    sides.comparison.offer([trade(3)])
    sides.commit(trade(3))
    sides.later(HORIZON_SECONDS + 1)
    assert sides.missing() == (0, 0)


@pytest.mark.parametrize("wrong", [3600, -3600, 6, -6, 1e9])
def test_an_ingestion_time_that_cannot_be_is_a_difference(wrong: float) -> None:
    sides = Sides()
    sides.comparison.offer([trade(1)])
    sides.commit(trade(1), later=round(wrong * 1e6))
    assert sides.counters() == (1, 1)
    assert set(sides.comparison.mismatches[0].fields) == {"ingestion_timestamp"}


def test_a_record_of_ours_that_cannot_be_read_differs() -> None:
    sides = Sides()
    encode = TradeEncoder(1, ASSETS).encode
    sides.comparison._encode = lambda trade, ingestion_us: encode(trade, ingestion_us)[:-3]
    sides.comparison.offer([trade(1)])
    sides.commit(trade(1))
    assert sides.counters() == (1, 1)
    assert sides.comparison.mismatches[0].fields["record"][0].startswith("unreadable")


def test_an_encoder_that_changes_the_ingestion_time_differs() -> None:
    sides = Sides()
    encode = TradeEncoder(1, ASSETS).encode
    sides.comparison._encode = lambda trade, ingestion_us: encode(trade, ingestion_us + 10**6)
    sides.comparison.offer([trade(1)])
    sides.commit(trade(1))
    assert sides.counters() == (1, 1)


def test_no_record_is_counted_as_unreadable() -> None:
    sides = Sides()
    sides.comparison.committed(
        [(b"BTCUSDT", b""), (b"BTCUSDT", b"\x01abcdef"), (b"BTCUSDT", b"\x00\x00\x00\x00\x01zz")]
    )
    assert sides.comparison.unreadable == 3


def test_a_schema_that_is_not_known_is_asked_for_and_then_read() -> None:
    sides = Sides(schema_id=9)
    sides.comparison.offer([trade(1), trade(2)])
    sides.commit(trade(1))
    assert list(sides.reader.unknown) == [9]
    assert sides.counters() == (0, 0)
    sides.reader.add(9, trade_schema())
    sides.commit(trade(2))
    assert sides.counters() == (1, 0), "another schema id with the same fields agrees"


def test_schemas_are_bounded_in_number() -> None:
    reader = SchemaReader({1: trade_schema()})
    for number in range(2 * SCHEMAS_KEPT):
        assert reader.read(b"\0" + (number + 10).to_bytes(4, "big") + b"x") is None
    assert len(reader.unknown) == SCHEMAS_KEPT
    for number in range(2 * SCHEMAS_KEPT):
        reader.add(number, trade_schema())
    assert len(reader._parsed) == SCHEMAS_KEPT


@pytest.mark.parametrize(
    "text", ["{{{", "[]", "7", '"nothing"', '{"type":"record","name":"x","fields":[[]]}', "[" * 100_000]
)
def test_what_is_no_schema_stops_neither_the_service_nor_the_others(text: str) -> None:
    reader = SchemaReader({1: trade_schema()})
    for number in (7, 8):
        reader.read(b"\0" + number.to_bytes(4, "big") + b"x")
    if text != "[]":  # a union of no types is Avro
        with pytest.raises(Stop, match="no Avro schema"):
            reader.add(7, text)
    reader.postpone(7)
    assert list(reader.unknown) == [8, 7]


def test_symbols_of_the_topic_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.service.shadow_comparison.MOST_SYMBOLS", 2)
    sides = Sides()
    value = sides.writer.encode(trade(1), NOW)
    sides.comparison.committed([(f"S{number}".encode(), value) for number in range(5)])
    assert len(sides.comparison._theirs.last) == len(sides.comparison._theirs.first) == 2
    assert sides.comparison.unreadable == 3
