import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingest.binance.messages import ErrorReply, Reply, ServerShutdown, Unknown, decode
from ingest.core.errors import Reject
from ingest.core.trade import Trade
from ingest.metrics import REJECT_REASONS

FIELDS: dict[str, Any] = {
    "e": "trade",
    "E": 1723161254123456,
    "s": "BTCUSDT",
    "t": 5123456789,
    "p": "61234.56000000",
    "q": "0.01200000",
    "T": 1723161254122000,
    "m": True,
    "M": True,
}
TRADE = Trade(
    "BTCUSDT", 5123456789, "61234.56000000", "0.01200000", 1723161254122000, True, event_time_us=1723161254123456
)


def raw(**changes: Any) -> bytes:
    fields = {**FIELDS, **changes}
    return json.dumps({k: v for k, v in fields.items() if v is not ...}, separators=(",", ":")).encode()


def combined(payload: bytes, stream: str = "btcusdt@trade") -> bytes:
    return b'{"stream":"' + stream.encode() + b'","data":' + payload + b"}"


@pytest.mark.parametrize("wrap", [bytes, combined])
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(raw(), id="plain"),
        pytest.param(raw(M=...), id="without M"),
        pytest.param(raw(E=...), id="without E"),
        pytest.param(raw(b=88, a=50), id="order ids as until 2024"),
        pytest.param(raw(X="MARKET", new={"deep": [1, 2]}), id="new keys"),
        pytest.param(json.dumps(dict(reversed(FIELDS.items()))).encode(), id="other key order, with spaces"),
    ],
)
def test_a_trade_is_read_from_every_shape_it_has_had(wrap: Any, payload: bytes) -> None:
    found = decode(wrap(payload))
    assert isinstance(found, Trade)
    assert found.stated() == TRADE.stated()
    assert found.event_time_us == (TRADE.event_time_us if '"E"' in payload.decode() else 0)
    assert type(decode(wrap(payload))) is Trade


def test_a_wrapped_trade_is_read_whatever_the_spacing_and_order_of_the_wrapper() -> None:
    assert decode(b'{ "stream" : "btcusdt@trade", "data" : ' + raw() + b" }") == TRADE
    assert decode(b'{"data":' + raw() + b',"stream":"btcusdt@trade"}') == TRADE


def test_prices_keep_the_strings_of_the_exchange() -> None:
    event = decode(raw(p="0.00000100", q="92233720368547758070.00000001"))
    assert isinstance(event, Trade)
    assert (event.price, event.quantity) == ("0.00000100", "92233720368547758070.00000001")


@pytest.mark.parametrize(
    "frame",
    [
        b'{"e":"serverShutdown","E":1770123456789}',
        b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}',
        b'{"event":{"e":"serverShutdown","E":1770123456789}}',
        b'{ "E":1770123456789, "e":"serverShutdown" }',
    ],
)
def test_a_shutdown_notice_is_understood_in_all_three_shapes(frame: bytes) -> None:
    assert decode(frame) == ServerShutdown(1770123456789)


@pytest.mark.parametrize("frame", [b'{"e":"serverShutdown"}', b'{"e":"serverShutdown","E":"soon"}'])
def test_a_shutdown_notice_counts_without_a_usable_time(frame: bytes) -> None:
    assert decode(frame) == ServerShutdown(None)


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        (b'{"result":null,"id":1}', Reply(1, b"null")),
        (b'{"result":["btcusdt@trade"],"id":"a"}', Reply("a", b'["btcusdt@trade"]')),
        (b'{"result":null,"id":null}', Reply(None, b"null")),
        (b'{"code":2,"msg":"Invalid request","id":7}', ErrorReply(7, 2, "Invalid request")),
        (b'{"error":{"code":2,"msg":"invalid stream"},"id":2}', ErrorReply(2, 2, "invalid stream")),
        (b'{"error":"down"}', ErrorReply(None, 0, '"down"')),
        (b'{"error":{"code":"x","msg":5},"id":[]}', ErrorReply(None, 0, "")),
    ],
)
def test_answers_to_requests(frame: bytes, event: object) -> None:
    assert decode(frame) == event


@pytest.mark.parametrize(
    "frame",
    [
        raw(e="blockTrade", t=582),
        raw(e="aggTrade"),
        combined(raw(e="blockTrade", t=582), "btcusdt@blockTrade"),
        b'{"u":400900217,"s":"BNBUSDT","b":"25.35","B":"31.21","a":"25.36","A":"40.66"}',
        b'{"lastUpdateId":160,"bids":[],"asks":[]}',
        b'{"stream":"!miniTicker@arr","data":[{"e":"24hrMiniTicker"}]}',
        b'[{"e":"24hrMiniTicker"}]',
        b"[]",
        b"{}",
        b'{"e":"somethingNew2027","x":1}',
    ],
)
def test_other_events_are_counted_and_ignored(frame: bytes) -> None:
    assert isinstance(decode(frame), Unknown)


def test_a_block_trade_never_becomes_a_trade_even_with_two_event_keys() -> None:
    assert isinstance(decode(raw()[:-1] + b',"e":"blockTrade"}'), Unknown)


