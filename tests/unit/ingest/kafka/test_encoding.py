import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.core.errors import Reject
from ingest.core.trade import Trade
from ingest.kafka import encoding
from ingest.kafka.encoding import EARLIEST_US, LATEST_US, GenericEncoder, TradeEncoder, record, unscaled

SCHEMA: Any = fastavro.parse_schema(
    json.loads((Path(encoding.__file__).parent / "trade_v2.avsc").read_text()), named_schemas={}
)
ASSETS = {"BTCUSDT": ("BTC", "USDT"), "1000SATSTRY": ("1000SATS", "TRY"), "这是测试币USDT": ("这是测试币", "USDT")}

decimals = st.one_of(
    st.decimals(min_value=0, max_value=Decimal(10) ** 29, places=8, allow_nan=False).map(lambda d: f"{d:.8f}"),
    st.integers(0, 10**30 - 1).map(str),
    st.tuples(st.integers(0, 10**20), st.integers(0, 10**8 - 1), st.integers(1, 8)).map(
        lambda t: f"{t[0]}.{t[1]:08d}"[: len(str(t[0])) + 1 + t[2]]
    ),
    st.just("0.00000000"),
)
trades = st.builds(
    Trade,
    symbol=st.sampled_from(sorted(ASSETS)),
    trade_id=st.one_of(st.integers(0, 2**63 - 1), st.integers(2**27 - 3, 2**27 + 3), st.integers(0, 20)),
    price=decimals,
    quantity=decimals,
    trade_time_us=st.integers(EARLIEST_US, LATEST_US),
    buyer_is_maker=st.booleans(),
    event_time_us=st.one_of(st.just(0), st.integers(EARLIEST_US, LATEST_US), st.integers(0, 2**63 - 1)),
)


def plain(trade: Trade, ingestion_us: int, schema_id: int, receive_us: int = 0) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, SCHEMA, record(trade, *ASSETS[trade.symbol], ingestion_us, receive_us))
    return b"\x00" + schema_id.to_bytes(4, "big") + out.getvalue()


@given(trade=trades, ingestion_us=st.integers(0, 2**62), schema_id=st.integers(0, 2**31 - 1))
@example(trade=Trade("BTCUSDT", 0, "0.00000000", "0", EARLIEST_US, False), ingestion_us=0, schema_id=0)
def test_the_specialised_encoder_writes_the_very_bytes_that_fastavro_writes(
    trade: Trade, ingestion_us: int, schema_id: int
) -> None:
    ours = TradeEncoder(schema_id, ASSETS).encode(trade, ingestion_us)
    assert ours == plain(trade, ingestion_us, schema_id)
    assert GenericEncoder(schema_id, SCHEMA, ASSETS).encode(trade, ingestion_us) == ours


@given(trade=trades, ingestion_us=st.integers(0, LATEST_US))
def test_fastavro_reads_back_exactly_what_went_in(trade: Trade, ingestion_us: int) -> None:
    raw = TradeEncoder(7, ASSETS).encode(trade, ingestion_us)
    back: Any = fastavro.schemaless_reader(io.BytesIO(raw[5:]), SCHEMA, SCHEMA)
    assert back["message_id"] == f"BINANCE-{trade.symbol}-{trade.trade_id}"
    assert back["trade_id"] == f"BINANCE-{trade.trade_id}"
    assert (back["source_sequence"], back["symbol"]) == (trade.trade_id, trade.symbol)
    assert back["price"] == Decimal(trade.price)
    assert back["quantity"] == Decimal(trade.quantity)
    assert round(back["timestamp"].timestamp() * 1_000_000) == pytest.approx(trade.trade_time_us, abs=1)
    assert back["side"] == ("SELL" if trade.buyer_is_maker else "BUY")
    assert back["vendor_data"] == dict(zip(("base_asset", "quote_asset"), ASSETS[trade.symbol], strict=True))


@given(sent=st.lists(st.tuples(trades, st.sampled_from((0, 1, EARLIEST_US, LATEST_US))), min_size=1, max_size=6))
def test_times_of_sending_and_reading_are_those_of_each_trade(sent: list[tuple[Trade, int]]) -> None:
    special, general = TradeEncoder(7, ASSETS), GenericEncoder(7, SCHEMA, ASSETS)
    for trade, receive_us in sent:
        for encoder in (special, general):
            encoder.received(receive_us)
            assert encoder.encode(trade, 5) == plain(trade, 5, 7, receive_us)
        back: Any = fastavro.schemaless_reader(io.BytesIO(special.encode(trade, 5)[5:]), SCHEMA, SCHEMA)
        assert (back["receive_timestamp"] is None) == (receive_us == 0)
        assert (back["event_timestamp"] is None) == (not EARLIEST_US <= trade.event_time_us <= LATEST_US)


@given(first=trades, second=trades)
def test_one_encoder_for_many_trades_keeps_nothing_of_the_one_before(first: Trade, second: Trade) -> None:
    encoder = TradeEncoder(1, ASSETS)
    for trade in (first, second, first):
        assert encoder.encode(trade, 1) == plain(trade, 1, 1)


