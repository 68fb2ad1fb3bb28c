"""One symbol's quotes: each update id at most once and rising, and a break after each time without a listener. Pure.

The ids of quotes have gaps by design, so that a loss cannot be seen in them. What is known is when a connection was
listening: between two stretches of listening quotes may be missing, unless a quote heard in the later stretch is one
that was written, or lies before it.
"""

from collections.abc import Callable

from ingest.core.held_events import HeldBytes, HeldEvents
from ingest.core.jump_guard import JumpGuard, Strays
from ingest.core.market_events import Quote
from ingest.core.streams import BOOK_TICKER


class Latest:
    """One symbol's quotes.

    ``release(latest, quote, broken)`` writes one, and returns False where it could not be taken. ``broken``: a break is
    to be declared before it, because quotes between ``last_id`` and this one may be missing.
    ``contradicted(latest, quote, source)`` gets one that came from ``source`` and is not written, because its id is far
    above the others' (see ``JumpGuard``).
    """

    __slots__ = (
        "_active", "_contradicted", "_first_heard", "_highest", "_joined", "_loss", "_losses", "_release", "_strays",
        "duplicates", "guard", "halted", "last_id", "reason", "since_us", "symbol", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        symbol: str,
        *,
        release: Callable[["Latest", Quote, bool], bool],
        contradicted: Callable[["Latest", Quote, str], None],
        jump_limit: int = BOOK_TICKER.jump_limit,
        held: HeldBytes | None = None,
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
        self._contradicted = contradicted
        self._highest: int | None = None
        """While passive: the highest id that was written or is held."""
        self.guard = JumpGuard(jump_limit, lambda quote, source: contradicted(self, quote, source), held)
        self._strays = Strays(jump_limit)
        self.duplicates = 0
        self.halted = False

    def take(self, quote: Quote, now: float = 0.0, source: str = "") -> int:
        """Take a quote of a connection at ``now`` (monotonic seconds); returns by how many more quotes are held now."""
        number, last = quote.trade_id, self.last_id
        if last is not None and number <= last:
            self._lower(quote, last, now, source)
            return 0
        if self._first_heard is None:
            self._first_heard = number
        before = len(self.waiting)
        for one in self.guard.admit(quote, last if self._active else self._highest, source):
            if self._active:
                self._pass(one)
            else:
                self._hold(one)
        return len(self.waiting) - before

    def _lower(self, quote: Quote, last: int, now: float, source: str) -> None:
        number = quote.trade_id
        self.duplicates += 1
        if last - number <= self.guard.limit:
            self._loss = None
            self._joined = True  # what was written was heard in this stretch, too
            if self._first_heard is None:
                self._first_heard = number
        elif self._active and not self.halted:
            self._contradicted(self, quote, source)  # its true id is not known: it is missing
        if self._active:  # the writer of a standby is ahead of it
            self.halted = self._strays.heard(number, last, now) or self.halted

    def _hold(self, quote: Quote) -> None:
        number = quote.trade_id
        if self._loss is not None:
            self._losses[number] = self._loss
            self._loss = None
        self.waiting[number] = quote
        self._highest = max(number, self._highest or 0)

    def _pass(self, quote: Quote) -> None:
        last = self.last_id
        broken = last is not None and not self._joined and quote.trade_id > last + 1
        if self._release(self, quote, broken):
            self.last_id = quote.trade_id
            self._joined = True
            self._strays.clear()
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
        self._strays.clear()
        first = self._first_heard
        self._joined = last_id is None or (first is not None and first <= last_id)
        self.since_us, self.reason = since_us, "restart"
        held = dict(self.waiting)
        self.waiting.clear()
        losses, self._losses = self._losses, {}
        last_loss, self._loss = self._loss, None
        doubted: Quote | None = self.guard.take_back()
        for number in sorted({*held, *losses}):
            if last_id is not None and number <= last_id:
                continue  # written in a stretch of listening that is in memory
            if number in losses:
                self.lost(*losses[number])
            if number in held:
                for quote in self.guard.admit(held[number], self.last_id, ""):
                    self._pass(quote)
        if last_loss is not None:
            self.lost(*last_loss)
        if doubted is not None and (self.last_id is None or doubted.trade_id > self.last_id):
            for quote in self.guard.admit(doubted, self.last_id, ""):
                self._pass(quote)
        return len(held)

    def forget(self) -> None:
        """While passive: what was released before is lost, so that nothing says that this stretch reaches back."""
        self._first_heard = next(iter(self.waiting), None)

    def deactivate(self) -> None:
        """Hold everything: another instance writes.

        What was released is kept by its queue until it is in Kafka, so that the stretch of listening goes on.
        """
        self._active = False
        self._highest = self.last_id

    def committed(self, last_id: int) -> int:
        """Learn, while passive, how far the writer is; returns how many fewer quotes are held."""
        self.last_id = last_id
        self._highest = max(last_id, self._highest or 0)
        self.guard.drop_to(last_id)
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