@pytest.mark.parametrize("wrap", [bytes, combined])
@pytest.mark.parametrize(
    ("payload", "reason", "symbol", "trade_id"),
    [
        (raw(t=...), "missing_field", "BTCUSDT", None),
        (raw(p=...), "missing_field", "BTCUSDT", 5123456789),
        (raw(e=...), "missing_field", "BTCUSDT", 5123456789),
        (raw(e=7), "wrong_type", "BTCUSDT", 5123456789),
        (raw(t="5"), "wrong_type", "BTCUSDT", None),
        (raw(t=1.0), "wrong_type", "BTCUSDT", None),
        (raw(t=True), "wrong_type", "BTCUSDT", None),
        (raw(t=-1), "wrong_type", "BTCUSDT", None),
        (raw(t=2**63), "wrong_type", "BTCUSDT", None),
        (raw(t=10**3000), "wrong_type", "BTCUSDT", None),
        (raw(m=1), "wrong_type", "BTCUSDT", 5123456789),
        (raw(m="true"), "wrong_type", "BTCUSDT", 5123456789),
        (raw(p=61234.56), "wrong_type", "BTCUSDT", 5123456789),
        (raw(q=None), "wrong_type", "BTCUSDT", 5123456789),
        (raw(T="now"), "wrong_type", "BTCUSDT", 5123456789),
        (raw(p="1" * 65), "bad_decimal", "BTCUSDT", 5123456789),
    ],
)
def test_a_damaged_trade_is_rejected_with_what_can_still_be_known(
    wrap: Any, payload: bytes, reason: str, symbol: str | None, trade_id: int | None
) -> None:
    with pytest.raises(Reject) as caught:
        decode(wrap(payload))
    assert (caught.value.reason, caught.value.symbol, caught.value.trade_id) == (reason, symbol, trade_id)


def test_the_stream_name_tells_the_symbol_of_a_trade_that_lost_it() -> None:
    with pytest.raises(Reject) as caught:
        decode(combined(raw(s=...)))
    assert (caught.value.reason, caught.value.symbol) == ("missing_field", "BTCUSDT")


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (raw()[:-1], "malformed_json"),
        (raw() + b"x", "malformed_json"),
        (raw(s=...)[:-1] + b',"s":"\xff"}', "wrong_type"),
        (b"\x00\xff", "malformed_json"),
        (b'{"a":' + b"[" * 60_000 + b"]" * 60_000 + b"}", "malformed_json"),
        (b"[" * 60_000, "malformed_json"),
        (b"5", "not_an_event"),
        (b"null", "not_an_event"),
        (b'"text"', "not_an_event"),
        (b"NaN", "malformed_json"),
        (b'{"stream":"btcusdt@trade","data":5}', "not_an_event"),
        (b'{"stream":"btcusdt@trade","data":[1]}', "not_an_event"),
    ],
)
def test_what_is_no_event_is_rejected(frame: bytes, reason: str) -> None:
    with pytest.raises(Reject) as caught:
        decode(frame)
    assert caught.value.reason == reason


NOISY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def assert_only_reject(frame: bytes) -> None:
    reject: Reject | None = None
    try:
        decode(frame)
    except Reject as error:
        reject = error
    if reject is not None:
        assert reject.reason in REJECT_REASONS
        assert len(reject.detail) < 300


@NOISY
@given(st.binary(max_size=300))
@example(b'{"stream":"\xf0","data":{}}')
def test_any_bytes_give_an_event_or_a_reject(frame: bytes) -> None:
    assert_only_reject(frame)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@NOISY
@given(
    st.dictionaries(st.sampled_from([*FIELDS, "stream", "data", "event", "error", "code", "msg", "result", "id"]), JSON)
)
def test_any_json_with_our_keys_gives_an_event_or_a_reject(value: dict[str, Any]) -> None:
    frame = json.dumps(value).encode()
    assert_only_reject(frame)
    assert_only_reject(combined(frame))


@settings(NOISY, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), max_size=4), st.booleans())
def test_a_mutated_trade_gives_an_event_or_a_reject(edits: list[tuple[int, bytes]], wrapped: bool) -> None:
    frame = bytearray(combined(raw()) if wrapped else raw())
    for place, replacement in edits:
        frame[place % len(frame) : place % len(frame) + 1] = replacement
        if not frame:
            break
    assert_only_reject(bytes(frame))


@NOISY
@given(
    st.integers(0, 2**63 - 1),
    st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,20})?", fullmatch=True),
    st.integers(0, 2**53),
    st.booleans(),
    st.booleans(),
)
def test_what_is_sent_is_what_is_read(trade_id: int, decimal: str, time: int, maker: bool, wrapped: bool) -> None:
    payload = raw(t=trade_id, p=decimal, q=decimal, T=time, m=maker)
    assert decode(combined(payload) if wrapped else payload) == Trade(
        "BTCUSDT", trade_id, decimal, decimal, time, maker, event_time_us=TRADE.event_time_us
    )


def recordings() -> list[Path]:
    root = os.environ.get("K2_RECORDINGS_DIR")
    return sorted(Path(root).glob("binance-spot/*.ws.ndjson*")) if root else []


@pytest.mark.skipif(not recordings(), reason="K2_RECORDINGS_DIR does not hold the recordings")
def test_every_recorded_frame_is_a_trade_or_another_known_event() -> None:
    trades: dict[str, list[int]] = {}
    for path in recordings():
        if ".full." in path.name:
            continue
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as lines:
            for line in lines:
                event = decode(json.loads(line)["frame"].encode())
                assert isinstance(event, Trade | Unknown)
                if isinstance(event, Trade):
                    trades.setdefault(event.symbol, []).append(event.trade_id)
    assert len(trades["BTCUSDT"]) == 19_904
    for ids in trades.values():
        assert ids == list(range(ids[0], ids[0] + len(ids)))
