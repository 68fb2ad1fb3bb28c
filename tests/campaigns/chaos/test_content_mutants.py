"""Planted faults of a record's content against the auditor, in memory: the market at the edges shows each of them."""

import itertools
import json
import time
import zlib
from typing import cast

import pytest

from ingest.audit import model
from ingest.audit.decode import Decoder
from ingest.audit.model import LedgerPage, LedgerSymbol, LedgerTrade
from ingest.audit.run import Audit, Outcome
from ingest.audit.topic import TopicReader
from ingest.core.errors import Reject
from ingest.core.trade import Trade
from ingest.kafka import encoding
from ingest.kafka.schemas import trade_schema
from ingest.simulator.edges import time_at_edge
from ingest.simulator.ledger import Ledger, SymbolLedger, decimal
from ingest.simulator.market import Market, edge_listings, listings
from tests.campaigns.chaos.mutants import MUTANTS, Applied
from tests.harness.audit.feeds import Entry, Topic, position

NAMES = [name for name, one in MUTANTS.items() if one.apply.__module__.endswith("content") and one.plan != "shards"]
IN_MEMORY = [name for name in NAMES if name != "last-of-a-full-page-void"]
EVENTS = 2500


class Books:
    """The simulator's ledger as the auditor's, without HTTP."""

    page_limit, lag_seconds, complete = 100_000, 0.0, True

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def symbols(self) -> dict[str, LedgerSymbol] | None:
        return {
            name: LedgerSymbol(one.last_id, one.first_id, one.voids, (one.base_asset, one.quote_asset))
            for name, one in self.ledger.symbols.items()
        }

    def symbol(self, symbol: str) -> LedgerSymbol | None:
        return (self.symbols() or {}).get(symbol)

    def newest(self, symbol: str) -> model.Entry | None:
        return self.page(symbol, self.ledger.symbols[symbol].last_id, 1).trades[0]

    def forgotten(self, symbol: str) -> list[tuple[int, int]]:
        return []

    def page(self, symbol: str, from_id: int, limit: int) -> LedgerPage:
        rows = self.ledger.symbols[symbol].rows(from_id, limit)
        trades = [LedgerTrade(row[0], *texts(self.ledger.symbols[symbol], row[0]), row[3], row[4]) for row in rows]
        return LedgerPage(trades, trades[-1].trade_id + 1 if len(trades) == limit else None)


def texts(ledger: SymbolLedger, trade_id: int) -> tuple[str, str]:
    row = ledger.get(trade_id)
    assert row is not None
    return ledger.malformed_text.get(trade_id) or (decimal(row[1]), decimal(row[2]))


@pytest.fixture(scope="module")
def market() -> tuple[Ledger, list[Trade]]:
    """Trades of a market at the edges, in the order in which they happened; one has no quantity."""
    ledger = Ledger()
    source = Market(ledger, edge_listings(listings("40")), seed=7, burst=20, at_edges=True)
    draw, time_us = source._random, time.time_ns() // 1000 - 600 * 10**6
    trades: list[Trade] = []
    for _ in range(EVENTS):
        event = source.next()
        assert event is not None
        time_us = time_at_edge(draw, time_us + draw.randrange(3000))
        for price, quantity, maker in event.trades:
            number = event.ledger.append(price, quantity, time_us, maker)
            if len(trades) == EVENTS // 2:
                event.ledger.malformed_text[number] = (decimal(price), "0.00000000")
            trades.append(Trade(event.ledger.symbol, number, *texts(event.ledger, number), time_us, maker))
    # Streams of different symbols arrive a little out of order.
    for at in range(0, len(trades) - 1, 50):
        if trades[at].symbol != trades[at + 1].symbol:
            trades[at], trades[at + 1] = trades[at + 1], trades[at]
    return ledger, trades


def audited(ledger: Ledger, trades: list[Trade]) -> Outcome:
    """Encode the trades as the service does, and audit the records."""
    assets = {name: (one.base_asset, one.quote_asset) for name, one in ledger.symbols.items()}
    encoder = encoding.TradeEncoder(1, assets)
    now_us = time.time_ns() // 1000
    entries: list[Entry] = []
    for offset, trade in enumerate(trades):
        try:
            value = encoder.encode(trade, now_us)
        except Reject:
            continue  # what a service would declare void
        entries.append(Entry(trade.symbol.encode(), value, 0, offset, now_us))
    claims = [
        position(name, one.first_id, one.last_id, one.sent_trades) for name, one in ledger.symbols.items()
        if one.sent_trades
    ]  # fmt: skip
    schema = json.loads(trade_schema())
    topic, positions = Topic(entries), Topic(claims)
    return Audit(cast(TopicReader, topic), cast(TopicReader, positions), Books(ledger), Decoder(lambda _: schema)).run()


def test_without_a_planted_fault_everything_is_right(market: tuple[Ledger, list[Trade]]) -> None:
    outcome = audited(*market)
    assert outcome.verdict == "PASS", (outcome.reason, outcome.violations[:3])


@pytest.mark.parametrize("name", IN_MEMORY)
def test_the_auditor_sees_it(name: str, market: tuple[Ledger, list[Trade]]) -> None:
    with Applied(name):
        outcome = audited(*market)
    assert outcome.verdict == "FAIL", f"{name} has survived: {MUTANTS[name].breaks}"


def test_a_shard_is_a_checksum_of_the_symbol() -> None:
    """The auditor's rule for positions, against the service's."""
    from ingest.binance.symbols import shard_of

    for symbol, count in itertools.product(("BTCUSDT", "ETHDAI", "币安人生USDT"), (1, 2, 7)):
        assert shard_of(symbol, count) == zlib.crc32(symbol.encode()) % count
