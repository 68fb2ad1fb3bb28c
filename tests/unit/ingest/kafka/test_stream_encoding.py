"""The encoders of the streams against fastavro: the same bytes, and read back as what went in."""

import io
import json
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.errors import Reject
from ingest.core.market_events import AggTrade, Bar, BlockTrade, BookSnapshot, Break, DepthUpdate, Quote
from ingest.kafka import encoding
from ingest.kafka.encoding import EARLIEST_US, LATEST_US
from ingest.kafka.stream_encoding import (
    KEPT_DECIMALS,
    AggTradeEncoder,
    BarEncoder,
    BlockTradeEncoder,
    BookEncoder,
    QuoteEncoder,
)

FOLDER = Path(encoding.__file__).parent
ASSETS = {"BTCUSDT": ("BTC", "USDT"), "币安人生USDT": ("币安人生", "USDT")}
EXACT = Context(prec=38)

decimals = st.decimals(0, Decimal(10) ** 20, places=8, allow_nan=False).map(lambda d: f"{d:.8f}")
symbols = st.sampled_from(sorted(ASSETS))
ids = st.integers(0, 2**63 - 1)
times = st.integers(EARLIEST_US, LATEST_US)
sent = st.one_of(st.just(0), times)
levels = st.lists(st.tuples(decimals, decimals), max_size=5)


def schema(name: str) -> Any:
    return fastavro.parse_schema(json.loads((FOLDER / f"{name}.avsc").read_text()), named_schemas={})


SCHEMAS = {name: schema(name) for name in ("agg_trade_v2", "trade_v2", "bar_v2", "quote_v2", "book_event_v2")}


def number(text: str) -> Decimal:
    return Decimal(text).scaleb(0, EXACT).quantize(Decimal("1e-8"), context=EXACT)


def common(symbol: str, ingestion_us: int, event_us: int, receive_us: int) -> dict[str, Any]:
    base, quote = ASSETS[symbol]
    return {
        "symbol": symbol, "exchange": "BINANCE", "asset_class": "crypto", "currency": quote,
        "ingestion_timestamp": ingestion_us, "platform_sequence": None,
        "vendor_data": {"base_asset": base, "quote_asset": quote}, "event_timestamp": event_us or None,
        "receive_timestamp": receive_us or None,
    }  # fmt: skip


def plain(name: str, record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, SCHEMAS[name], record)
    return b"\x00\x00\x00\x00\x07" + out.getvalue()


@given(
    symbol=symbols, one=ids, price=decimals, quantity=decimals, first=st.integers(0, 2**60), more=st.integers(0, 100),
    time=times, maker=st.booleans(), event=sent, received=sent,
)  # fmt: skip
def test_aggregates_and_block_trades(
    symbol: str, one: int, price: str, quantity: str, first: int, more: int, time: int, maker: bool, event: int,
    received: int,
) -> None:  # fmt: skip
    aggregates, blocks = AggTradeEncoder(7, ASSETS), BlockTradeEncoder(7, ASSETS)
    for encoder in (aggregates, blocks):
        encoder.received(received)
    fields = {
        **common(symbol, 5, event, received), "timestamp": time, "price": number(price), "quantity": number(quantity),
        "side": "SELL" if maker else "BUY", "source_sequence": one,
    }  # fmt: skip
    aggregate = AggTrade(symbol, one, price, quantity, first, first + more, time, maker, event)
    own = {"message_id": f"BINANCE-{symbol}-agg-{one}", "first_trade_id": first, "last_trade_id": first + more}
    assert aggregates.encode(aggregate, 5) == plain("agg_trade_v2", fields | own)
    block = BlockTrade(symbol, one, price, quantity, time, maker, event)
    own = {
        "message_id": f"BINANCE-{symbol}-block-{one}", "trade_id": f"BINANCE-block-{one}",
        "trade_conditions": ["BLOCK_TRADE"],
    }  # fmt: skip
    assert blocks.encode(block, 5) == plain("trade_v2", fields | own)


@given(
    symbol=symbols, one=ids, opens=times, figures=st.tuples(*[decimals] * 8), count=ids,
    first=st.integers(-1, 2**63 - 1), event=sent,
)  # fmt: skip
def test_bars(symbol: str, one: int, opens: int, figures: tuple[str, ...], count: int, first: int, event: int) -> None:
    encoder = BarEncoder(7, ASSETS)
    bar: Any = Bar(symbol, "1m", one, opens, opens, figures, count, first, first, event)  # type: ignore[arg-type]
    names = (
        "open", "high", "low", "close", "volume", "quote_volume", "taker_buy_volume", "taker_buy_quote_volume",
    )  # fmt: skip
    record = {
        **common(symbol, 5, event, 0), "message_id": f"BINANCE-{symbol}-kline_1m-{one}", "interval": "1m",
        "open_timestamp": opens, "close_timestamp": opens, "trade_count": count, "source_sequence": one,
        "first_trade_id": first if first >= 0 else None, "last_trade_id": first if first >= 0 else None,
        **{name: number(figure) for name, figure in zip(names, figures, strict=True)},
    }  # fmt: skip
    assert encoder.encode(bar, 5) == plain("bar_v2", record)