@pytest.mark.parametrize("edge", [0, 128, 8192, 10_000, 16_384, 20_000, 8192 * 5000, 10_000 * 8192, 2**40, 2**63 - 40])
def test_ids_and_times_may_run_over_any_edge_forwards_and_backwards(edge: int) -> None:
    encoder = TradeEncoder(1, ASSETS)
    steps = [*range(-30, 31), *range(30, -31, -1), -30, 30, -1, 0]
    for step in steps:
        time_us = EARLIEST_US + 8192 * 7 + step
        for symbol in ASSETS:
            number, event_us = max(0, edge + step), time_us + 3 * step
            trade = Trade(symbol, number, "1.00000000", "1.00000000", time_us, step % 2 == 0, event_us)
            assert encoder.encode(trade, step % 3) == plain(trade, step % 3, 1)


def test_a_refused_price_is_refused_again_and_the_one_before_still_counts() -> None:
    encoder = TradeEncoder(1, ASSETS)
    good, bad = (Trade("BTCUSDT", 1, price, "1", EARLIEST_US, buyer_is_maker=False) for price in ("1.00000000", "x"))
    for _ in range(2):
        assert encoder.encode(good, 1) == plain(good, 1, 1)
        for _ in range(2):
            with pytest.raises(Reject, match="bad_decimal"):
                encoder.encode(bad, 1)


def test_a_time_just_outside_is_refused_after_one_just_inside() -> None:
    encoder = TradeEncoder(1, ASSETS)
    for inside, outside in ((EARLIEST_US, EARLIEST_US - 1), (LATEST_US, LATEST_US + 1)):
        encoder.encode(Trade("BTCUSDT", 1, "1", "1", inside, buyer_is_maker=False), 1)
        with pytest.raises(Reject, match="implausible_time"):
            encoder.encode(Trade("BTCUSDT", 1, "1", "1", outside, buyer_is_maker=False), 1)


REFUSED = [
    "", ".", "1.", ".5", "-1.00000000", "+1.00000000", "1e5", "NaN", "Infinity", "1_0.00000000", " 1.00000000",
    "1.000000001", "0.123456789", "1,5", "0x10", "\u0661.00000000", "1.0000000a", "--", "1.2.3", "1..00000000",
    "1" * 31, "1" * 31 + ".00000000", "1\n.00000000",
]  # fmt: skip


@pytest.mark.parametrize("text", REFUSED)
@pytest.mark.parametrize("field", ["price", "quantity"])
def test_what_does_not_fit_exactly_is_refused_and_never_rounded(text: str, field: str) -> None:
    values: dict[str, Any] = {"price": "1.00000000", "quantity": "1.00000000", field: text}
    trade = Trade("BTCUSDT", 1, trade_time_us=EARLIEST_US, buyer_is_maker=False, **values)
    for encoder in (TradeEncoder(1, ASSETS), GenericEncoder(1, SCHEMA, ASSETS)):
        with pytest.raises(Reject, match="bad_decimal") as caught:
            encoder.encode(trade, 1)
        assert field in str(caught.value)


@given(text=st.text(alphabet="0123456789.-+eE_ \u0663\u00b2", max_size=14))
def test_any_text_is_either_refused_or_worth_exactly_what_it_says(text: str) -> None:
    try:
        value = unscaled(text, "price")
    except Reject:
        return
    assert Decimal(value) == Decimal(text) * 10**8
    trade = Trade("BTCUSDT", 1, text, "1.00000000", EARLIEST_US, buyer_is_maker=False)
    assert TradeEncoder(1, ASSETS).encode(trade, 1) == plain(trade, 1, 1)


@given(text=st.text(max_size=14))
def test_the_two_encoders_refuse_alike(text: str) -> None:
    trade = Trade("BTCUSDT", 1, text, "1.00000000", EARLIEST_US, buyer_is_maker=False)
    outcomes = []
    for encoder in (TradeEncoder(1, ASSETS), GenericEncoder(1, SCHEMA, ASSETS)):
        try:
            outcomes.append(encoder.encode(trade, 1))
        except Reject:
            outcomes.append(b"refused")
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("time_us", [0, EARLIEST_US - 1, LATEST_US + 1, 1_700_000_000_000, 1_700_000_000_000_000_000])
def test_a_time_of_another_unit_is_refused(time_us: int) -> None:
    trade = Trade("BTCUSDT", 1, "1.00000000", "1.00000000", time_us, buyer_is_maker=False)
    for encoder in (TradeEncoder(1, ASSETS), GenericEncoder(1, SCHEMA, ASSETS)):
        with pytest.raises(Reject, match="implausible_time"):
            encoder.encode(trade, 1)


def test_a_symbol_that_was_not_asked_for_is_refused_until_it_is_added() -> None:
    trade = Trade("ETHBTC", 1, "1.00000000", "1.00000000", EARLIEST_US, buyer_is_maker=False)
    for encoder in (TradeEncoder(1, ASSETS), GenericEncoder(1, SCHEMA, ASSETS)):
        with pytest.raises(Reject, match="unknown_symbol"):
            encoder.encode(trade, 1)
        encoder.add_symbol("ETHBTC", "ETH", "BTC")
        back: Any = fastavro.schemaless_reader(io.BytesIO(encoder.encode(trade, 1)[5:]), SCHEMA, SCHEMA)
        assert back["currency"] == "BTC"
