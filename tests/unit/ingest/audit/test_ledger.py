"""The ledgers over real sockets, and the cursor against a dictionary."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.audit.cursor import Cursor, page_size
from ingest.audit.ledger import RestLedger, SimulatorLedger
from ingest.audit.model import Inconclusive, LedgerPage, LedgerSymbol, LedgerTrade
from tests.harness.audit.books import SYMBOL, trade
from tests.harness.audit.ledger_server import LedgerServer


class Pages:
    """A ledger in memory that counts how often it is asked."""

    page_limit = 1000
    lag_seconds = 0.0
    complete = True

    def __init__(self, trades: dict[int, LedgerTrade]) -> None:
        self.trades = trades
        self.asked = 0

    def symbols(self) -> dict[str, LedgerSymbol] | None:
        return None

    def symbol(self, symbol: str) -> LedgerSymbol | None:
        return LedgerSymbol(max(self.trades, default=-1)) if symbol == SYMBOL else None

    def forgotten(self, symbol: str) -> list[tuple[int, int]]:
        return []

    def newest(self, symbol: str) -> LedgerTrade | None:
        return self.trades[max(self.trades)] if self.trades else None

    def page(self, symbol: str, from_id: int, limit: int) -> LedgerPage:
        assert symbol == SYMBOL
        self.asked += 1
        due = sorted(number for number in self.trades if number >= from_id)
        page = [self.trades[number] for number in due[:limit]]
        return LedgerPage(page, page[-1].trade_id + 1 if len(due) > limit else None)


id_sets = st.sets(st.integers(0, 200), min_size=1)


@given(id_sets, st.integers(1, 20), st.lists(st.one_of(st.integers(0, 210), st.sampled_from(range(0, 200, 7)))))
def test_a_cursor_finds_what_there_is_in_any_order(ids: set[int], limit: int, asked: list[int]) -> None:
    trades = {number: trade(number) for number in ids}
    cursor = Cursor(Pages(trades), SYMBOL, limit)
    for number in asked:
        assert cursor.at(number) == trades.get(number)
    for number in sorted(asked):
        assert cursor.at(number) == trades.get(number)


@given(id_sets, st.integers(1, 20), st.integers(0, 210), st.integers(0, 210))
def test_a_range_of_trades(ids: set[int], limit: int, first: int, last: int) -> None:
    trades = {number: trade(number) for number in ids}
    found = list(Cursor(Pages(trades), SYMBOL, limit).between(first, last))
    assert found == [trades[n] for n in sorted(ids) if first <= n <= last]


def test_in_order_every_page_is_asked_for_once() -> None:
    pages = Pages({n: trade(n) for n in range(1000)})
    cursor = Cursor(pages, SYMBOL, 100)
    assert all(cursor.at(n) is not None for n in range(1000))
    assert pages.asked == 10


def test_what_the_exchange_adds_meanwhile_is_found_and_asking_in_vain_has_an_end() -> None:
    pages = Pages({n: trade(n) for n in range(10)})
    cursor = Cursor(pages, SYMBOL, 100)
    assert cursor.at(3) is not None
    pages.trades |= {n: trade(n) for n in range(10, 20)}
    assert all(cursor.at(n) == trade(n) for n in range(3, 20))
    assert all(cursor.at(n) is None for n in range(10**6, 10**6 + 3000))
    assert pages.asked < 1100


def test_a_ledger_that_stands_still_is_no_endless_loop() -> None:
    class Stuck(Pages):
        def page(self, symbol: str, from_id: int, limit: int) -> LedgerPage:
            return LedgerPage([], from_id)

    with pytest.raises(Inconclusive, match="does not go on after 0"):
        list(Cursor(Stuck({}), SYMBOL, 10).between(0, 5))


@pytest.mark.parametrize("symbols", [1, 10, 600, 5000])
def test_pages_of_all_symbols_fit_into_memory(symbols: int) -> None:
    assert 500 <= page_size(symbols) <= 100_000
    assert symbols > 600 or page_size(symbols) * symbols <= 300_000


@settings(max_examples=10, deadline=None)
@given(st.sets(st.integers(0, 60), min_size=1), st.integers(1, 9))
def test_the_simulators_books_over_http(ids: set[int], page: int) -> None:
    trades = [trade(number) for number in sorted(ids)]
    with LedgerServer({SYMBOL: trades}, page=page) as server:
        server.voids = {SYMBOL: [(3, 4)]}
        ledger = SimulatorLedger(server.url)
        assert ledger.symbols() == {SYMBOL: LedgerSymbol(max(ids), min(ids), [(3, 4)], ("BTC", "USDT"))}
        assert ledger.symbol("NOPE") is None
        assert list(Cursor(ledger, SYMBOL, 50).between(0, 100)) == trades


def test_the_exchanges_history_is_asked_for_in_microseconds() -> None:
    trades = [trade(number) for number in range(50, 75)]
    with LedgerServer({SYMBOL: trades}) as server:
        ledger = RestLedger(server.url)
        assert ledger.symbol(SYMBOL) == LedgerSymbol(74, assets=("BTC", "USDT"))
        assert ledger.symbol("NOPE") is None
        assert list(Cursor(ledger, SYMBOL, 10).between(52, 70)) == trades[2:21]
        assert {unit for _, _, unit in server.requests} == {"MICROSECOND"}


def test_a_rate_limit_is_waited_for_as_long_as_it_says() -> None:
    slept: list[float] = []
    with LedgerServer({SYMBOL: [trade(1)]}) as server:
        server.scripted = [(429, {"Retry-After": "7"}), (429, {}), (429, {"Retry-After": "0"})]
        assert RestLedger(server.url, sleep=slept.append).page(SYMBOL, 0, 5).trades == [trade(1)]
        assert slept == [7.0, 60.0, 1.0]
        server.scripted = [(429, {"Retry-After": "601"})]
        with pytest.raises(Inconclusive, match="rate limit"):
            RestLedger(server.url, sleep=slept.append).page(SYMBOL, 0, 5)
        assert len(slept) == 3


def test_a_ban_ends_the_audit_at_once() -> None:
    with LedgerServer({}) as server:
        server.scripted = [(418, {"Retry-After": "120"})]
        with pytest.raises(Inconclusive, match=r"banned.* 120 s"):
            RestLedger(server.url, sleep=lambda _: pytest.fail("no waiting for a ban")).page(SYMBOL, 0, 5)
        assert len(server.requests) == 1


def test_the_shared_weight_is_left_to_others() -> None:
    slept: list[float] = []
    with LedgerServer({SYMBOL: [trade(1)]}) as server:
        server.headers = {"X-MBX-USED-WEIGHT-1M": "2999"}
        ledger = RestLedger(server.url, sleep=slept.append, clock_ns=lambda: 1_700_000_000_000_000_000)
        ledger.page(SYMBOL, 0, 5)
        assert slept == []
        server.headers = {"X-MBX-USED-WEIGHT-1M": "3000"}
        ledger.page(SYMBOL, 0, 5)
        assert slept == [pytest.approx(40.0)]


def test_a_ledger_that_does_not_answer_properly_is_no_verdict() -> None:
    slept: list[float] = []
    with LedgerServer({SYMBOL: [trade(1)]}) as server:
        url = server.url
        server.scripted = [*((500, {}) for _ in range(4)), (200, {})]
        for message in ("answered 500", "no answer to /admin/state"):
            with pytest.raises(Inconclusive, match=message):
                RestLedger(url, sleep=slept.append).symbol(SYMBOL) if "500" in message else SimulatorLedger(
                    url
                ).symbols()
    assert slept == [0.25, 0.5, 1.0]
    with pytest.raises(Inconclusive, match="does not answer"):
        RestLedger(url, sleep=slept.append).symbol(SYMBOL)


def test_one_failed_answer_is_asked_for_again() -> None:
    with LedgerServer({SYMBOL: [trade(1)]}) as server:
        server.scripted = [(503, {}), (200, {})]  # the second is no list of trades, but JSON: not asked for again
        ledger = RestLedger(server.url, sleep=lambda _: None)
        with pytest.raises(Inconclusive, match="no answer to"):
            ledger.page(SYMBOL, 0, 5)
        server.scripted = [(500, {}), (502, {}), (503, {})]
        assert ledger.page(SYMBOL, 0, 5).trades == [trade(1)]
        server.cut = 2
        assert ledger.page(SYMBOL, 0, 5).trades == [trade(1)]


@pytest.mark.parametrize("body", [{"code": -1100, "msg": "Illegal characters"}, {"msg": "no code"}, [], "text"])
def test_only_invalid_symbol_means_that_the_exchange_does_not_list_it(body: object) -> None:
    with LedgerServer({SYMBOL: [trade(1)]}) as server:
        server.refusal = (400, body)
        with pytest.raises(Inconclusive, match="answered 400"):
            RestLedger(server.url).symbol(SYMBOL)


class _Endless(BaseHTTPRequestHandler):
    """A body without end, or the nested body of a refusal."""

    def do_GET(self) -> None:
        nested = "exchangeInfo" in self.path
        self.send_response(400 if nested else 200)
        self.end_headers()
        try:
            self.wfile.write(b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}" if nested else b"[")
            while not nested:
                self.wfile.write(b" " * 65_536)
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class's name)
        pass


@pytest.fixture
def endless() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endless)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_hostile_exchange_s_bodies_end_in_a_verdict(endless: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.audit.ledger.ANSWER_BYTES", 1_000_000)
    ledger = RestLedger(endless, sleep=lambda _: None)
    with pytest.raises(Inconclusive, match="beyond 1000000 bytes"):
        ledger.page("BTCUSDT", 0, 10)
    with pytest.raises(Inconclusive, match="answered 400"):
        ledger.symbol("BTCUSDT")