def detail(found: Break) -> dict[str, Any]:
    return {
        "last_update_id": found.last_id, "first_update_id": found.first_id, "from_timestamp": found.from_us,
        "to_timestamp": found.to_us, "reason": found.reason, "evidence": found.evidence,
    }  # fmt: skip


@given(
    symbol=symbols, one=ids, figures=st.tuples(*[decimals] * 4), received=sent, last=st.one_of(st.none(), ids),
    since=st.one_of(st.none(), times),
)  # fmt: skip
def test_quotes_and_their_breaks(
    symbol: str, one: int, figures: tuple[str, ...], received: int, last: int | None, since: int | None
) -> None:
    encoder = QuoteEncoder(7, ASSETS)
    encoder.received(received)
    names = ("bid_price", "bid_quantity", "ask_price", "ask_quantity")
    record = {
        **common(symbol, 5, 0, received), "quote_id": f"BINANCE-{one}", "timestamp": None, "source_sequence": one,
    }  # fmt: skip
    own: dict[str, Any] = {
        "message_id": f"BINANCE-{symbol}-quote-{one}", "kind": "QUOTE", "break_detail": None,
        **{name: number(figure) for name, figure in zip(names, figures, strict=True)},
    }  # fmt: skip
    assert encoder.encode(Quote(symbol, one, *figures), 5) == plain("quote_v2", record | own)
    found = Break(symbol, last, one, since, EARLIEST_US, "restart", "{}")
    own = {"message_id": f"BINANCE-{symbol}-quote-break-{one}", "kind": "BREAK", "break_detail": detail(found)}
    assert encoder.encode_break(found, 5) == plain("quote_v2", record | dict.fromkeys(names) | own)


@given(
    symbol=symbols, first=st.integers(1, 2**62), more=st.integers(0, 2**40), bids=levels, asks=levels, time=times,
    received=sent,
)  # fmt: skip
def test_events_of_books(
    symbol: str, first: int, more: int, bids: list[tuple[str, str]], asks: list[tuple[str, str]], time: int,
    received: int,
) -> None:  # fmt: skip
    encoder = BookEncoder(7, ASSETS)
    encoder.received(received)
    last = first + more
    sides = {
        name: [{"price": number(price), "quantity": number(quantity)} for price, quantity in side]
        for name, side in (("bids", bids), ("asks", asks))
    }
    update = {
        **common(symbol, 5, time, received), **sides, "message_id": f"BINANCE-{symbol}-book-update-{last}",
        "kind": "UPDATE", "timestamp": time, "first_update_id": first, "final_update_id": last, "break_detail": None,
    }  # fmt: skip
    assert encoder.encode(DepthUpdate(symbol, first, last, time, bids, asks), 5) == plain("book_event_v2", update)
    snapshot = update | {
        "message_id": f"BINANCE-{symbol}-book-snapshot-{last}", "kind": "SNAPSHOT", "timestamp": None,
        "first_update_id": last, "event_timestamp": None,
    }  # fmt: skip
    assert encoder.encode_snapshot(symbol, BookSnapshot(last, bids, asks), 5) == plain("book_event_v2", snapshot)
    found = Break(symbol, first - 1, last + 1, None, time, "connection", '{"a": 1}')
    broken = update | {
        "message_id": f"BINANCE-{symbol}-book-break-{last + 1}", "kind": "BREAK", "timestamp": None,
        "event_timestamp": None, "bids": [], "asks": [], "break_detail": detail(found),
    }  # fmt: skip
    assert encoder.encode_break(found, 5) == plain("book_event_v2", broken)


def test_what_has_no_exact_record_is_refused() -> None:
    quotes, books, aggregates = QuoteEncoder(1, ASSETS), BookEncoder(1, ASSETS), AggTradeEncoder(1, ASSETS)
    with pytest.raises(Reject, match="bad_decimal"):
        quotes.encode(Quote("BTCUSDT", 1, "1e5", "1", "2", "1"), 1)
    with pytest.raises(Reject, match="bad_decimal"):
        books.encode(DepthUpdate("BTCUSDT", 1, 2, EARLIEST_US, [("1", "-1")], []), 1)
    with pytest.raises(Reject, match="implausible_time"):
        books.encode(DepthUpdate("BTCUSDT", 1, 2, 5, [], []), 1)
    with pytest.raises(Reject, match="implausible_range"):
        aggregates.encode(AggTrade("BTCUSDT", 1, "1", "1", 9, 8, EARLIEST_US, True), 1)
    with pytest.raises(Reject, match="unknown_symbol"):
        quotes.encode(Quote("ETHBTC", 1, "1", "1", "2", "1"), 1)


def test_quotes_in_a_row_have_their_own_decimals_and_times_and_few_are_kept() -> None:
    lasting = QuoteEncoder(7, ASSETS)
    symbol = next(iter(ASSETS))
    for number in range(4 * KEPT_DECIMALS):
        price = f"{number // 3}.5"
        quote = Quote(symbol, number, price, f"{number}.25", f"{number // 2 + 1}.75", price)
        assert lasting.encode(quote, number // 5) == QuoteEncoder(7, ASSETS).encode(quote, number // 5)
        assert len(lasting._symbols[symbol].decimals) <= KEPT_DECIMALS
