"""The identity of a trade is what both of its sources know: the stream and the REST history."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.binance.history import parse_page
from ingest.binance.messages import decode
from ingest.core.ordered_release import trade_content
from ingest.core.trade import Trade

PRICES = st.decimals("0.00000001", "99999999", places=8).map(lambda value: f"{value:.8f}")


@given(st.integers(0, 2**53 + 2), PRICES, PRICES, st.integers(10**15, 2 * 10**15), st.booleans(), st.integers(0, 10**6))
def test_a_trade_of_the_stream_equals_the_same_trade_of_the_history(
    trade_id: int, price: str, quantity: str, time_us: int, maker: bool, delay_us: int
) -> None:
    sent = {
        "e": "trade", "E": time_us + delay_us, "s": "BTCUSDT", "t": trade_id, "p": price, "q": quantity, "T": time_us,
        "m": maker, "M": True,
    }  # fmt: skip
    kept = {
        "id": trade_id, "price": price, "qty": quantity, "quoteQty": "0", "time": time_us, "isBuyerMaker": maker,
        "isBestMatch": True,
    }  # fmt: skip
    streamed = decode(json.dumps({"stream": "btcusdt@trade", "data": sent}).encode())
    (read,) = parse_page("BTCUSDT", json.dumps([kept]).encode()).trades
    assert isinstance(streamed, Trade)
    assert streamed.event_time_us == time_us + delay_us
    assert streamed.stated() == read
    assert hash(streamed.stated()) == hash(read)
    assert streamed.same_content(read)


@pytest.mark.parametrize("sent", ['"late"', "-1", "1.5", "null", "[]"])
def test_a_damaged_time_of_sending_costs_no_trade(sent: str) -> None:
    rest = '"s":"BTCUSDT","t":7,"p":"1.0","q":"2.0","T":1700000000000000,"m":true,"M":true'
    found = decode(f'{{"stream":"btcusdt@trade","data":{{"e":"trade","E":{sent},{rest}}}}}'.encode())
    assert isinstance(found, Trade)
    assert found.stated() == Trade("BTCUSDT", 7, "1.0", "2.0", 1_700_000_000_000_000, buyer_is_maker=True)


@given(
    st.builds(
        Trade,
        symbol=st.text(max_size=8),
        trade_id=st.integers(0, 2**63 - 1),
        price=st.text(max_size=8),
        quantity=st.text(max_size=8),
        trade_time_us=st.integers(0, 2**63 - 1),
        buyer_is_maker=st.booleans(),
        event_time_us=st.integers(0, 9),
        receive_time_us=st.integers(0, 9),
    )
)
def test_what_a_trade_states_is_named_by_its_fields(trade: Trade) -> None:
    assert trade_content(trade) == (trade.price, trade.quantity, trade.trade_time_us, trade.buyer_is_maker)
