import gzip
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ingest.binance.messages import ErrorReply, Reply, ServerShutdown, Unknown
from ingest.binance.stream_messages import Passing, format_of
from ingest.core.errors import Reject
from ingest.core.market_events import AggTrade, Bar, BlockTrade, DepthUpdate, Quote
from ingest.core.streams import AGG_TRADE, BLOCK_TRADE, BOOK_TICKER, DEPTH, STREAMS, Stream, bars

TIME = 1_700_000_040_000_000
BAR = {
    "t": TIME, "T": TIME + 59_999_999, "s": "BTCUSDT", "i": "1m", "f": 5, "L": 9, "o": "1.0", "c": "2.0", "h": "3.0",
    "l": "0.5", "v": "10.0", "n": 5, "x": True, "q": "20.0", "V": "4.0", "Q": "8.0", "B": "0",
}  # fmt: skip
GOOD: dict[str, tuple[Stream, dict[str, Any], Any]] = {
    "aggTrade": (
        AGG_TRADE,
        {"e": "aggTrade", "E": 2, "s": "BTCUSDT", "a": 7, "p": "1.0", "q": "2.0", "f": 5, "l": 6, "T": 1, "m": True,
         "M": True},
        AggTrade("BTCUSDT", 7, "1.0", "2.0", 5, 6, 1, True, 2),
    ),
    "blockTrade": (
        BLOCK_TRADE,
        {"e": "blockTrade", "E": 2, "s": "BTCUSDT", "t": 7, "p": "1.0", "q": "2.0", "T": 1, "m": False},
        BlockTrade("BTCUSDT", 7, "1.0", "2.0", 1, False, 2),
    ),
    "kline": (
        bars("1m"),
        {"e": "kline", "E": 2, "s": "BTCUSDT", "k": BAR},
        Bar("BTCUSDT", "1m", TIME // 60_000_000, TIME, TIME + 59_999_999,
            ("1.0", "3.0", "0.5", "2.0", "10.0", "20.0", "4.0", "8.0"), 5, 5, 9, 2),
    ),
    "bookTicker": (
        BOOK_TICKER,
        {"u": 4, "s": "BTCUSDT", "b": "1.0", "B": "2.0", "a": "3.0", "A": "4.0"},
        Quote("BTCUSDT", 4, "1.0", "2.0", "3.0", "4.0"),
    ),
    "depth": (
        DEPTH,
        {"e": "depthUpdate", "E": 2, "s": "BTCUSDT", "U": 4, "u": 6, "b": [["1.0", "2.0"]], "a": []},
        DepthUpdate("BTCUSDT", 4, 6, 2, [("1.0", "2.0")], []),
    ),
}  # fmt: skip


def frame(stream: Stream, data: object) -> bytes:
    return json.dumps({"stream": f"btcusdt@{stream.wire}", "data": data}).encode()


@pytest.mark.parametrize("name", GOOD)
def test_a_frame_is_read_as_its_event(name: str) -> None:
    stream, data, event = GOOD[name]
    found = format_of(stream)
    assert found.decode(frame(stream, data)) == event
    assert type(event) is found.event
    assert found.decode(frame(stream, {**data, "new": [1]})) == event


@pytest.mark.parametrize("name", GOOD)
def test_damage_is_refused_with_the_symbol(name: str) -> None:
    stream, data, _ = GOOD[name]
    decode = format_of(stream).decode
    for key in data:
        if key in ("E", "M") and name != "depth":
            continue  # not part of what the event states
        if key == "e":  # the stream has its name, too
            continue
        with pytest.raises(Reject) as caught:
            decode(frame(stream, {one: value for one, value in data.items() if one != key}))
        assert caught.value.symbol == "BTCUSDT"
        with pytest.raises(Reject):
            decode(frame(stream, {**data, key: {}}))
    for damaged in (frame(stream, data)[:-3], b"\xff", b"", frame(stream, [1])):
        with pytest.raises(Reject):
            decode(damaged)


@pytest.mark.parametrize("stream", STREAMS.values(), ids=list(STREAMS))
def test_replies_and_notices_are_read_on_every_stream(stream: Stream) -> None:
    decode = format_of(stream).decode
    assert decode(b'{"result":null,"id":3}') == Reply(3, b"null")
    assert isinstance(decode(b'{"error":{"code":2,"msg":"x"},"id":2}'), ErrorReply)
    notice = b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":5}}'
    assert decode(notice) == ServerShutdown(5)
    assert isinstance(decode(b'{"stream":"btcusdt@other","data":{"e":"other"}}'), Unknown)


def test_an_open_bar_states_nothing() -> None:
    stream, data, _ = GOOD["kline"]
    assert format_of(stream).decode(frame(stream, {**data, "k": {**BAR, "x": False}})) == Passing()
    with pytest.raises(Reject, match="interval"):
        format_of(stream).decode(frame(stream, {**data, "k": {**BAR, "i": "1h"}}))


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    stream, data, _ = GOOD["depth"]
    with pytest.raises(Reject, match="implausible_range") as caught:
        format_of(stream).decode(frame(stream, {**data, "U": 7}))
    assert (caught.value.symbol, caught.value.trade_id) == ("BTCUSDT", 6)


def recordings() -> list[Path]:
    root = os.environ.get("K2_RECORDINGS_DIR")
    return sorted(Path(root).glob("binance-spot/*.full.ws.ndjson.gz")) if root else []


@pytest.mark.skipif(not recordings(), reason="K2_RECORDINGS_DIR does not hold the recordings")
def test_every_recorded_frame_is_an_event_of_its_stream() -> None:
    formats = {stream.wire: format_of(stream) for stream in STREAMS.values()}
    found: Counter[str] = Counter()
    last: dict[str, int] = {}
    for path in recordings():
        with gzip.open(path, "rb") as lines:
            for line in lines:
                raw = json.loads(line)["frame"].encode()
                wire = json.loads(raw)["stream"].partition("@")[2]
                if wire not in formats:
                    continue
                event = formats[wire].decode(raw)
                assert isinstance(event, formats[wire].event | Passing), raw
                found[wire] += 1
                if isinstance(event, DepthUpdate):
                    assert last.get(event.symbol, event.first_id - 1) + 1 == event.first_id
                    last[event.symbol] = event.trade_id
    assert found["bookTicker"] > 1000
    assert found["depth@100ms"] > 1000
