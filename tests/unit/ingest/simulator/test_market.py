"""The made-up market: its content is a function of the seed; bursts, quiet symbols, ids beyond 32 bits."""

from collections import Counter

import pytest

from ingest.simulator.ledger import Ledger
from ingest.simulator.market import MOST_SYMBOLS, Listing, Market, listings, split


def content(
    seed: int, events: int = 3000, symbols: str = "40"
) -> tuple[list[tuple[str, int, int, bool]], Ledger, list[int]]:
    ledger = Ledger()
    market = Market(ledger, listings(symbols), seed=seed)
    trades, sizes = [], []
    for _ in range(events):
        event = market.next()
        assert event is not None
        sizes.append(len(event.trades))
        trades += [(event.ledger.symbol, *trade) for trade in event.trades]
    return trades, ledger, sizes


def test_the_same_seed_makes_the_same_market_and_another_another() -> None:
    first, again, other = content(1), content(1), content(2)
    assert first[0] == again[0]
    assert first[0] != other[0]
    ids = [[one.first_id for one in ledger.symbols.values()] for ledger in (first[1], again[1], other[1])]
    assert ids[0] == ids[1] != ids[2]


def test_a_symbols_content_does_not_depend_on_the_others() -> None:
    alone = [trade for trade in content(5, symbols="BTCUSDT")[0] if trade[0] == "BTCUSDT"]
    among = [trade for trade in content(5)[0] if trade[0] == "BTCUSDT"]
    assert among[:200] == alone[:200]


def test_bursts_busy_and_quiet_symbols_and_large_ids() -> None:
    trades, ledger, sizes = content(1, events=20_000)
    assert max(sizes) > 500
    assert 0.01 < sum(size for size in sizes if size > 100) / sum(sizes) < 0.15
    counts = Counter(trade[0] for trade in trades)
    symbols = list(ledger.symbols)
    assert counts[symbols[0]] > 5 * counts[symbols[20]]
    assert sum(counts[symbol] for symbol in symbols[-4:]) < 0.01 * len(trades)
    assert ledger.symbols["BTCUSDT"].first_id > 2**32
    assert {first < 2**32 for first in (one.first_id for one in ledger.symbols.values())} == {True, False}


def test_prices_and_quantities_are_whole_ticks_and_steps() -> None:
    trades, ledger, _ = content(3)
    for symbol, price, quantity, _ in trades:
        book = ledger.symbols[symbol]
        assert price % int(book.tick_size.replace(".", "")) == 0
        assert quantity % int(book.step_size.replace(".", "")) == 0
        assert price > 0
        assert quantity > 0


def test_symbols_are_split_into_base_and_quote() -> None:
    assert split("ETHDAI") == Listing("ETHDAI", "ETH", "DAI")
    assert split("BTCFDUSD") == Listing("BTCFDUSD", "BTC", "FDUSD")
    assert split("币安人生/USDT") == Listing("币安人生USDT", "币安人生", "USDT")
    for wrong in ("USDT", "BTC", "/USDT", "BTC/"):
        with pytest.raises(ValueError, match="BASE/QUOTE"):
            split(wrong)


def test_how_many_or_which() -> None:
    assert len({one.symbol for one in listings(str(MOST_SYMBOLS))}) == MOST_SYMBOLS
    assert [one.symbol for one in listings("btcusdt, ETHBTC")] == ["BTCUSDT", "ETHBTC"]
    for wrong in ("0", str(MOST_SYMBOLS + 1), "9" * 5000, "", " , ", "btcusdt, ETHBTC,BTCUSDT"):
        with pytest.raises(ValueError, match="symbol"):
            listings(wrong)


def test_nothing_happens_when_all_are_on_a_break_or_gone() -> None:
    ledger = Ledger()
    market = Market(ledger, listings("BTCUSDT,ETHUSDT"), seed=1)
    ledger.symbols["BTCUSDT"].status = "BREAK"
    market.delist("ETHUSDT")
    assert market.next() is None
    market.delist("BTCUSDT")
    assert market.next() is None


def test_orders_have_one_fill_and_symbols_trade_as_evenly_as_chosen() -> None:
    def sizes(single: float, skew: float) -> tuple[Counter[int], Counter[str]]:
        market = Market(Ledger(), listings("40"), seed=1, burst=1, single=single, skew=skew)
        events = [event for _ in range(5000) if (event := market.next()) is not None]
        return Counter(len(event.trades) for event in events), Counter(event.ledger.symbol for event in events)

    assert set(sizes(1.0, 0.8)[0]) == {1}
    fills, _ = sizes(0.915, 0.8)
    assert 0.9 < fills[1] / fills.total() < 0.93
    even, uneven = (sizes(0.7, skew)[1]["BTCUSDT"] for skew in (0.0, 1.1))
    assert uneven > 5 * even
