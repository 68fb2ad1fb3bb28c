"""The topics of one market agree with each other, and each disagreement is found: no ledger is needed for it."""

from collections.abc import Callable
from typing import Any, cast

import pytest

from ingest.audit import agreement
from ingest.audit.agreement import TAKEN
from ingest.audit.agreement_run import AgreementAudit
from ingest.audit.run import Outcome
from ingest.audit.streams import topic_of, topic_of_trades
from ingest.simulator.block_trades import BlockTrades
from ingest.simulator.books import Books
from ingest.simulator.klines import Candles
from ingest.simulator.ledger import Ledger, decimal
from ingest.simulator.market import Market, listings
from tests.harness.audit import market
from tests.harness.audit.books import SYMBOL
from tests.harness.audit.feeds import Records, Topic

Fields = dict[str, Any]
Topics = dict[str, list[Fields]]
MINUTE_US = 60_000_000
BEGIN_US = 1_796_000_000_000_000 // MINUTE_US * MINUTE_US + 1_000_000


def topics() -> Topics:
    """Some minutes of a seeded market, as a flawless writer records them."""
    ledger = Ledger()
    source = Market(ledger, listings(SYMBOL), seed=5, burst=20)
    book = Books(ledger, seed=5, price=source.price).of(ledger.symbols[SYMBOL])
    one, time_us = ledger.symbols[SYMBOL], BEGIN_US
    found: Topics = {name: [] for name in TAKEN}
    bids, asks = book.at(book.update_id) or ([], [])
    sides = [[[decimal(price), decimal(quantity)] for price, quantity in side] for side in (bids, asks)]
    found["depth"].append(
        market.snapshot({"lastUpdateId": book.update_id, "bids": sides[0], "asks": sides[1]}, BEGIN_US)
    )
    sent = book.update_id
    for _ in range(600):
        event = source.next()
        assert event is not None
        time_us += 500_000
        for price, quantity, maker in event.trades:
            one.append(price, quantity, time_us, maker)
        book.follow()  # type: ignore[attr-defined]
        changes = book.changes(sent, book.update_id)
        levels = [
            [[decimal(abs(key)), decimal(quantity)] for key, quantity in changes.items() if (key > 0) is bid]
            for bid in (True, False)
        ]
        update: dict[str, Any] = {
            "s": SYMBOL,
            "E": time_us,
            "U": sent + 1,
            "u": book.update_id,
            "b": levels[0],
            "a": levels[1],
        }
        found["depth"].append(market.update(update))
        sent = book.update_id
    for quote in book.quotes(0, 10**6):
        names = zip("bBaA", map(decimal, quote[1:]), strict=True)
        found["bookTicker"].append(market.quote({"s": SYMBOL, "u": quote.update_id, **dict(names)}, time_us))
    for number, price, quantity, at, maker in one.newest(10**6):
        found["trade"].append(
            {
                "symbol": SYMBOL, "source_sequence": number, "price": market.amount(decimal(price)),
                "quantity": market.amount(decimal(quantity)), "timestamp": at, "side": "SELL" if maker else "BUY",
            }
        )  # fmt: skip
    for agg in one.aggregates(10**6):
        event_of: dict[str, Any] = dict(zip("apqflTm", agg, strict=True))
        event_of |= {"p": decimal(agg.price), "q": decimal(agg.quantity), "s": SYMBOL, "E": agg.time_us}
        found["aggTrade"].append(market.aggregate(event_of))
    for candle in Candles(one).page("1m", 100, time_us // MINUTE_US * MINUTE_US - 1, start=0):
        bar = dict(zip("ohlcv", (candle.open, candle.high, candle.low, candle.close, candle.volume), strict=True))
        bar |= {"q": candle.quote // 10**8, "V": candle.taker_volume, "Q": candle.taker_quote // 10**8}
        texts = {name: decimal(units) for name, units in bar.items()}
        ids = {"f": candle.first_id, "L": candle.last_id, "n": candle.count, "i": "1m", "x": True}
        times = {"t": candle.open_us, "T": candle.close_us}
        found["bars"].append(market.bar({"s": SYMBOL, "E": time_us, "k": texts | ids | times}, MINUTE_US))
    assert BlockTrades(one, None).next_id  # a market without block trades
    return found


def judged(found: Topics, *, absent: str = "") -> Outcome:
    store = Records()
    readers = {
        name: (
            cast("Any", Topic([store.entry(one, at) for at, one in enumerate(rows)], exists=name != absent)),
            cast("Any", store),
        )
        for name, rows in found.items()
    }
    return AgreementAudit(readers).run()


def test_the_topics_of_one_market_agree() -> None:
    found = topics()
    outcome = judged(found)
    assert outcome.verdict == "PASS", (outcome.reason, outcome.violations[:3])
    assert outcome.totals.committed == len(found["aggTrade"]) + len(found["bars"]) - 1  # the first minute is not whole
    assert outcome.totals.snapshots >= 500


def changed(name: str, field: str, value: Any) -> Callable[[Topics], None]:
    def change(found: Topics) -> None:
        at = len(found[name]) // 2
        found[name][at] = found[name][at] | {field: value(found[name][at][field]) if callable(value) else value}

    return change


def dropped(name: str) -> Callable[[Topics], None]:
    return lambda found: found[name].__delitem__(len(found[name]) // 2)


def stale_quotes(found: Topics) -> None:
    """Leave best prices out while the book goes on, for longer than the exchange ever does."""
    half = len(found["bookTicker"]) // 2
    del found["bookTicker"][half : half + 100]


CHANGES: dict[str, Callable[[Topics], None]] = {
    "a trade is missing": dropped("trade"),
    "a trade has another quantity": changed("trade", "quantity", market.amount("0.00000001")),
    "a trade has another price": changed("trade", "price", market.amount("0.00000001")),
    "a trade has another side": changed("trade", "side", lambda side: "BUY" if side == "SELL" else "SELL"),
    "an aggregate is missing": dropped("aggTrade"),
    "an aggregate has another quantity": changed("aggTrade", "quantity", market.amount("0.00000001")),
    "an aggregate has another time": changed("aggTrade", "timestamp", lambda time: time + 1),
    "an aggregate has trades that do not exist": changed("aggTrade", "last_trade_id", lambda last: last + 1),
    "a bar was corrected": changed("bars", "volume", market.amount("1")),
    "a bar has another number of trades": changed("bars", "trade_count", lambda count: count + 1),
    "quotes are left out": stale_quotes,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_disagreement_is_found(name: str) -> None:
    found = topics()
    CHANGES[name](found)
    outcome = judged(found)
    assert outcome.verdict == "FAIL", outcome.reason
    assert outcome.totals.disagreement


def test_a_single_best_price_that_is_left_out_is_counted_and_no_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    found = topics()
    ends = {one["final_update_id"] for one in found["depth"][100:]}
    gone = next(at for at, one in enumerate(found["bookTicker"]) if one["source_sequence"] in ends)
    del found["bookTicker"][gone]
    assert judged(found).verdict == "FAIL"  # one of about six hundred
    monkeypatch.setattr(agreement, "UNEQUAL_QUOTES", 100)
    outcome = judged(found)
    assert (outcome.verdict, "1 of them unequal" in outcome.reason) == ("PASS", True), outcome.reason


def test_a_topic_that_is_absent_makes_it_inconclusive() -> None:
    outcome = judged(topics(), absent="bars")
    assert outcome.verdict == "INCONCLUSIVE"
    assert "no topic" in outcome.reason


@pytest.mark.parametrize(
    ("trades", "kind", "topic"),
    [("market.crypto.trades.binance", "books", "market.crypto.books.binance"), ("name", "bars", "name.bars")],
)
def test_topics_that_belong_together(trades: str, kind: str, topic: str) -> None:
    assert topic_of(trades, kind) == topic
    assert topic_of_trades(topic, kind) == trades
    assert topic_of(trades, "trades") == topic_of_trades(trades, "trades") == trades
