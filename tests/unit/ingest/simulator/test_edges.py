"""A market at the edges crosses every bound by construction; its faults of ids, history and freezes."""

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ingest.simulator import edges
from ingest.simulator.ledger import INT64_MAX, Ledger
from ingest.simulator.market import MOST_QUANTITY, Market, edge_listings, listings
from ingest.simulator.tls import CA_FILE, CA_KEY_FILE, TlsUnavailable, server_context
from tests.unit.ingest.simulator.conftest import Start, trade, until
from tests.unit.ingest.simulator.test_derived import rest

FORMER = {2**bits for bits in range(13, 63)} | {10**digits for digits in range(4, 19)} | {8_192, 10_000, 2**53}


def test_ids_cross_every_bound_and_two_symbols_share_each() -> None:
    first = edges.first_ids()
    for edge in FORMER:
        assert sum(one < edge <= one + 2 * edges.LEAD for one in first) >= 2, edge
    assert min(first) == 0


def test_prices_and_quantities_cross_every_bound() -> None:
    ledger = Ledger()
    market = Market(ledger, edge_listings(listings("4")), seed=1, burst=50, at_edges=True)
    prices: set[int] = set()
    quantities: set[int] = set()
    for _ in range(6000):
        event = market.next()
        assert event is not None
        for price, quantity, _ in event.trades:
            assert 0 < price <= INT64_MAX
            assert 0 < quantity <= INT64_MAX
            prices.add(price)
            quantities.add(quantity)
    due = {edge + step for edge in edges.values() for step in (-1, 0, 1) if 1 <= edge + step <= INT64_MAX}
    assert due - prices == set()
    assert due - quantities == set()


def test_some_quote_assets_are_told_by_no_suffix() -> None:
    named = edge_listings(listings("10"))
    assert len(named) == 10
    assert {(one.base, one.quote) for one in named} >= {("BNB", "USD"), ("XT", "USD")}


async def test_times_lie_at_bounds_and_never_go_back(simulator: Start) -> None:
    async with simulator(rate=5000, edges=True) as exchange:
        exchange.driver.start()
        await until(lambda: sum(one.sent_trades for one in exchange.ledger.symbols.values()) > 2000)
        exchange.driver.stop()
        found: list[int] = []
        for one in exchange.ledger.symbols.values():
            times = [row[3] for row in one.newest(5000)]
            assert times == sorted(times)
            found += times
        assert any(time % block in (0, block - 1) for time in found for block in (1000, 8192))


def test_a_market_of_1500_symbols_never_exceeds_64_bits() -> None:
    ledger = Ledger()
    market = Market(ledger, listings("1500"), seed=3)
    for one in market._instruments.values():
        one.price = one.tick  # as low as it may fall
        for _ in range(20):
            for price, quantity, maker in market._event(one).trades:
                assert quantity <= MOST_QUANTITY
                one.ledger.append(price, quantity, 1, maker)


async def test_ids_that_are_taken_are_used_again(simulator: Start) -> None:
    async with simulator() as exchange:
        ids = trade(exchange, count=50)
        hit = exchange.injector.inject("id_reset", {"symbol": "BTCUSDT", "back": 20})
        assert hit["next_id"] == ids[-1] - 20
        again = trade(exchange, count=3)
        assert again == [ids[-1] - 20 + n for n in range(3)]
        assert [row["id"] for row in rest(exchange, "historicalTrades", "symbol=BTCUSDT")] == again
        state = exchange.ledger.symbols["BTCUSDT"]
        assert state.former == [(ids[0], ids[-1])]


async def test_ids_that_are_free_are_used_as_before(simulator: Start) -> None:
    async with simulator() as exchange:
        ids = trade(exchange, count=50)
        exchange.injector.inject("id_reset", {"symbol": "BTCUSDT", "back": 1000})
        assert trade(exchange) == [ids[-1] - 1000]
        assert exchange.ledger.symbols["BTCUSDT"].former == []


