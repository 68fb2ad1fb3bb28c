"""Requests of other streams beside those about trades: on one pool, with one budget."""

import asyncio

import pytest

from ingest.binance.history import History
from ingest.binance.rest import STREAMS_AT_ONCE
from ingest.binance.stream_history import Snapshots, StreamHistory
from ingest.core.errors import Retry
from ingest.core.streams import AGG_TRADE
from tests.harness.scripted_http import Answer, Request, page, scripted_http
from tests.unit.ingest.binance.history_of import Hands, history

BOOK = b'{"lastUpdateId":5,"bids":[],"asks":[]}'


async def test_snapshots_that_hang_do_not_hold_up_a_page_of_trades() -> None:
    def answer(request: Request) -> Answer:
        return Answer(BOOK, delay=60.0) if request.path.endswith("depth") else Answer(page(1, 1))

    async with scripted_http(answer) as server, history(server, rest_timeout_seconds=30.0) as past:
        books = [asyncio.ensure_future(Snapshots(past.rest).book(f"S{n}")) for n in range(40)]  # noqa: TID251
        try:
            async with asyncio.timeout(5.0):
                while len(server.requests) < STREAMS_AT_ONCE:  # noqa: ASYNC110 -- the server has no event for it
                    await asyncio.sleep(0.01)
                await asyncio.gather(*(past.trades_from(f"S{n}", 1) for n in range(16)))
            assert server.paths().count("depth") == STREAMS_AT_ONCE
        finally:
            for book in books:
                book.cancel()
            await asyncio.gather(*books, return_exceptions=True)


async def test_nothing_is_requested_for_other_streams_while_missing_trades_are() -> None:
    async with scripted_http(lambda _: Answer(b"[]")) as server, history(server) as past:
        past.rest.trades_first = True
        with pytest.raises(Retry, match="trades are missing"):
            await StreamHistory(past.rest, AGG_TRADE).trades_from("BTCUSDT", 7)
        assert server.requests == []
        past.rest.trades_first = False
        assert (await StreamHistory(past.rest, AGG_TRADE).trades_from("BTCUSDT", 7)).trades == []


async def after(past: History, *, book: bool) -> float:
    with pytest.raises(Retry) as caught:
        await (Snapshots(past.rest).book("BTCUSDT") if book else past.trades_from("BTCUSDT", 1))
    return caught.value.after


async def test_failures_of_other_streams_do_not_lengthen_the_patience_of_trades() -> None:
    async with scripted_http(lambda _: Answer(status=500)) as server, history(server, clock=Hands()) as past:
        assert [await after(past, book=True) for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]
        assert await after(past, book=False) == 0.5
