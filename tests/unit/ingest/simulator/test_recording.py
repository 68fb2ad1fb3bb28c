"""Replay: what was recorded is what is sent, byte for byte, under its own ids."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from ingest.simulator.recording import RecordingError, contents, trades
from tests.harness.recordings import BTCUSDT_TRADES, BTCUSDT_TRADES_COUNT, recording
from tests.unit.ingest.simulator.client import connected, receive
from tests.unit.ingest.simulator.conftest import Start, until


def line(trade_id: int, *, recv: int, raw: bool = False, price: str = "61837.63000000") -> str:
    event = (
        f'{{"e":"trade","E":{1723161255343 + trade_id},"s":"BTCUSDT","t":{trade_id},"p":"{price}",'
        f'"q":"0.02000000","b":7,"a":8,"T":{1723161255342 + trade_id},"m":true,"M":true}}'
    )
    frame = event if raw else f'{{"stream":"btcusdt@trade","data":{event}}}'
    return json.dumps({"recv": recv, "source": "here", "frame": frame}, separators=(",", ":"))


def written(path: Path, lines: list[str]) -> Path:
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


OTHER = json.dumps({"recv": 1, "source": "here", "frame": '{"u":1,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1"}'})


@pytest.mark.parametrize("name", ["some.ndjson", "some.ndjson.gz"])
def test_trades_are_found_among_other_frames(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, [OTHER, line(100, recv=5), OTHER, line(101, recv=6, raw=True)])
    first, second = trades(path)
    assert (first.received_ns, first.trade_id, first.price, first.quantity) == (5, 100, 6183763000000, 2000000)
    assert (first.time_us, first.event_us, first.buyer_is_maker) == (1723161255442000, 1723161255443000, True)
    assert first.payload == second.payload.replace(b"101", b"100").replace(b"443,", b"442,").replace(b"444,", b"443,")
    assert contents(path).first_ids == {"BTCUSDT": 100}


@pytest.mark.parametrize(
    "broken",
    ['{"recv":1,"frame":"{\\"e\\":\\"trade\\"', line(1, recv=1, price="0.123456789"), line(1, recv=1, price="x")],
)
def test_a_damaged_line_is_named(tmp_path: Path, broken: str) -> None:
    path = written(tmp_path / "broken.ndjson", [OTHER, broken])
    with pytest.raises(RecordingError, match="line 2"):
        contents(path)


def test_a_recording_without_trades_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no frames of a stream"):
        contents(written(tmp_path / "none.ndjson", [OTHER]))


def rest(exchange: Any, query: str) -> list[int]:
    answer = exchange.exchange.rest.handle("GET", "/api/v3/historicalTrades", query, {}, "::1")
    return [row["id"] for row in json.loads(answer.body)]


async def test_frames_are_sent_as_recorded_or_made_anew(simulator: Start, tmp_path: Path) -> None:
    numbers = [*range(100, 110), 108, *range(113, 116)]
    path = written(tmp_path / "some.ndjson", [line(number, recv=number * 10**6) for number in numbers])
    async with (
        simulator(replay=path, speed=0.0, layout="recorded") as exchange,
        connected(exchange, "/stream?streams=btcusdt@trade") as combined,
        connected(exchange, "/ws/btcusdt@trade?timeUnit=MICROSECOND") as micro,
    ):
        exchange.driver.start()
        sent = [await combined.recv() for _ in range(13)]
        recorded = {json.loads(text)["frame"] for text in path.read_text().splitlines()}
        assert set(sent) == recorded
        events = await receive(micro, 13)
        assert [event["t"] for event in events] == [*range(100, 110), *range(113, 116)]
        assert events[0]["T"] == 1723161255442000
        assert "b" not in events[0]
        await until(lambda: exchange.driver.state()["finished"])
        book = exchange.ledger.symbols["BTCUSDT"]
        assert (book.first_id, book.last_id, book.voids) == (100, 115, [(110, 112)])
        assert exchange.counters["replay_ids_again"] == 1
        assert rest(exchange, "symbol=BTCUSDT&fromId=109") == [109, 113, 114, 115]


async def test_ids_of_a_recording_can_be_lost_and_seldom_anything_else(simulator: Start, tmp_path: Path) -> None:
    path = written(tmp_path / "some.ndjson", [line(number, recv=number) for number in range(100, 110)])
    async with simulator(replay=path, speed=0.0) as exchange, connected(exchange, "/ws/btcusdt@trade") as connection:
        exchange.injector.inject("void", {"count": 3})
        exchange.driver.start()
        assert [event["t"] for event in await receive(connection, 7)] == list(range(103, 110))
        assert exchange.ledger.symbols["BTCUSDT"].voids == [(100, 102)]
        for kind, options in (("id_reset", {}), ("giant_jump", {}), ("list_symbol", {"symbol": "NEWUSDT"})):
            with pytest.raises(ValueError, match="needs a seeded market"):
                exchange.injector.inject(kind, options)


async def test_the_pace_is_the_recorded_one_times_speed(simulator: Start, tmp_path: Path) -> None:
    path = written(tmp_path / "some.ndjson", [line(100 + n, recv=n * 3600 * 10**9) for n in range(3)])
    async with simulator(replay=path, speed=1.0, paused=False) as exchange:
        await until(lambda: exchange.driver.state()["trades"])
        assert exchange.driver.state()["trades"] == 1  # the next one is due in an hour
        exchange.driver.set_pace(3600.0 * 1000)
        await until(lambda: exchange.driver.state()["finished"])


@pytest.mark.parametrize("layout", ["recorded", "current"])
async def test_the_recorded_bitcoin_trades(simulator: Start, layout: str) -> None:
    """What the simulator makes anew is what Binance sent, byte for byte."""
    path = recording(BTCUSDT_TRADES)
    if path is None:
        pytest.skip("no recordings here: set K2_RECORDINGS_DIR")
    async with simulator(replay=path, speed=0.0, layout=layout) as exchange:
        async with connected(exchange, "/stream?streams=btcusdt@trade", max_queue=None) as connection:
            exchange.driver.start()
            with path.open() as lines:
                for text in lines:
                    assert await connection.recv() == json.loads(text)["frame"]
        book = exchange.ledger.symbols["BTCUSDT"]
        assert (book.sent_trades, book.voids) == (BTCUSDT_TRADES_COUNT, [])
