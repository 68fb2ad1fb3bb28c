"""Buffered events of books and quotes, and the memory that all of a stream's buffered events use."""

from typing import Any, Final

from ingest.core.market_events import DepthUpdate

EVENT_BYTES: Final = 640
"""Of an event without its levels: five texts of a price's length, its number and its place."""
LEVEL_BYTES: Final = 256
"""Of a level: a pair of two texts. Twenty characters each; with 64, the longest there are, a third more."""


class HeldBytes:
    """The memory of one stream's buffered events, all symbols together, bytes."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0


class HeldEvents(dict[int, Any]):
    """Events by id, in order of arrival. Their memory is counted in ``held``.

    Only ``[]``, ``del`` and ``clear`` change it; other methods of ``dict`` that do would not be counted.
    """

    __slots__ = ("_held",)

    def __init__(self, held: HeldBytes | None = None) -> None:
        super().__init__()
        self._held = HeldBytes() if held is None else held

    def __setitem__(self, number: int, event: Any) -> None:
        before = self.get(number)
        self._held.total += size_of(event) - (0 if before is None else size_of(before))
        super().__setitem__(number, event)

    def __delitem__(self, number: int) -> None:
        self._held.total -= size_of(self[number])
        super().__delitem__(number)

    def clear(self) -> None:
        """Forget all."""
        self._held.total -= sum(map(size_of, self.values()))
        super().clear()


def size_of(event: Any) -> int:
    """Estimate of the memory that an event uses, bytes."""
    if isinstance(event, DepthUpdate):
        return EVENT_BYTES + LEVEL_BYTES * (len(event.bids) + len(event.asks))
    return EVENT_BYTES