async def test_a_delisted_symbol_is_listed_anew_and_trades(simulator: Start) -> None:
    async with simulator(rate=500) as exchange:
        trade(exchange, count=5)
        exchange.injector.inject("delist", {"symbol": "BTCUSDT"})
        exchange.injector.inject("relist", {"symbol": "BTCUSDT", "first_id": 1})
        exchange.driver.start()
        await until(lambda: exchange.ledger.symbols["BTCUSDT"].sent_trades > 5)
        assert rest(exchange, "historicalTrades", "symbol=BTCUSDT&fromId=0&limit=1")[0]["id"] == 1


@pytest.mark.parametrize(("options", "first_id"), [({}, 1), ({"first_id": 77}, 77)])
async def test_list_symbol_lists_a_delisted_symbol_anew(
    simulator: Start, options: dict[str, int], first_id: int
) -> None:
    async with simulator() as exchange:
        trade(exchange, count=5)
        exchange.injector.inject("delist", {"symbol": "BTCUSDT"})
        hit = exchange.injector.inject("list_symbol", {"symbol": "BTCUSDT", **options})
        assert hit["first_id"] == first_id
        assert trade(exchange, count=2) == [first_id, first_id + 1]


async def test_the_same_hole_in_consecutive_replies(simulator: Start) -> None:
    async with simulator() as exchange:
        ids = trade(exchange, count=200)
        hit = exchange.injector.inject("history_hole", {"symbol": "BTCUSDT", "back": 100, "count": 10, "calls": 2})

        def asked(from_id: int) -> list[int]:
            query = f"symbol=BTCUSDT&fromId={from_id}&limit=1000"
            return [row["id"] for row in rest(exchange, "historicalTrades", query)]

        lacking = [one for one in ids if not hit["first"] <= one <= hit["last"]]
        assert asked(ids[150]) == ids[150:]  # has none of them: not counted
        assert asked(ids[0]) == lacking
        assert asked(hit["first"]) == [one for one in lacking if one > hit["last"]]
        assert asked(ids[0]) == ids


@pytest.mark.parametrize(("form", "left"), [("hole", [33 + 33] * 3), ("tail", [50] * 3), ("turns", [66, 50, 66])])
async def test_lists_are_truncated_in_the_form_that_is_asked_for(simulator: Start, form: str, left: list[int]) -> None:
    async with simulator() as exchange:
        trade(exchange, count=100)
        exchange.injector.inject("rest_truncate", {"calls": 3, "form": form})
        assert [len(rest(exchange, "trades", "symbol=BTCUSDT")) for _ in range(3)] == left


async def test_a_frozen_exchange_stands_still_as_a_whole(simulator: Start) -> None:
    async with simulator() as exchange:
        loop = asyncio.get_running_loop()
        exchange.injector.inject("exchange_frozen", {"seconds": 0.4})
        began = loop.time()
        beats = []
        while loop.time() - began < 0.8:
            await asyncio.sleep(0.01)
            beats.append(loop.time())
        assert max(after - before for before, after in pairwise(beats)) >= 0.4


def test_the_authority_stays_in_its_folder(tmp_path: Path) -> None:
    server_context(tmp_path, "127.0.0.1")
    authority, server = (tmp_path / CA_FILE).read_bytes(), (tmp_path / "server.pem").read_bytes()
    server_context(tmp_path, "127.0.0.1", flaw="unknown_ca")
    assert (tmp_path / CA_FILE).read_bytes() == authority
    assert (tmp_path / "server.pem").read_bytes() != server
    assert (tmp_path / CA_KEY_FILE).stat().st_mode & 0o077 == 0
    (tmp_path / CA_KEY_FILE).write_text("no key")
    with pytest.raises(TlsUnavailable, match="no authority"):
        server_context(tmp_path, "127.0.0.1")


async def test_the_state_tells_of_former_listings(simulator: Start) -> None:
    async with simulator() as exchange:
        ids = trade(exchange, count=5)
        exchange.injector.inject("relist", {"symbol": "BTCUSDT"})
        answer: Any = exchange._admin._handler("GET", "/admin/state", {"host": "localhost"}, b"", "::1")
        state = json.loads(answer.body)["symbols"]["BTCUSDT"]
        assert (state["first_id"], state["former"]) == (1, [[ids[0], ids[-1]]])
