"""Whether the best prices of a rebuilt book are those that the exchange stated as quotes, as a consumer would ask.

After each update the top of the book is compared with the newest quote up to its id, side by side. A comparison needs
a book in sync, a quote behind that one, and no BREAK of the quotes between them.

A quote stands for the book until the next one, except that the exchange leaves out a top that lasted for a few updates:
of 12,984 sides in the recording of BTCUSDT two differ, each where the best bid was removed and the next quote came 13
and 3 ids later. Only exactly that explains a difference.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from tests.harness.stream_topics import Book

SHORT_LIVED = 20
"""Update ids for which a top may stand without a quote."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A side of a book whose best price is not the quote's."""

    update_id: int
    side: str
    book: tuple[Decimal, Decimal] | None
    quote: tuple[Decimal, Decimal]
    quote_id: int
    next_quote_id: int
    gone: bool
    """Whether the book does not have the quoted price any more."""

    @property
    def explained(self) -> bool:
        """Whether the exchange leaves out such a quote."""
        return self.gone and self.quote_id < self.update_id < self.next_quote_id <= self.update_id + SHORT_LIVED


@dataclass(slots=True)
class Tops:
    """The outcome for one symbol."""

    sides: int = 0
    """Comparisons."""
    different: list[Difference] = field(default_factory=list)

    @property
    def unexplained(self) -> list[Difference]:
        """What is wrong."""
        return [one for one in self.different if not one.explained]


def compare(quotes: Iterable[Mapping[str, Any]], events: Iterable[Mapping[str, Any]]) -> tuple[Tops, Book]:
    """Compare the records of one symbol's quotes with those of its book, both in the order of their topics.

    Raises ``AssertionError`` where the book breaks its contract.
    """
    found, book = Tops(), Book()
    stated = [row for row in quotes if row["kind"] == "QUOTE"]
    ids = [row["source_sequence"] for row in stated]
    interrupted = {row["break_detail"]["first_update_id"] for row in quotes if row["kind"] == "BREAK"}
    for event in events:
        book.take(dict(event))
        if event["kind"] != "UPDATE" or not book.in_sync or book.last is None:
            continue
        at = bisect_right(ids, book.last) - 1
        if at < 0 or at + 1 == len(ids) or ids[at + 1] in interrupted:
            continue
        quote = stated[at]
        for side, ours, best in (("bid", book.bids, max), ("ask", book.asks, min)):
            price = best(ours, default=None)
            top = None if price is None else (price, ours[price])
            due = quote[f"{side}_price"], quote[f"{side}_quantity"]
            found.sides += 1
            if top != due:
                gone = due[0] not in ours
                found.different.append(Difference(book.last, side, top, due, ids[at], ids[at + 1], gone))
    return found, book
