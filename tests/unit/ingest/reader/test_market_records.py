"""Records of every stream, encoded with the real schemas and typed again; and what is out of place in each contract."""

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest

from ingest.reader import AggTrade, Bar, BookSnapshot, BookUpdate, Break, Gap, Level, Quote, Trade, Void, sibling
from ingest.reader.continuity import Continuity
from ingest.reader.market_records import Sequenced, sequenced

SCHEMAS = Path(__file__).resolve().parents[4] / "ingest" / "kafka"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ONE = Decimal("1.00000000")
COMMON = {
    "symbol": "BTCUSDT", "exchange": "BINANCE", "asset_class": "crypto", "currency": "USDT", "ingestion_timestamp": NOW,
    "platform_sequence": None, "vendor_data": {"base_asset": "BTC", "quote_asset": "USDT"}, "event_timestamp": NOW,
    "receive_timestamp": NOW,
}  # fmt: skip
DETAIL = {
    "last_update_id": 9, "first_update_id": 20, "from_timestamp": None, "to_timestamp": NOW, "reason": "restart",
    "evidence": "{}",
}  # fmt: skip
PRICES = dict.fromkeys(("bid_price", "bid_quantity", "ask_price", "ask_quantity"), ONE)
FIGURES = dict.fromkeys(
    ("open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume"), ONE
)


def encoded(name: str, **values: Any) -> tuple[str, dict[str, Any]]:
    """A record written and read with the package's schema."""
    schema = fastavro.parse_schema(json.loads((SCHEMAS / f"{name}.avsc").read_text()), named_schemas={})
    body = io.BytesIO()
    fastavro.schemaless_writer(body, schema, COMMON | {"message_id": "m"} | values)
    body.seek(0)
    record: Any = fastavro.schemaless_reader(body, schema, None)
    return str(schema["name"]).rpartition(".")[2], record  # type: ignore[index, call-overload]


def typed(name: str, **values: Any) -> Sequenced:
    return sequenced(*encoded(name, **values), partition=3, offset=7)


def trade(number: int, *, block: bool = False) -> Sequenced:
    return typed(
        "trade_v2", trade_id="BINANCE-1", timestamp=NOW, price=ONE, quantity=ONE, side="BUY", source_sequence=number,
        trade_conditions=["BLOCK_TRADE"] if block else [],
    )  # fmt: skip


def aggregate(number: int) -> Sequenced:
    return typed(
        "agg_trade_v2", timestamp=NOW, price=ONE, quantity=ONE, side="SELL", first_trade_id=1, last_trade_id=2,
        source_sequence=number,
    )  # fmt: skip


def bar(number: int, interval: str = "1m") -> Sequenced:
    return typed(
        "bar_v2", interval=interval, open_timestamp=NOW, close_timestamp=NOW, trade_count=2, first_trade_id=None,
        last_trade_id=None, source_sequence=number, **FIGURES,
    )  # fmt: skip


def quote(number: int) -> Sequenced:
    return typed("quote_v2", kind="QUOTE", quote_id="q", timestamp=None, source_sequence=number, **PRICES)


def quote_break(last: int, first: int) -> Sequenced:
    detail = DETAIL | {"last_update_id": last, "first_update_id": first}
    nothing = dict.fromkeys(PRICES)
    return typed("quote_v2", kind="BREAK", quote_id="q", source_sequence=first, break_detail=detail, **nothing)


def book(kind: str, first: int, last: int, **values: Any) -> Sequenced:
    return typed("book_event_v2", kind=kind, first_update_id=first, final_update_id=last, **values)


def book_break(last: int, first: int) -> Sequenced:
    detail = DETAIL | {"last_update_id": last, "first_update_id": first}
    return book("BREAK", last + 1, first - 1, break_detail=detail)


def found(*records: Sequenced, voids: dict[tuple[str, int], Void] | None = None) -> list[Void | Gap]:
    continuity = Continuity({}, lambda name, number: (voids or {}).get((name, number)))
    return [item for one in records for item in continuity.before(one)]


def test_every_record_has_its_type_its_stream_and_its_place() -> None:
    cases = [
        (trade(5), Trade, "trade", 5, 5), (trade(5, block=True), Trade, "blockTrade", 5, 5),
        (aggregate(6), AggTrade, "aggTrade", 6, 6), (bar(7), Bar, "kline_1m", 7, 7),
        (quote(8), Quote, "bookTicker", 8, 8),
        (quote_break(9, 20), Break, "bookTicker", 20, 19), (book("UPDATE", 10, 12), BookUpdate, "depth", 10, 12),
        (book("SNAPSHOT", 12, 12), BookSnapshot, "depth", 12, 12), (book_break(9, 20), Break, "depth", 20, 19),
    ]  # fmt: skip
    for one, kind, stream, first, last in cases:
        assert type(one.record) is kind
        assert (one.stream, one.first, one.last) == (stream, first, last)
        assert (one.record.symbol, one.record.partition, one.record.offset) == ("BTCUSDT", 3, 7)


