"""Every trade takes from the best price of a book that is never crossed, and every change of the top is remembered."""

import random
from itertools import pairwise

import pytest

from ingest.simulator.book import Quote
from ingest.simulator.ledger import INT64_MAX, Ledger
from ingest.simulator.market import Market, edge_listings, listings
from ingest.simulator.seeded_book import IDS_PER_TRADE, LEVELS, MOST_BEHIND, SeededBook


class Naive:
    """The book as whoever applies single updates to a dictionary has it."""

    def __init__(self, book: SeededBook) -> None:
        bids, asks = book.at(book.floor_id) or ([], [])
        self.levels = dict(bids) | {-price: quantity for price, quantity in asks}

    def top(self) -> tuple[int, int, int, int]:
        bids, asks = [key for key in self.levels if key > 0], [key for key in self.levels if key < 0]
        bid, ask = max(bids, default=0), max(asks, default=0)
        return bid, self.levels.get(bid, 0), -ask, self.levels.get(ask, 0)

    def update(self, key: int, quantity: int) -> None:
        if quantity:
            self.levels[key] = quantity
        else:
            del self.levels[key]


def traded(seed: int, *, symbols: str = "3", count: int = 400, at_edges: bool = False) -> dict[str, list[SeededBook]]:
    """Books that followed each trade of a market; the list has the book once for each trade."""
    listed = listings(symbols)
    ledger = Ledger()
    market = Market(
        ledger, edge_listings(listed) if at_edges else listed, seed=seed, burst=20, at_edges=at_edges, skew=0.1
    )
    books = {name: SeededBook(one, seed, price=market.price(name)) for name, one in ledger.symbols.items()}
    found: dict[str, list[SeededBook]] = {name: [] for name in books}
    time_us = 1_700_000_000_000_000
    for _ in range(count):
        event = market.next()
        assert event is not None
        for price, quantity, maker in event.trades:
            time_us += 1
            event.ledger.append(price, quantity, time_us, maker)
            books[event.ledger.symbol].follow()
            found[event.ledger.symbol].append(books[event.ledger.symbol])
    return found


@pytest.mark.parametrize("at_edges", [False, True])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_trade_takes_from_the_best_price_of_a_book_that_is_never_crossed(seed: int, at_edges: bool) -> None:
    for books in traded(seed, at_edges=at_edges).values():
        book, naive = books[0], Naive(books[0])
        due = [(maker, price, quantity) for _, price, quantity, _, maker in book.ledger.newest(10**6)]
        tops: list[tuple[int, ...]] = []
        expected = book.floor_id
        for update_id, key, quantity in book.updates(book.floor_id, 10**9):
            expected += 1
            assert update_id == expected
            bid, bid_quantity, ask, ask_quantity = before = naive.top()
            maker, price, taken = due[0] if due else (False, 0, 0)
            best = (bid, bid_quantity) if maker else (ask, ask_quantity)
            if key == (price if maker else -price) and best == (price, taken + quantity):
                due.pop(0)
            naive.update(key, quantity)
            after = naive.top()
            assert not (after[0] and after[2]) or after[0] < after[2]
            if after != before:
                tops.append((update_id, *after))
        assert not due
        quotes = list(book.quotes(book.floor_id, 10**9))
        assert [
            tuple(one) for before, one in pairwise([Quote(0, 0, 0, 0, 0), *quotes]) if one[1:] != before[1:]
        ] == tops
        assert all(0 < one <= INT64_MAX for one in naive.levels.values())


def test_what_is_remembered_rebuilds_the_book_at_every_id() -> None:
    book = traded(7, symbols="BTCUSDT")["BTCUSDT"][0]
    naive, draw = Naive(book), random.Random(1)
    wanted = set(draw.sample(range(book.floor_id, book.update_id), 50))
    for update_id, key, quantity in list(book.updates(book.floor_id, 10**9)):
        naive.update(key, quantity)
        if update_id in wanted:
            bids, asks = book.at(update_id) or ([], [])
            assert dict(bids) | {-price: amount for price, amount in asks} == naive.levels
            assert [price for price, _ in bids] == sorted((key for key in naive.levels if key > 0), reverse=True)
            assert [price for price, _ in asks] == sorted(-key for key in naive.levels if key < 0)
    assert (book.side(bids=True, limit=10**6), book.side(bids=False, limit=10**6)) == book.at(book.update_id)
    assert book.at(book.update_id + 1) is None
    assert book.at(book.floor_id - 1) is None


def test_changes_between_two_ids_are_the_last_quantity_of_every_level_that_was_touched() -> None:
    book = traded(8, symbols="BTCUSDT")["BTCUSDT"][0]
    every = list(book.updates(book.floor_id, 10**9))
    draw = random.Random(2)
    for _ in range(50):
        after, up_to = sorted(draw.sample(range(book.floor_id, book.update_id), 2))
        assert book.changes(after, up_to) == {key: amount for number, key, amount in every if after < number <= up_to}


def test_trimming_forgets_the_oldest_updates_and_keeps_the_state() -> None:
    book = traded(9, symbols="BTCUSDT")["BTCUSDT"][0]
    middle = (book.floor_id + book.update_id) // 2
    now, then = book.at(book.update_id), book.at(middle)
    quotes = [one for one in book.quotes(book.floor_id, 10**9) if one.update_id > middle]
    book.trim(book.update_id - middle)
    assert book.floor_id == middle
    assert len(book) == book.update_id - middle
    assert (book.at(middle), book.at(book.update_id), list(book.quotes(0, 10**9))) == (then, now, quotes)
    assert book.at(middle - 1) is None


def test_content_depends_on_the_seed_and_the_trades_alone() -> None:
    def content(seed: int) -> list[tuple[int, int, int]]:
        book = traded(seed, symbols="BTCUSDT")["BTCUSDT"][0]
        return list(book.updates(0, 10**9))

    assert content(5) == content(5)
    assert content(5) != content(6)


def test_a_book_that_nobody_looked_at_for_long_begins_again_at_a_higher_id() -> None:
    ledger = Ledger().add("BTCUSDT", "BTC", "USDT", 1)
    book = SeededBook(ledger, 1, price=100_00000000)
    before = book.update_id
    for number in range(MOST_BEHIND + 1):
        ledger.append(200_00000000, 1000, 1 + number, True)
    book.follow()
    assert book.update_id == book.floor_id == before + (MOST_BEHIND + 1) * IDS_PER_TRADE
    assert book.top().bid == 200_00000000


def test_sides_stay_deep_however_long_it_goes_on() -> None:
    book = traded(4, symbols="BTCUSDT", count=3000)["BTCUSDT"][0]
    for bids in (True, False):
        assert LEVELS // 4 <= len(book.side(bids=bids, limit=10**6)) <= LEVELS * 2
    bid, ask = book.top().bid, book.top().ask
    assert (ask - bid) // book._tick < 20


def test_a_book_without_a_price_is_empty_until_the_first_trade() -> None:
    ledger = Ledger().add("BTCUSDT", "BTC", "USDT", 1)
    book = SeededBook(ledger, 1)
    assert (book.side(bids=True, limit=5), book.side(bids=False, limit=5)) == ([], [])
    assert book.top() == (book.update_id, 0, 0, 0, 0)
    ledger.append(100_00000000, 1000, 1, False)
    book.follow()
    assert book.top().bid < book.top().ask
    assert book.top().bid > 0
