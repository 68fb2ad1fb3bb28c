"""The verdict on the other streams of one run, from the model's truth alone."""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.campaigns.deterministic.broker import Broker
from tests.campaigns.deterministic.client import PARTITIONS
from tests.campaigns.deterministic.market import Book, Market

Seen = Mapping[tuple[str, str, str, int], int]
"""(process, stream, symbol, last id) -> when it reached the process, microseconds."""
GRACE_US = 200_000
"""Missing updates that reach a process so soon are no break: less than the service waits, for its own clock's sake."""
TOPICS = {"aggTrade": "agg_trades", "bookTicker": "quotes", "depth": "books"}


class Row(NamedTuple):
    """A record of a book or of quotes."""

    kind: str
    first: int
    last: int
    by: str
    written_us: int
    content: Any


def rows(broker: Broker, stream: str) -> dict[str, list[Row]]:
    """The committed records of a stream by symbol, in order."""
    found: dict[str, list[Row]] = {}
    for partition in range(PARTITIONS):
        for record in broker.read((TOPICS[stream], partition), 0)[0]:
            found.setdefault((record.key or b"?").decode(), []).append(Row(*json.loads(record.value)))
    return found


def kinds(broker: Broker) -> Counter[str]:
    """How many breaks and snapshots there are."""
    return Counter(
        f"{stream} {row.kind}"
        for stream in ("bookTicker", "depth")
        for of in rows(broker, stream).values()
        for row in of
        if row.kind in ("break", "snapshot")
    )


def judge(market: Market, broker: Broker, seen: Seen) -> list[str]:
    """What is wrong with books and quotes, one line each; aggregates are judged as trades are."""
    problems: list[str] = []
    quotes, events = rows(broker, "bookTicker"), rows(broker, "depth")
    for symbol, book in market.books.items():
        problems += _quotes(book, quotes.get(symbol, []))
        problems += _events(book, events.get(symbol, []), seen)
    return problems


def _quotes(book: Book, found: list[Row]) -> list[str]:
    name, problems = f"quotes of {book.symbol}", []
    last, declared = None, None
    for row in found:
        if row.kind == "break":
            if last is None or row.first != last:
                problems.append(f"{name}: a break behind {row.first} where {last} was the last one")
            declared = row.last
            continue
        number = row.last
        if last is not None and number <= last:
            problems.append(f"{name}: {number} after {last}")
        elif last is not None and declared is None:
            lost = [one for one in book.quotes if last < one < number]
            if lost:
                problems.append(f"{name}: {lost[:3]} missing before {number} and no break says so")
        if declared not in (None, number):
            problems.append(f"{name}: {number} where a break says {declared}")
        truth = book.quotes.get(number)
        if truth is None or row.content != [
            truth.bid_price, truth.bid_quantity, truth.ask_price, truth.ask_quantity,
        ]:  # fmt: skip
            problems.append(f"{name}: {number} altered: {row.content}")
        last, declared = number, None
    if book.quotes and last != max(book.quotes):
        problems.append(f"{name}: end at {last}, the exchange is at {max(book.quotes)}")
    return problems


def _events(book: Book, found: list[Row], seen: Seen) -> list[str]:
    name, problems = f"book of {book.symbol}", []
    due: int | None = None
    synced, snapshot = False, -1
    for row in found:
        if row.kind == "break":
            problems += _break(book, row, due, seen)
            due, synced, snapshot = row.last, False, -1
        elif row.kind == "snapshot":
            snapshot = row.last
            if due is None or row.last < due - 1:
                problems.append(f"{name}: a snapshot of {row.last} where {due} is due")
            bids, asks = (dict(map(tuple, side)) for side in row.content)
            if (bids, asks) != book.at.get(row.last):
                problems.append(f"{name}: the snapshot of {row.last} is not the book")
            synced = True
        else:
            if due is not None and not row.first <= due <= row.last:
                problems.append(f"{name}: {row.first}..{row.last} where {due} is due")
            if row.last <= snapshot:
                problems.append(f"{name}: {row.first}..{row.last} behind a snapshot of {snapshot}")
            truth = book.updates.get(row.last)
            content = None if truth is None else [list(map(list, side)) for side in (truth.bids, truth.asks)]
            if truth is None or (truth.first_id, content) != (row.first, row.content):
                problems.append(f"{name}: {row.first}..{row.last} altered")
            due = row.last + 1
    if due != book.last_id + 1:
        problems.append(f"{name}: ends before {due}, the exchange is at {book.last_id}")
    if not synced:
        problems.append(f"{name}: no snapshot after the last break, or none at all")
    return problems


def _break(book: Book, row: Row, due: int | None, seen: Seen) -> list[str]:
    name = f"book of {book.symbol}"
    if due is None or row.first != due - 1 or row.last <= due:
        return [f"{name}: a break from {row.first} to {row.last} where {due} is due"]
    if row.content == "shed":
        return []

    def received_us(last: int) -> int | None:
        return seen.get((row.by, "depth", book.symbol, last))

    missing = [received_us(last) for last, one in book.updates.items() if one.first_id < row.last and last >= due]
    # The gap showed when the first update behind it came; what came soon after that was to be waited for.
    behind = [at for last in book.updates if last >= row.last and (at := received_us(last)) is not None]
    until_us = max(row.written_us, min(behind, default=row.written_us) + GRACE_US)
    if all(at is not None and at < until_us for at in missing):
        return [f"{name}: a break of {due}..{row.last - 1}, all of which {row.by} had received"]
    return []
