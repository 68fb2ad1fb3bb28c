"""Days of 1,500 symbols in compressed time: every value and memory stay in bounds, every endpoint still answers."""

import json
import os
from array import array
from collections.abc import Iterator

import psutil
import pytest

from ingest.simulator import klines
from ingest.simulator.app import BYTES_PER_TRADE, Options, Simulator
from ingest.simulator.klines import DAY_US, MINUTE_US, Candles
from ingest.simulator.ledger import INT64_MAX, Ledger, SymbolLedger
from ingest.simulator.market import Market, listings

MEMORY_MB = 8.0
ROUNDS = 24
OVERHEAD_MB = 64.0
"""What RSS may grow by besides the ledger: candles, replies, the allocator."""
PAGES = (
    "historicalTrades?symbol={}&limit=1000",
    "aggTrades?symbol={}&limit=1000",
    "trades?symbol={}",
    "klines?symbol={}&interval=1h&limit=1000",
    "ticker/24hr?symbol={}",
    "depth?symbol={}",
)


class Days:
    """A simulator whose clock moves on by as much as the caller says with each event."""

    def __init__(self, trades: int, days: float) -> None:
        listed = tuple(listings("1500"))
        options = Options(symbols=listed, memory_mb=MEMORY_MB, weight_limit=10**9, paused=True, burst=900)
        self.simulator = Simulator(options)
        self.source = Market(Ledger(), listed, seed=options.seed)
        self.begin_us = self.simulator.clock.now_us()
        self.made = 0
        self._trades, self._step_us = trades, days * DAY_US / trades

    def rounds(self) -> Iterator[int]:
        """Play; between the rounds the oldest trades are forgotten, as the running simulator does every second."""
        simulator, books = self.simulator, self.simulator.ledger.symbols
        most = MEMORY_MB * 2**20 / BYTES_PER_TRADE
        trimmed = 0
        for number in range(1, ROUNDS + 1):
            while self.made < self._trades * number / ROUNDS:
                event = self.source.next()
                assert event is not None
                now_us = self.begin_us + int(self.made * self._step_us)
                for price, quantity, maker in event.trades:
                    simulator.exchange.trade(
                        books[event.ledger.symbol], price, quantity, now_us, maker, event_us=now_us
                    )
                self.made += len(event.trades)
                if self.made - trimmed > most / 2:
                    simulator._trim()
                    trimmed = self.made
            simulator.clock.skew_us = self.begin_us + int(self.made * self._step_us) - self._machine_us()
            simulator._trim()
            yield number

    def _machine_us(self) -> int:
        return self.simulator.clock.now_us() - self.simulator.clock.skew_us

    def answers(self, symbol: str) -> None:
        """Every endpoint answers for the symbol, and what it says is in bounds."""
        for page in PAGES:
            path, _, query = page.format(symbol).partition("?")
            reply = self.simulator.exchange.rest.handle("GET", f"/api/v3/{path}", query, {}, "127.0.0.1")
            assert reply is not None
            assert reply.status == 200, (page, reply.body[:200])
            assert json.loads(reply.body) is not None
        book = self.simulator.ledger.symbols[symbol]
        rows = book.newest(1000)
        assert all(0 < row[1] <= INT64_MAX and 0 < row[2] <= INT64_MAX for row in rows)
        assert [row[3] for row in rows] == sorted(row[3] for row in rows)
        assert book.next_id <= INT64_MAX

    def ledger_bytes(self) -> int:
        """What all columns take, rows that are forgotten and not moved yet included."""
        columns: Iterator[array[int] | bytearray] = (
            column
            for book in self.simulator.ledger.symbols.values()
            for segment in book._segments
            for column in (segment.prices, segment.quantities, segment.times, segment.makers, segment.agg_starts)
        )
        return sum(len(column) * (1 if isinstance(column, bytearray) else column.itemsize) for column in columns)


@pytest.mark.parametrize(
    ("trades", "days"),
    [
        pytest.param(400_000, 3.0, id="compressed"),
        pytest.param(25_000_000, 1.0, marks=[pytest.mark.slow, pytest.mark.timeout(3600)], id="whole"),
    ],
)
async def test_days_of_1500_symbols(trades: int, days: float) -> None:
    played = Days(trades, days)
    symbols = list(played.simulator.ledger.symbols)
    asked = [symbols[0], symbols[20], symbols[700], symbols[-1]]
    process, first = psutil.Process(os.getpid()), 0
    for number in played.rounds():
        for symbol in asked:
            played.answers(symbol)
        assert played.ledger_bytes() <= MEMORY_MB * 2**20
        if number == ROUNDS // 4:
            first = process.memory_info().rss
    assert process.memory_info().rss - first < OVERHEAD_MB * 2**20
    assert played.made >= trades
    assert sum(len(book.held) for book in played.simulator.ledger.symbols.values()) < trades / 2


def test_candles_of_minutes_are_forgotten_after_a_week(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(klines, "MOST_MINUTES", 10)
    book = SymbolLedger("BTCUSDT", "BTC", "USDT", 1)
    candles = Candles(book)
    for minute in range(1, 100):
        book.append(100 + minute, 1, minute * MINUTE_US, True)
        found = candles.page("1m", 5, minute * MINUTE_US)
        assert [one.close for one in found] == [100 + n for n in range(max(1, minute - 4), minute + 1)]
        assert len(candles._minutes) <= 20
