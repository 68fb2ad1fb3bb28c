"""Checks that trade ids are contiguous per symbol, voids excepted. Pure."""

from collections.abc import Callable, Iterator, Mapping

from ingest.reader.records import Gap, Void

FindVoid = Callable[[str, int], Void | None]
"""The void that covers an id of a symbol; None if there is none."""


class Continuity:
    """The next id of each symbol."""

    def __init__(self, next_ids: Mapping[str, int], find_void: FindVoid) -> None:
        self._next_ids = dict(next_ids)
        self._find_void = find_void

    @property
    def next_ids(self) -> dict[str, int]:
        """Symbol -> id that is due."""
        return dict(self._next_ids)

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
        """Note that this trade is the symbol's latest."""
        self._next_ids[symbol] = max(self._next_ids.get(symbol, 0), trade_id + 1)
