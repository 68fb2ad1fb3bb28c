"""One truth, three ways to ask: whatever happens, stream, REST and the ledger's pages say the same."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingest.simulator.drivers import MarketDriver
from ingest.simulator.frames import COMBINED, LAYOUTS, MICROSECONDS, Layout, Outgoing
from ingest.simulator.ledger import INT64_MAX, Ledger
from ingest.simulator.rest import RestApi
from tests.unit.ingest.simulator.client import connected
from tests.unit.ingest.simulator.conftest import Start, until

row = st.tuples(
    st.integers(1, INT64_MAX),
    st.integers(1, INT64_MAX),
    st.integers(10**15, 4 * 10**15),
    st.booleans(),
    st.integers(0, 10**6),
)


@given(
    rows=st.lists(row, min_size=1, max_size=20),
    first_id=st.integers(0, 2**62),
    layout=st.sampled_from(LAYOUTS),
    micro=st.booleans(),
    combined=st.booleans(),
)
def test_an_event_says_what_history_says(
    rows: list[tuple[int, int, int, bool, int]], first_id: int, layout: Layout, micro: bool, combined: bool
) -> None:
    ledger = Ledger()
    symbol = ledger.add("1INCHBTC", "1INCH", "BTC", first_id)
    variant = (MICROSECONDS if micro else 0) | (COMBINED if combined else 0)
    unit = 1 if micro else 1000
    events = []
    for price, quantity, time_us, maker, delay in sorted(rows, key=lambda one: one[2]):
        trade_id = symbol.append(price, quantity, time_us, maker)
        sent = Outgoing(symbol, (trade_id, price, quantity, time_us, maker), time_us + delay, layout)
        message = json.loads(sent.message(variant))
        assert not combined or message["stream"] == "1inchbtc@trade"
        event = message["data"] if combined else message
        assert (event["e"], event["s"], event["E"]) == ("trade", "1INCHBTC", (time_us + delay) // unit)
        assert ("M" in event) == (layout != "no_m")
        events.append((event["t"], event["p"], event["q"], event["T"], event["m"]))
    rest = RestApi(ledger, now_us=lambda: 4 * 10**15)
    headers = {"X-MBX-TIME-UNIT": "MICROSECOND" if micro else "MILLISECOND"}
    answer = rest.handle("GET", "/api/v3/historicalTrades", f"symbol=1INCHBTC&fromId={first_id}", headers, "::1")
    assert answer is not None
    history = [
        (one["id"], one["price"], one["qty"], one["time"], one["isBuyerMaker"]) for one in json.loads(answer.body)
    ]
    assert history == events


async def test_a_market_with_faults_over_real_sockets(simulator: Start) -> None:
    """Every id from first to last is in the stream, or REST has it, or it is a void; nothing differs."""
    names = "BTCUSDT,ETHUSDT,ADABTC"
    path = "/stream?streams=" + "/".join(f"{name.lower()}@trade" for name in names.split(",")) + "&timeUnit=MICROSECOND"
    async with simulator(symbols=names, rate=20_000, seed=3) as exchange, connected(exchange, path) as connection:
        heard: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in names.split(",")}
        exchange.driver.start()
        for kind, options in (
            ("gap", {"count": 7}),
            ("void", {"count": 2}),
            ("duplicate", {}),
            ("reorder", {"count": 3}),
        ):
            for name in heard:
                exchange.injector.inject(kind, {"symbol": name, **options})
        books = exchange.ledger.symbols
        await until(lambda: min(book.sent_trades for book in books.values()) > 300)
        exchange.driver.stop()
        heads = {name: book.last_id for name, book in books.items()}
        repeated = 0
        while any(max(events, default=-1) < heads[name] for name, events in heard.items()):
            event = json.loads(await connection.recv())["data"]
            repeated += event["t"] in heard[event["s"]]
            heard[event["s"]][event["t"]] = event
        assert repeated == 3
        for name, events in heard.items():
            book = books[name]
            void = {one for first, last in book.voids for one in range(first, last + 1)}
            assert len(void) == 2
            missing = 0
            for trade_id in range(book.first_id, heads[name] + 1):
                known = book.get(trade_id)
                assert (known is None) == (trade_id in void)
                if trade_id in events and known is not None:
                    event = events[trade_id]
                    assert (known[3], known[4]) == (event["T"], event["m"])
                    assert (known[1], known[2]) == (int(event["p"].replace(".", "")), int(event["q"].replace(".", "")))
                    assert event["E"] >= event["T"]
                else:
                    missing += known is not None
            assert missing == 7
        assert isinstance(exchange.driver, MarketDriver)
        assert exchange.driver.state()["trades"] == sum(book.sent_trades for book in books.values())
