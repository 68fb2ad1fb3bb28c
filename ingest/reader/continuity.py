"""Checks each symbol's sequence by its stream's contract. Pure.

Numbered: every id follows the one before, voids excepted. Chained: ranges of ids follow each other, or a break says
what is missing. Latest: ids rise. A sequence is named by its symbol, of streams besides trades ``<stream>:<symbol>``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from ingest.reader.market_records import BookSnapshot, Break, Sequenced
from ingest.reader.records import Gap, Void

FindVoid = Callable[[str, int], Void | None]
"""The void that covers an id of a sequence; None if there is none."""


class Continuity:
    """The next id of each symbol."""

    def __init__(self, next_ids: Mapping[str, int], find_void: FindVoid) -> None:
        self._next_ids = dict(next_ids)
        self._find_void = find_void

    @property
    def next_ids(self) -> dict[str, int]:
        """Symbol -> id that is due."""
        return dict(self._next_ids)

    def before(self, one: Sequenced) -> Iterator[Void | Gap]:
        """Yield what lies between the sequence's last id and this record, in order, and note the record."""
        if one.first is None or one.last is None:
            return
        symbol = one.record.symbol
        name = sequence_name(one.stream, symbol)
        if one.contract == "numbered":
            for found in self.between(name, one.first):
                yield replace(found, symbol=symbol, stream=one.stream)
        elif self._out_of_place(name, one):
            yield Gap(symbol, self._next_ids[name], one.first, one.stream)
        if not isinstance(one.record, BookSnapshot) or name not in self._next_ids:
            self.take(name, one.last)

    def _out_of_place(self, name: str, one: Sequenced) -> bool:
        expected = self._next_ids.get(name)
        if expected is None or one.first is None or one.last is None:
            return False
        if isinstance(one.record, BookSnapshot):  # a state, not a part of the chain
            return one.last < expected - 1
        if isinstance(one.record, Break):
            last = one.record.last_update_id
            return last is not None and last != expected - 1
        return one.last < expected or (one.contract == "chained" and one.first > expected)

    def between(self, symbol: str, trade_id: int) -> Iterator[Void | Gap]:
        """Yield what lies between the symbol's last id and this one, in order."""
        expected = self._next_ids.get(symbol, trade_id)
        while expected < trade_id:
            void = self._find_void(symbol, expected)
            expected = trade_id if void is None else void.last_id + 1
            due, self._next_ids[symbol] = self._next_ids[symbol], expected
            yield Gap(symbol, due, trade_id) if void is None else void
        if expected > trade_id:
            yield Gap(symbol, expected, trade_id)

    def take(self, symbol: str, trade_id: int) -> None:
        """Note that this id is the sequence's latest."""
        self._next_ids[symbol] = max(self._next_ids.get(symbol, 0), trade_id + 1)


def sequence_name(stream: str, symbol: str) -> str:
    """What positions and voids call the sequence of a symbol."""
    return symbol if stream == "trade" else f"{stream}:{symbol}"
