"""The example that rebuilds books: equal to the exchange's from any point on, and honest about what is not in sync."""

import dataclasses
import runpy
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ingest.reader import BookSnapshot, BookUpdate, Break, Deleted, Level
from ingest.simulator.ledger import Ledger
from ingest.simulator.market import Market, listings
from ingest.simulator.seeded_book import SeededBook
from tests.harness.processes import ROOT

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
COMMON: dict[str, Any] = {
    "message_id": "m", "symbol": "BTCUSDT", "exchange": "BINANCE", "asset_class": "crypto", "currency": "USDT",
    "ingestion_timestamp": NOW, "platform_sequence": None, "vendor_data": None, "event_timestamp": None,
    "receive_timestamp": None, "partition": 0, "offset": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, Any]]:
    folder = str(ROOT / "docs" / "examples")
    sys.path.insert(0, folder)
    try:
        yield runpy.run_path(f"{folder}/book.py")
    finally:
        sys.path.remove(folder)
        sys.modules.pop("trades", None)


def levels(side: list[tuple[int, int]]) -> list[Level]:
    return [Level(Decimal(price).scaleb(-8), Decimal(quantity).scaleb(-8)) for price, quantity in side]


class Exchange:
    """A seeded book, and the records that a flawless writer makes of it."""

    def __init__(self) -> None:
        ledger = Ledger()
        self._market = Market(ledger, listings("BTCUSDT"), seed=3, burst=5)
        self.book = SeededBook(ledger.symbols["BTCUSDT"], 3, price=self._market.price("BTCUSDT"), levels=40)
        self._sent = self.book.update_id
        self._time = 1

    def update(self) -> BookUpdate:
        while self.book.update_id == self._sent:
            event = self._market.next()
            assert event is not None
            for price, quantity, maker in event.trades:
                self._time += 1
                event.ledger.append(price, quantity, self._time, maker)
            self.book.follow()
        changes = self.book.changes(self._sent, self.book.update_id)
        first, self._sent = self._sent + 1, self.book.update_id
        return BookUpdate(
            **COMMON, timestamp=NOW, first_update_id=first, final_update_id=self._sent,
            bids=levels([(key, quantity) for key, quantity in changes.items() if key > 0]),
            asks=levels([(-key, quantity) for key, quantity in changes.items() if key < 0]),
        )  # fmt: skip

    def snapshot(self, at: int | None = None) -> BookSnapshot:
        update_id = self.book.update_id if at is None else at
        bids, asks = self.book.at(update_id) or ([], [])
        return BookSnapshot(
            **COMMON, first_update_id=update_id, final_update_id=update_id, bids=levels(bids), asks=levels(asks)
        )

    def same(self, book: Any) -> bool:
        bids, asks = self.book.at(book.update_id) or ([], [])
        return (list(book.bids.items()), list(book.asks.items())) != ([], []) and (book.bids, book.asks) == (
            dict(levels(bids)),
            dict(levels(asks)),
        )


def broken(last: int, first: int) -> Break:
    return Break(
        **COMMON, last_update_id=last, first_update_id=first, from_timestamp=None, to_timestamp=NOW, reason="restart",
        evidence="{}",
    )  # fmt: skip


def test_it_is_in_sync_from_the_first_snapshot_and_stays_the_exchange_s_book(example: dict[str, Any]) -> None:
    exchange, book = Exchange(), example["Book"]()
    book.take(exchange.update())
    assert not book.in_sync
    book.take(exchange.snapshot())
    for number in range(60):
        assert book.in_sync
        assert exchange.same(book)
        if number % 10 == 5:  # a snapshot that lies within the next update
            update = exchange.update()
            book.take(exchange.snapshot(at=(update.first_update_id + update.final_update_id) // 2))
            book.take(update)
        else:
            book.take(exchange.update())
    assert (book.verified, book.differing, book.updates) == (6, 0, 61)


def test_a_lost_update_shows_in_the_next_snapshot_and_a_break_in_the_next_one_again(example: dict[str, Any]) -> None:
    exchange, book = Exchange(), example["Book"]()
    book.take(exchange.snapshot())
    book.take(exchange.update())
    lost = exchange.update()
    book.take(broken(lost.first_update_id - 1, lost.final_update_id + 1))
    assert not book.in_sync
    book.take(exchange.update())
    assert not book.in_sync
    book.take(exchange.snapshot())
    assert exchange.same(book)
    exchange.update()
    book.take(exchange.update())
    book.take(exchange.snapshot())
    assert (book.differing, book.breaks) == (1, 1)


def test_levels_beyond_a_cut_snapshot_are_not_compared(
    example: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    book_type = example["Book"]
    monkeypatch.setitem(book_type._fill.__globals__, "WHOLE", 10)
    exchange, book = Exchange(), book_type()

    def cut() -> BookSnapshot:
        whole = exchange.snapshot()
        return dataclasses.replace(whole, bids=whole.bids[:10], asks=whole.asks[:10])

    book.take(cut())
    for _ in range(20):
        book.take(exchange.update())
        book.take(cut())
    assert (book.verified, book.differing) == (20, 0)
    assert book.best() == (exchange.snapshot().bids[0].price, exchange.snapshot().asks[0].price)


def test_a_summary_says_what_is_in_sync(example: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    exchange = Exchange()
    snapshot, update = exchange.snapshot(), exchange.update()
    found = example["books"]([snapshot, update, broken(update.final_update_id, update.final_update_id + 9)], 1)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"BTCUSDT in sync at {snapshot.final_update_id}"
    assert printed[1].startswith(f"BTCUSDT {update.final_update_id} bid ")
    assert printed[2] == f"BTCUSDT lost after {update.final_update_id}"
    assert not found["BTCUSDT"].in_sync


def test_deleted_records_can_be_of_any_book(example: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    exchange = Exchange()
    one = exchange.snapshot()
    found = example["books"]([one, dataclasses.replace(one, symbol="ETHUSDT"), Deleted(0, 5, 9), exchange.update()])
    assert [book.in_sync for book in found.values()] == [False, False]
    lost = [f"{symbol} lost after {one.final_update_id}" for symbol in ("BTCUSDT", "ETHUSDT")]
    assert capsys.readouterr().out.splitlines()[2:] == lost
