"""A full recording goes out as it was recorded, and REST answers from the book that it rebuilds."""

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.simulator.recording import RecordingError, contents, snapshots
from ingest.simulator.stream_ledger import StreamLedger
from tests.harness.recordings import BTCUSDT_FULL, recording
from tests.unit.ingest.simulator.client import connected, receive
from tests.unit.ingest.simulator.conftest import Start, until

FIRST_MS = 1723161255208


def line(stream: str, event: dict[str, Any], *, recv: int) -> str:
    frame = json.dumps({"stream": stream, "data": event}, separators=(",", ":"))
    return json.dumps({"recv": recv, "source": "here", "frame": frame}, separators=(",", ":"))


def diff(first: int, last: int, bids: list[list[str]], asks: list[list[str]]) -> dict[str, Any]:
    return {"e": "depthUpdate", "E": FIRST_MS + last, "s": "BTCUSDT", "U": first, "u": last, "b": bids, "a": asks}


def quote(update_id: int, bid: str, ask: str) -> dict[str, Any]:
    return {"u": update_id, "s": "BTCUSDT", "b": bid, "B": "1.00000000", "a": ask, "A": "2.00000000"}


def trade(number: int) -> dict[str, Any]:
    times = {"E": FIRST_MS + number, "s": "BTCUSDT", "t": number, "p": "100.00000000", "q": "0.50000000"}
    return {"e": "trade", **times, "T": FIRST_MS + number, "m": True, "M": True}


BAR = {
    "t": 1723161240000, "T": 1723161299999, "s": "BTCUSDT", "i": "1m", "f": 1, "L": 9, "o": "1.00000000",
    "c": "2.00000000", "h": "3.00000000", "l": "1.00000000", "v": "5.00000000", "n": 9, "x": True, "q": "6.00000000",
    "V": "2.00000000", "Q": "3.00000000", "B": "0",
}  # fmt: skip
EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("btcusdt@depth@100ms", diff(5, 9, [["98.00000000", "7.00000000"]], [])),
    ("btcusdt@trade", trade(500)),
    ("btcusdt@depth@100ms", diff(10, 12, [["99.00000000", "1.00000000"]], [["101.00000000", "2.00000000"]])),
    ("btcusdt@bookTicker", quote(12, "99.00000000", "101.00000000")),
    ("btcusdt@trade", trade(501)),
    ("btcusdt@depth@100ms", diff(13, 13, [["98.00000000", "0.00000000"]], [["101.00000000", "0.00000000"]])),
    ("btcusdt@bookTicker", quote(15, "99.00000000", "102.00000000")),
    ("btcusdt@kline_1m", {"e": "kline", "E": FIRST_MS + 600, "s": "BTCUSDT", "k": BAR}),
    ("btcusdt@nosuch", {"e": "nosuch"}),
]
SNAPSHOT = {"lastUpdateId": 9, "bids": [["98.00000000", "7.00000000"]], "asks": [["102.00000000", "2.00000000"]]}


