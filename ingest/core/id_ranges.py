"""Ids as ranges, within a bound: which trades were received and could not be kept."""

from typing import Final

MOST_RANGES: Final = 256
"""Ranges kept of a symbol; the oldest is forgotten first. Trades are dropped in runs, so that one is rarely reached."""


class IdRanges:
    """Ranges of ids in the order in which they were added."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def add(self, trade_id: int) -> None:
        """Note an id."""
        ranges = self._ranges
        if ranges:
            first, last = ranges[-1]
            if first <= trade_id <= last + 1:
                ranges[-1] = (first, max(last, trade_id))
                return
        ranges.append((trade_id, trade_id))
        if len(ranges) > MOST_RANGES:
            del ranges[0]

    def __contains__(self, trade_id: int) -> bool:
        return any(first <= trade_id <= last for first, last in self._ranges)

    def first_from(self, trade_id: int) -> int | None:
        """The lowest noted id that is not below ``trade_id``."""
        return min((max(first, trade_id) for first, last in self._ranges if last >= trade_id), default=None)

    def forget_below(self, trade_id: int) -> None:
        """Forget ranges that end below ``trade_id``."""
        if self._ranges:
            self._ranges = [one for one in self._ranges if one[1] >= trade_id]
