"""One symbol's chain of book updates: each exactly once and in order, or a break that says what is missing. Pure.

An update spans the ids ``first_id`` to ``trade_id``; the next one begins right behind. Updates of all connections are
merged: what one of them missed another may deliver. Only when the missing ids do not arrive within a grace is a break
declared. A snapshot is placed before the update that holds the id behind it: a reader who begins there continues with
that update.
"""

from collections.abc import Callable
from typing import Final

from ingest.core.held_events import HeldBytes, HeldEvents
from ingest.core.jump_guard import JumpGuard, Strays
from ingest.core.market_events import BookSnapshot, DepthUpdate
from ingest.core.streams import DEPTH

BACKWARDS_US: Final = 2_000_000
"""An update with lower ids that was sent this much later than the last one contradicts it: the ids went back."""

WIDEST: Final = 100_000
"""An update of more ids than this is not plausible: it would hide all that its ids cover."""


class Chain:
    """One book. ``release``, ``broke`` and ``placed`` are called in the order in which records must be written.

    ``release(update)`` returns whether it was taken; where it was not (no exact record, no room) its ids are missing.
    ``broke(chain, first_id)`` declares that all ids from ``next_id`` up to there are missing. ``placed(chain, book)``
    writes a snapshot. ``contradicted(chain, update, source)`` gets an update that came from ``source`` and is not used,
    because its ids are far above the others' (see ``JumpGuard``) or too many. What waits is counted in ``held``.
    """

    __slots__ = (
        "_active", "_broke", "_contradicted", "_highest", "_last_sent_us", "_paused", "_placed", "_release",
        "_snapshot", "_strays", "dropped", "duplicates", "gap_since", "guard", "halted", "next_id", "overlapping",
        "symbol", "synced", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        symbol: str,
        *,
        release: Callable[[DepthUpdate], bool],
        broke: Callable[["Chain", int], None],
        placed: Callable[["Chain", BookSnapshot], None],
        contradicted: Callable[["Chain", DepthUpdate, str], None],
        jump_limit: int = DEPTH.jump_limit,
        held: HeldBytes | None = None,
    ) -> None:
        self.symbol = symbol
        self._release = release
        self._broke = broke
        self._placed = placed
        self._contradicted = contradicted
        self._active = False
        self._paused = False
        self._snapshot: BookSnapshot | None = None
        self._last_sent_us = 0
        self._highest: int | None = None
        """The highest id of all that were written or are held."""
        self.guard = JumpGuard(jump_limit, lambda update, source: contradicted(self, update, source), held)
        self._strays = Strays(jump_limit)
        self.next_id: int | None = None
        """The id that must come next; None until a position is known or the first update has come."""
        self.waiting = HeldEvents(held)
        """Updates that cannot leave yet, by their first id."""
        self.gap_since: float | None = None
        self.synced = False
        """Whether a snapshot was written since the beginning, or since the last break."""
        self.dropped = False
        """Whether an update was not taken since the last break: for lack of room, or of an exact record."""
        self.halted = False
        """Whether newer updates have lower ids."""
        self.duplicates = self.overlapping = 0

    # --- updates ---

    def take(self, update: DepthUpdate, now: float, source: str = "") -> int:
        """Take an update of a connection, in any order; returns by how many more (or fewer) updates are held now."""
        before = len(self.waiting)
        next_id = self.next_id
        if next_id is not None and update.trade_id < next_id:
            self._lower(update, next_id, now)
            return 0
        if update.trade_id - update.first_id >= WIDEST:
            self._contradicted(self, update, source)
            return 0
        for one in self.guard.admit(update, self._highest, source):
            self._admitted(one, now)
        return len(self.waiting) - before

    def _admitted(self, update: DepthUpdate, now: float) -> None:
        next_id, highest = self.next_id, self._highest
        if highest is None or update.trade_id > highest:
            self._highest = update.trade_id
        if not self._active:
            self._hold(update)
            return
        if next_id is None:
            self.next_id = update.first_id
        elif update.first_id <= next_id and not self.waiting and not self._paused and self._snapshot is None:
            self._pass(update, next_id)  # the usual case
            return
        self._hold(update)
        self.drain(now)

    def _lower(self, update: DepthUpdate, next_id: int, now: float) -> None:
        self.duplicates += 1
        if not self._active:
            return  # the writer of a standby is ahead of it
        later = self._last_sent_us and update.event_time_us > self._last_sent_us + BACKWARDS_US
        if self._strays.heard(update.trade_id, next_id - 1, now) or later:
            self.halted = True

    def _hold(self, update: DepthUpdate) -> None:
        other = self.waiting.get(update.first_id)
        if other is None or other.trade_id < update.trade_id:
            self.waiting[update.first_id] = update
        else:
            self.duplicates += 1

    def _pass(self, update: DepthUpdate, next_id: int) -> bool:
        if not self._release(update):
            self.dropped = True
            return False
        self.overlapping += update.first_id < next_id
        self.next_id = update.trade_id + 1
        self._last_sent_us = update.event_time_us
        self._strays.clear()
        self.halted = False
        return True

    def drain(self, now: float) -> None:
        """Release what continues, place the snapshot where it belongs, and note whether a gap remains."""
        if not self._active:
            return
        before = self.next_id
        while not self._paused and self.next_id is not None:
            update = self._due()
            self._place(update)
            if update is None or not self._pass(update, self.next_id):
                break
        behind = bool(self.waiting) and not self._paused
        if not behind:
            self.gap_since = None
        elif self.gap_since is None or self.next_id != before:
            self.gap_since = now  # of a gap of its own: it has the whole grace, however old the one before was

    def _due(self) -> DepthUpdate | None:
        """Take the update that holds the next id out of those that wait; older ones are dropped."""
        next_id = self.next_id or 0
        found: DepthUpdate | None = None
        for first_id in sorted(self.waiting):
            if first_id > next_id:
                break
            update: DepthUpdate = self.waiting[first_id]
            del self.waiting[first_id]
            if update.trade_id >= next_id and (found is None or update.trade_id > found.trade_id):
                found = update
        return found

    def _place(self, following: DepthUpdate | None) -> None:
        book, next_id = self._snapshot, self.next_id
        if book is None or next_id is None:
            return
        behind = book.last_update_id + 1
        if behind < next_id:
            self._snapshot = None  # older than what is written: asked for again
        elif behind == next_id or (following is not None and following.trade_id >= behind):
            self._snapshot = None
            self.synced = True
            self._placed(self, book)

    def expire(self, now: float, grace: float) -> int:
        """Declare a break where a gap is older than ``grace`` seconds; returns how many fewer updates are held."""
        before = len(self.waiting)
        if self.gap_since is not None and now - self.gap_since >= grace:
            self.break_to(min(self.waiting), now)
        return before - len(self.waiting)

    def break_to(self, first_id: int, now: float) -> None:
        """Declare that the ids from the next one up to this one are missing, and go on there."""
        self._broke(self, first_id)
        self.next_id = first_id
        self.gap_since = None
        self.synced = self.dropped = False
        if self._snapshot is not None and self._snapshot.last_update_id + 1 < first_id:
            self._snapshot = None
        self.drain(now)

    # --- snapshots ---

    def pause(self) -> None:
        """Hold what comes until a snapshot is here: it must not be older than what is written."""
        self._paused = True

    def resume(self, now: float) -> None:
        """No snapshot came: go on."""
        self._paused = False
        self.drain(now)

    def offer(self, book: BookSnapshot, now: float) -> bool:
        """Take the snapshot that was paused for; False if it is older than what is written: ask again."""
        self._paused = False
        doubted_id = self.guard.doubted_id
        if doubted_id is not None and abs(book.last_update_id - doubted_id) <= self.guard.limit:
            self._admitted(self.guard.take_back(), now)
        fits = self.next_id is not None and book.last_update_id + 1 >= self.next_id
        self._snapshot = book if fits else None
        self.drain(now)
        return fits

    @property
    def awaits_stream(self) -> bool:
        """Whether a snapshot waits for the stream to reach it."""
        return self._snapshot is not None

    # --- roles ---

    def activate(self, next_id: int | None, synced: bool, now: float) -> None:  # noqa: FBT001 -- of a stored position
        """Write from now on, behind what Kafka holds; None: it holds nothing of this book."""
        self._active, self._paused, self._snapshot = True, False, None
        self.next_id, self.synced, self.dropped = next_id, synced, False
        self._strays.clear()
        if next_id is None and self.waiting:
            self.next_id = min(self.waiting)
        self._admit_again()
        self.drain(now)

    def _admit_again(self) -> None:
        """Judge what is held by the position: until then it was compared with what came before it, if anything did."""
        held = [update for _, update in sorted(self.waiting.items())]
        self.waiting.clear()
        doubted = self.guard.take_back()
        self._highest = None if self.next_id is None else self.next_id - 1
        for update in held if doubted is None else (*held, doubted):
            for one in self.guard.admit(update, self._highest, ""):
                self._highest = max(one.trade_id, self._highest or 0)
                self._hold(one)

    def deactivate(self) -> None:
        """Hold everything: another instance writes."""
        self._active = self._paused = False
        self._snapshot = self.gap_since = None

    def committed(self, last_id: int) -> int:
        """Learn, while passive, how far the writer is; returns how many fewer updates are held."""
        self.next_id = last_id + 1
        self._highest = max(last_id, self._highest or 0)
        self.guard.drop_to(last_id)
        old = [first_id for first_id, update in self.waiting.items() if update.trade_id <= last_id]
        for first_id in old:
            del self.waiting[first_id]
        return len(old)

    def drop_oldest(self) -> bool:
        """Make room for one update; returns whether there was one."""
        if not self.waiting:
            return False
        del self.waiting[next(iter(self.waiting))]
        return True

    @property
    def active(self) -> bool:
        """Whether updates in order are released."""
        return self._active
