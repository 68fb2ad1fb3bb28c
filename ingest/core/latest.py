"""One symbol's quotes: each update id at most once and rising, and a break after each time without a listener. Pure.

The ids of quotes have gaps by design, so that a loss cannot be seen in them. What is known is when a connection was
listening: between two stretches of listening quotes may be missing, unless a quote heard in the later stretch is one
that was written, or lies before it.
"""

from collections.abc import Callable
from typing import Final

from ingest.core.held_events import HeldBytes, HeldEvents
from ingest.core.market_events import Quote

STRAYS: Final = 1000
"""So many quotes in a row with lower ids are no second deliveries: the ids went back."""


class Latest:
    """One symbol's quotes.

    ``release(latest, quote, broken)`` writes one, and returns False where it could not be taken. ``broken``: a break is
    to be declared before it, because quotes between ``last_id`` and this one may be missing.
    """

    __slots__ = (
        "_active", "_first_heard", "_joined", "_loss", "_losses", "_release", "duplicates", "halted", "last_id",
        "reason", "since_us", "strays", "symbol", "waiting",
    )  # fmt: skip

    def __init__(
        self, symbol: str, *, release: Callable[["Latest", Quote, bool], bool], held: HeldBytes | None = None
    ) -> None:
        """What the quotes that wait take is counted in ``held``."""
        self.symbol = symbol
        self._release = release
        self._active = False
        self._joined = False
        """Whether nothing can be missing between the last quote that was written and the next one."""
        self._first_heard: int | None = None
        """The first id of the stretch of listening that is in memory, or was written; of several the earliest one's."""
        self._loss: tuple[int | None, str] | None = None
        """While passive: since when and why quotes may be missing that came after the last one that is held."""
        self._losses: dict[int, tuple[int | None, str]] = {}
        """The same, by the first id that was heard afterwards."""
        self.last_id: int | None = None
        self.since_us: int | None = None
        """Since when quotes may be missing, while not joined; None: not known."""
        self.reason = "restart"
        self.waiting = HeldEvents(held)
        """Quotes that are held while another instance writes, by id, in the order in which they came."""
        self.duplicates = self.strays = 0
        self.halted = False

    def take(self, quote: Quote) -> int:
        """Take a quote; returns by how many more quotes are held now."""
        number, last = quote.trade_id, self.last_id
        if self._loss is not None:
            if last is None or number > last:
                self._losses[number] = self._loss
            self._loss = None
        if self._first_heard is None:
            self._first_heard = number
        if last is not None and number <= last:
            self._joined = True  # what was written was heard in this stretch, too
            self.duplicates += 1
            self.strays += 1
            self.halted = self.halted or self.strays >= STRAYS
            return 0
        if not self._active:
            before = len(self.waiting)
            self.waiting[number] = quote
            return len(self.waiting) - before
        self._pass(quote)
        return 0

    def _pass(self, quote: Quote) -> None:
        last = self.last_id
        broken = last is not None and not self._joined and quote.trade_id > last + 1
        if self._release(self, quote, broken):
            self.last_id = quote.trade_id
            self._joined = True
            self.strays = 0
            self.halted = False
        else:
            self.lost(None, "shed")

    def lost(self, since_us: int | None, reason: str) -> None:
        """Quotes may be missing from here on: no connection listened, or one could not be written."""
        if not self._active:
            self._loss = self._loss or (since_us, reason)  # what is held came before it
            return
        if self._joined or self.since_us is None:
            self.since_us, self.reason = since_us, reason
        self._joined = False
        self._first_heard = None

    def activate(self, last_id: int | None, since_us: int | None) -> int:
        """Write from now on, behind what Kafka holds; returns how many fewer quotes are held.

        ``since_us``: when the last one was read, by whichever instance wrote it.
        """
        self._active = True
        self.last_id = last_id
        first = self._first_heard
        self._joined = last_id is None or (first is not None and first <= last_id)
        self.since_us, self.reason = since_us, "restart"
        held = dict(self.waiting)
        self.waiting.clear()
        losses, self._losses = self._losses, {}
        last_loss, self._loss = self._loss, None
        for number in sorted({*held, *losses}):
            if last_id is not None and number <= last_id:
                continue  # written in a stretch of listening that is in memory
            if number in losses:
                self.lost(*losses[number])
            if number in held:
                self._pass(held[number])
        if last_loss is not None:
            self.lost(*last_loss)
        return len(held)

    def forget(self) -> None:
        """While passive: what was released before is lost, so that nothing says that this stretch reaches back."""
        self._first_heard = next(iter(self.waiting), None)

    def deactivate(self) -> None:
        """Hold everything: another instance writes.

        What was released is kept by its queue until it is in Kafka, so that the stretch of listening goes on.
        """
        self._active = False

    def committed(self, last_id: int) -> int:
        """Learn, while passive, how far the writer is; returns how many fewer quotes are held."""
        self.last_id = last_id
        old = [number for number in self.waiting if number <= last_id]
        for number in old:
            del self.waiting[number]
        for number in [number for number in self._losses if number <= last_id]:
            del self._losses[number]
        return len(old)

    def drop_oldest(self) -> bool:
        """Make room for one quote; what is dropped counts as not heard. Returns whether there was one."""
        if not self.waiting:
            return False
        oldest = next(iter(self.waiting))
        del self.waiting[oldest]
        self._losses.pop(oldest, None)
        self._first_heard = next(iter(self.waiting), None)
        return True

    @property
    def active(self) -> bool:
        """Whether quotes are released."""
        return self._active