def test_levels_and_details_are_whole() -> None:
    level = {"price": ONE, "quantity": Decimal("0.00000000")}
    update = book("UPDATE", 10, 12, bids=[level, level], asks=[level]).record
    assert isinstance(update, BookUpdate)
    assert (update.bids, update.asks) == ([Level(ONE, Decimal(0))] * 2, [Level(ONE, Decimal(0))])
    broken = book_break(9, 20).record
    assert isinstance(broken, Break)
    assert (broken.last_update_id, broken.first_update_id, broken.reason, broken.to_timestamp) == (
        9,
        20,
        "restart",
        NOW,
    )


def test_a_later_schema_may_add_fields_and_another_record_is_refused() -> None:
    name, data = encoded("quote_v2", kind="QUOTE", quote_id="q", timestamp=None, source_sequence=1, **PRICES)
    assert isinstance(sequenced(name, data | {"new": 1}, 0, 0).record, Quote)
    with pytest.raises(TypeError, match="no record of this reader: Other"):
        sequenced("Other", data, 0, 0)
    with pytest.raises(KeyError, match="bid_price"):
        sequenced(name, {key: value for key, value in data.items() if key != "bid_price"}, 0, 0)


@pytest.mark.parametrize("make", [aggregate, bar, lambda number: trade(number, block=True)])
def test_numbered_streams_have_every_number(make: Any) -> None:
    stream = make(1).stream
    assert found(make(1), make(2), make(3)) == []
    assert found(make(1), make(4)) == [Gap("BTCUSDT", 2, 4, stream)]
    assert found(make(2), make(2)) == [Gap("BTCUSDT", 3, 2, stream)]
    void = Void(f"{stream}:BTCUSDT", 2, 3, "exchange_hole")
    assert found(make(1), make(4), voids={(f"{stream}:BTCUSDT", 2): void}) == [
        Void("BTCUSDT", 2, 3, "exchange_hole", stream=stream)
    ]


def test_streams_and_intervals_of_one_symbol_are_sequences_of_their_own() -> None:
    assert found(trade(5), aggregate(1), trade(6), bar(100), bar(7, "1s"), aggregate(2), bar(101), bar(8, "1s")) == []


def test_updates_of_a_book_follow_each_other_or_a_break_says_what_is_missing() -> None:
    first, second, third = book("UPDATE", 1, 9), book("UPDATE", 10, 15), book("UPDATE", 20, 25)
    snapshot = book("SNAPSHOT", 12, 12)
    assert found(snapshot, second) == []
    assert found(first, snapshot, second) == []
    assert found(first, second, book_break(15, 20), book("SNAPSHOT", 22, 22), third) == []
    assert found(first, second, third) == [Gap("BTCUSDT", 16, 20, "depth")]
    assert found(first, snapshot, third) == [Gap("BTCUSDT", 10, 20, "depth")]
    assert found(first, second, second) == [Gap("BTCUSDT", 16, 10, "depth")]
    assert found(first, second, book_break(14, 20), third) == [Gap("BTCUSDT", 16, 20, "depth")]
    assert found(first, book_break(9, 18), third) == [Gap("BTCUSDT", 18, 20, "depth")]
    assert found(first, second, book("SNAPSHOT", 3, 3)) == [Gap("BTCUSDT", 16, 3, "depth")]


def test_quotes_rise_with_gaps() -> None:
    assert found(quote(1), quote(9), quote_break(9, 30), quote(30)) == []
    assert found(quote(9), quote(9)) == [Gap("BTCUSDT", 10, 9, "bookTicker")]
    assert found(quote(9), quote(4)) == [Gap("BTCUSDT", 10, 4, "bookTicker")]
    assert found(quote(9), quote_break(7, 30)) == [Gap("BTCUSDT", 10, 30, "bookTicker")]


@pytest.mark.parametrize(
    ("topic", "kind", "wanted"),
    [
        ("market.crypto.books.binance", "trades", "market.crypto.trades.binance"),
        ("market.crypto.trades.binance", "bars", "market.crypto.bars.binance"),
        ("name", "books", "name.books"),
        ("name", "trades", "name"),
        ("name.books", "trades", "name"),
        ("examples.trades", "trades", "examples.trades"),
        ("examples.trades", "bars", "examples.bars"),
    ],
)
def test_topics_that_belong_together(topic: str, kind: str, wanted: str) -> None:
    assert sibling(topic, kind) == wanted


def test_a_trade_of_a_later_schema_is_read_without_its_added_field() -> None:
    name, data = encoded(
        "trade_v2", trade_id="BINANCE-1", timestamp=NOW, price=ONE, quantity=ONE, side="BUY", source_sequence=4,
        trade_conditions=[],
    )  # fmt: skip
    expected = sequenced(name, data, partition=3, offset=7)
    assert sequenced(name, data | {"venue": "x", "partition": 9}, partition=3, offset=7) == expected


def test_a_trade_of_an_older_schema_has_no_times_of_sending_and_receiving() -> None:
    name, data = encoded(
        "trade_v2", trade_id="BINANCE-1", timestamp=NOW, price=ONE, quantity=ONE, side="BUY", source_sequence=4,
        trade_conditions=[],
    )  # fmt: skip
    older = {key: value for key, value in data.items() if key not in ("event_timestamp", "receive_timestamp")}
    record = sequenced(name, older, partition=3, offset=7).record
    assert isinstance(record, Trade)
    assert (record.event_timestamp, record.receive_timestamp) == (None, None)
    del older["price"]
    with pytest.raises(KeyError, match="price"):
        sequenced(name, older, partition=3, offset=7)