def written(folder: Path, *, snapshot: bool = True, name: str = "some") -> Path:
    path = folder / f"{name}.full.ws.ndjson.gz"
    lines = [line(stream, event, recv=10 + 1_000_000 * number) for number, (stream, event) in enumerate(EVENTS)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    if snapshot:
        reply = {"recv": 1, "source": "here", "url": None, "body": json.dumps(SNAPSHOT)}
        info = {"recv": 1, "source": "here", "url": "https://x/exchangeInfo", "body": "{}"}
        (folder / f"{name}.http.ndjson").write_text(f"{json.dumps(info)}\n{json.dumps(reply)}\n")
    return path


def rest(exchange: Any, path: str, query: str = "symbol=BTCUSDT") -> Any:
    answer = exchange.exchange.rest.handle("GET", f"/api/v3/{path}", query, {}, "::1")
    return json.loads(answer.body)


NAMES = "btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@kline_1m/btcusdt@trade"


@pytest.mark.parametrize("speed", [0.0, 20.0])
async def test_recorded_events_go_out_as_they_are_and_the_book_follows(
    simulator: Start, tmp_path: Path, speed: float
) -> None:
    async with (
        simulator(replay=written(tmp_path), speed=speed) as exchange,
        connected(exchange, f"/stream?streams={NAMES}") as connection,
    ):
        assert rest(exchange, "depth") == SNAPSHOT
        exchange.driver.start()
        messages = await receive(connection, len(EVENTS) - 1)
        assert [(one["stream"], one["data"]) for one in messages] == EVENTS[:-1]
        assert rest(exchange, "depth") == {
            "lastUpdateId": 13, "bids": [["99.00000000", "1.00000000"]], "asks": [["102.00000000", "2.00000000"]],
        }  # fmt: skip
        best = rest(exchange, "ticker/bookTicker")
        assert (best["bidPrice"], best["askPrice"]) == ("99.00000000", "102.00000000")
        await until(lambda: exchange.driver.state()["finished"])
        assert exchange.driver.state() | {"trades": 2, "events": 6} == exchange.driver.state()


async def test_times_are_in_microseconds_on_request(simulator: Start, tmp_path: Path) -> None:
    async with (
        simulator(replay=written(tmp_path), speed=0.0) as exchange,
        connected(exchange, "/stream?streams=btcusdt@depth@100ms/btcusdt@kline_1m&timeUnit=MICROSECOND") as connection,
    ):
        exchange.driver.start()
        *_, depth, bar = await receive(connection, 4)
        assert depth["data"]["E"] == (FIRST_MS + 13) * 1000
        assert (bar["data"]["k"]["t"], bar["data"]["k"]["T"]) == (BAR["t"] * 1000, BAR["T"] * 1000)  # type: ignore[operator]


async def test_without_a_snapshot_the_book_is_what_the_updates_say(simulator: Start, tmp_path: Path) -> None:
    async with simulator(replay=written(tmp_path, snapshot=False), speed=0.0) as exchange:
        exchange.driver.start()
        await until(lambda: exchange.driver.state()["finished"])
        assert rest(exchange, "depth") == {"lastUpdateId": 13, "bids": [["99.00000000", "1.00000000"]], "asks": []}


async def test_ledgers_have_the_recorded_events(simulator: Start, tmp_path: Path) -> None:
    async with simulator(replay=written(tmp_path), speed=0.0) as exchange:
        exchange.driver.start()
        await until(lambda: exchange.driver.state()["finished"])
        symbol, ledger = exchange.ledger.symbols["BTCUSDT"], StreamLedger(exchange.derived.sources)
        assert [row[0] for row in ledger.page(symbol, "bookTicker", 0, 10).rows] == [12, 15]
        assert [(row[0], row[1]) for row in ledger.page(symbol, "depth", 0, 10).rows] == [
            (12, "b"), (12, "a"), (13, "b"), (13, "a"),
        ]  # fmt: skip
        (bar,) = ledger.page(symbol, "kline_1m", 0, 10).rows
        assert bar[:3] == [1723161240000000, 1723161299999999, "1.00000000"]
        assert [row[3] for row in ledger.page(symbol, "aggTrade", 0, 10).rows] == [500, 501]
        assert ledger.page(symbol, "blockTrade", 0, 10).rows == []


async def test_a_stream_that_is_not_recorded_is_made_of_what_is(simulator: Start, tmp_path: Path) -> None:
    async with (
        simulator(replay=written(tmp_path), speed=0.0) as exchange,
        connected(exchange, "/stream?streams=btcusdt@depth/btcusdt@aggTrade") as connection,
    ):
        exchange.driver.start()
        messages = await receive(connection, 3)
        by_name = {one["stream"]: one["data"] for one in messages}
        assert by_name["btcusdt@aggTrade"]["l"] == 501
        assert (by_name["btcusdt@depth"]["U"], by_name["btcusdt@depth"]["u"]) == (10, 13)


def test_what_a_recording_has(tmp_path: Path) -> None:
    found = contents(written(tmp_path))
    assert found.first_ids == {"BTCUSDT": 500}
    assert found.streams == dict.fromkeys(["btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@kline_1m"], "BTCUSDT")
    assert snapshots(tmp_path / "some.full.ws.ndjson.gz", {"BTCUSDT", "ETHUSDT"}) == {}  # whose it is, is not known


def test_a_damaged_reply_is_named(tmp_path: Path) -> None:
    path = written(tmp_path)
    (tmp_path / "some.http.ndjson").write_text('{"recv":1,"url":null,"body":"{\\"lastUpdateId\\":1}"}\n')
    with pytest.raises(RecordingError, match=r"some\.http\.ndjson, line 1"):
        snapshots(path, {"BTCUSDT"})


def lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path) as found:
        for text in found:
            yield json.loads(json.loads(text)["frame"])


@pytest.mark.skipif(recording(BTCUSDT_FULL) is None and not os.environ.get("CI"), reason="no recordings here")
@pytest.mark.slow
async def test_the_recorded_market_is_replayed_whole(simulator: Start) -> None:
    path = recording(BTCUSDT_FULL)
    assert path is not None
    names = "btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade"
    async with (
        simulator(replay=path, speed=0.0) as exchange,
        connected(exchange, f"/stream?streams={names}") as connection,
    ):
        book = exchange.books.recorded["BTCUSDT"]
        levels = dict(book._quantities)
        exchange.driver.start()
        last = book.update_id
        for wanted in lines(path):
            (message,) = await receive(connection)
            assert message == wanted
            event = wanted["data"]
            if wanted["stream"].endswith("@depth@100ms") and event["u"] > last:
                assert event["U"] == last + 1 or last == book.floor_id
                last = event["u"]
                for sign, side in ((1, "b"), (-1, "a")):
                    for price, quantity in event[side]:
                        levels[sign * round(float(price) * 10**8)] = round(float(quantity) * 10**8)
        snapshot = rest(exchange, "depth", "symbol=BTCUSDT&limit=5000")
        assert snapshot["lastUpdateId"] == last
        left = {key: quantity for key, quantity in levels.items() if quantity}
        assert [round(float(price) * 10**8) for price, _ in snapshot["bids"]] == sorted(
            (key for key in left if key > 0), reverse=True
        )[:5000]
