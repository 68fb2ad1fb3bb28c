"""What one event with a wrong id may do to a book's or a quote's sequence: nothing. Pure.

These streams have no history that could be compared with. An id far above the last one is therefore held until a second
event agrees with it; one that goes on from the last id contradicts it. Far or repeated lower ids show that the last id
is false, or that the exchange began again.
"""

from collections.abc import Callable
from typing import Any, Final

from ingest.core.held_events import HeldBytes, HeldEvents
from ingest.core.sequence import STRAY_LIMIT, STRAY_LIMIT_SLOW, STRAY_SECONDS

FAR_STRAYS: Final = 3
"""So many rising ids in a row below the last one by more than the jump limit: the ids went back."""


class JumpGuard:
    """Holds one event of a symbol while its id is doubted.

    ``contradicted(event, source)`` is called for a doubted event that is given up, before those that contradict it are
    released. What the event takes is counted in ``held``.
    """

    __slots__ = ("_contradicted", "_held", "_source", "limit")

    def __init__(self, limit: int, contradicted: Callable[[Any, str], None], held: HeldBytes | None = None) -> None:
        """``limit``: an id may be so far above the last one."""
        self.limit = limit
        self._contradicted = contradicted
        self._held = HeldEvents(held)
        self._source = ""

    def admit(self, event: Any, last_id: int | None, source: str) -> tuple[Any, ...]:
        """Return what may be used now, in the order of ids: the event, also the one it agrees with, or nothing."""
        doubted = next(iter(self._held.values())) if self._held else None
        if last_id is None or event.trade_id - last_id <= self.limit:
            if doubted is not None:
                self._give_up(doubted)
            return (event,)
        if doubted is not None:
            distance = event.trade_id - doubted.trade_id
            if distance == 0:
                return ()  # the same event on another connection
            if abs(distance) <= self.limit:
                self._held.clear()
                return (doubted, event) if distance > 0 else (event, doubted)
            self._give_up(doubted)
        self._held[event.trade_id] = event
        self._source = source
        return ()

    def _give_up(self, doubted: Any) -> None:
        self._held.clear()
        self._contradicted(doubted, self._source)

    def take_back(self) -> Any:
        """Hold nothing any more; returns the event that was doubted, None if there was none."""
        doubted = next(iter(self._held.values()), None)
        self._held.clear()
        return doubted

    def drop_to(self, last_id: int) -> None:
        """The writer of a standby has passed this id: whether it found the doubted event true does not matter."""
        if self._held and next(iter(self._held)) <= last_id:
            self._held.clear()

    @property
    def doubted_id(self) -> int | None:
        """The id that is doubted now."""
        return next(iter(self._held), None)


class Strays:
    """Counts ids below the next one, since an event was released: second deliveries, or ids that went back."""

    __slots__ = ("_all", "_far", "_highest", "_limit", "_rising", "_since")

    def __init__(self, limit: int) -> None:
        """``limit``: the jump limit."""
        self._limit = limit
        self._all = self._far = self._rising = 0
        self._highest = -1
        self._since = 0.0

    def clear(self) -> None:
        """An event was released."""
        self._all = self._far = self._rising = 0
        self._highest = -1

    def heard(self, number: int, last_id: int, now: float) -> bool:
        """Note a lower id at ``now`` (monotonic seconds); returns whether these ids went back."""
        if not self._all:
            self._since = now
        self._all += 1
        if number > self._highest:
            self._highest = number
            self._rising += 1
            self._far += last_id - number > self._limit
        slow = self._rising >= STRAY_LIMIT_SLOW and now - self._since >= STRAY_SECONDS
        return slow or self._far >= FAR_STRAYS or self._all >= STRAY_LIMIT
