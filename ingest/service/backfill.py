"""Holes are filled from the exchange's REST history by id, and what it cannot give back is proved void.

History is a lagging database: an id that is absent counts only when the reply holds an id beyond it, in several
replies, over a time. An id older than what the exchange keeps is answered with the oldest kept trade: the same rule
covers it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from ingest.core.errors import Reject, Retry
from ingest.core.sequence import SymbolSequence
from ingest.core.trade import Trade, Void, VoidReason
from ingest.service.pipeline import Pipeline

log = logging.getLogger(__name__)

PAGE = 1000
"""Trades in a page: the most that the exchange returns, and the weight does not depend on it [rest]."""
POLL_SECONDS = 0.05
LAG_SECONDS = (0.25, 5.0)
"""First and longest wait for history to catch up with the stream."""
RESUMED_SECONDS = 1.0
"""So long after taking over no grace is given: what is missing was traded while nobody wrote, and will not arrive."""
THAW_SECONDS = 10.0
UNUSABLE_SECONDS = 5.0
"""An id that history itself states unusably is settled after this time: it is there, waiting would not change it."""


class Page(Protocol):
    """A page of history in ascending order of id."""

    @property
    def trades(self) -> list[Trade]:
        """Well-formed elements."""

    @property
    def rejected(self) -> list[tuple[int | None, bytes, Reject]]:
        """Elements that could not be decoded: id where known, bytes, why."""


class History(Protocol):
    """The REST history of trades."""

    async def trades_from(self, symbol: str, from_id: int, limit: int = PAGE) -> Page:
        """Return trades from ``from_id`` on; raises ``Retry``."""


class Absence(msgspec.Struct):
    """Evidence that an id cannot be had, as it grows."""

    first_id: int
    since: float
    reason: VoidReason
    replies: int = 0
    next_found: int = 0
    """The lowest id beyond that any of the replies held: one reply that lacks more is no evidence for the rest."""


class Backfill:
    """Fills the sequencer's holes, the oldest first, a few symbols at a time."""

    def __init__(
        self,
        pipeline: Pipeline,
        history: History,
        *,
        grace_seconds: float,
        confirm_seconds: float,
        confirm_replies: int,
        monotonic: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        at_once: int = 4,
    ) -> None:
        self._pipeline = pipeline
        self._history = history
        self._grace = grace_seconds
        self._confirm_seconds = confirm_seconds
        self._confirm_replies = confirm_replies
        self._monotonic = monotonic
        self._sleep = sleep
        self._at_once = at_once
        self._busy: set[str] = set()
        self._absent: dict[str, Absence] = {}
        self._not_before: dict[str, float] = {}
        self._thaw_checked = 0.0

    async def run(self) -> None:
        """Fill holes until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._sleep(POLL_SECONDS)
                for symbol in self.due():
                    self._busy.add(symbol)
                    group.create_task(self._fill(symbol), name=f"backfill {symbol}")
                if self._monotonic() - self._thaw_checked >= THAW_SECONDS and "" not in self._busy:
                    self._thaw_checked = self._monotonic()
                    if any(lane.frozen == "giant_jump" for lane in self._pipeline.sequencer.frozen()):
                        self._busy.add("")
                        group.create_task(self._check_jumps(), name="backfill jumps")

    def due(self) -> list[str]:
        """Symbols whose hole is old enough to ask about, as many as may be asked at once."""
        now = self._monotonic()
        if not self._pipeline.room_for_history():
            return []
        grace = 0.0 if now - self._pipeline.activated_at < RESUMED_SECONDS else self._grace
        return [
            symbol
            for symbol, lane in self._pipeline.sequencer.open_gaps.items()
            if symbol not in self._busy
            and lane.frozen is None
            and lane.gap_age(now) >= grace
            and now >= self._not_before.get(symbol, 0.0)
        ][: max(0, self._at_once - len(self._busy))]

    async def _fill(self, symbol: str) -> None:
        """Ask for pages until the hole is closed or a wait is due; then give the place to another symbol."""
        lag = LAG_SECONDS[0]
        try:
            while self._fillable(symbol):
                lane = self._pipeline.sequencer.lanes[symbol]
                asked = lane.next_id
                if asked is None:
                    return
                try:
                    page = await self._history.trades_from(symbol, asked, PAGE)
                except Retry as error:
                    log.info("history of %s from %d: %s", symbol, asked, error)
                    self._not_before[symbol] = self._monotonic() + max(error.after, LAG_SECONDS[0])
                    return
                if not self._fillable(symbol):
                    return
                wait = self._take(lane, asked, page)
                if wait > 0.0:
                    self._not_before[symbol] = self._monotonic() + max(wait, lag)
                    return
        finally:
            self._busy.discard(symbol)

    def _fillable(self, symbol: str) -> bool:
        return symbol in self._pipeline.sequencer.open_gaps and self._pipeline.room_for_history()

    def _take(self, lane: SymbolSequence, asked: int, page: Page) -> float:
        """Use a page; returns the seconds to wait before the next question about this symbol, 0.0 for none."""
        self._pipeline.on_history([trade for trade in page.trades if trade.trade_id >= asked])
        if lane.symbol not in self._pipeline.sequencer.open_gaps or lane.next_id is None:
            self._absent.pop(lane.symbol, None)
            return 0.0
        next_id = lane.next_id
        if next_id != asked and lane.refused is None:
            return 0.0  # progress: ask on from here
        unusable = {trade_id: (raw, error) for trade_id, raw, error in page.rejected if trade_id is not None}
        if next_id in unusable or (lane.refused is not None and any(t.trade_id == next_id for t in page.trades)):
            if next_id in unusable and self._evidence(lane.symbol, next_id, "unrepresentable").replies == 1:
                raw, error = unusable[next_id]
                self._pipeline.on_rejected("history", raw, error)
            return self._judge(lane, next_id, next_id, "unrepresentable", min(UNUSABLE_SECONDS, self._confirm_seconds))
        beyond = [trade.trade_id for trade in page.trades if trade.trade_id > next_id]
        beyond += [trade_id for trade_id in unusable if trade_id > next_id]
        if not beyond:
            return self._lag(lane.symbol)
        return self._judge(lane, next_id, min(beyond) - 1, "exchange_hole", self._confirm_seconds)

    def _lag(self, symbol: str) -> float:
        """History has not caught up with the stream yet: not a word about what is missing."""
        absence = self._absent.get(symbol)
        return LAG_SECONDS[0] if absence is None else min(LAG_SECONDS[1], self._spacing())

    def _evidence(self, symbol: str, first_id: int, reason: VoidReason) -> Absence:
        absence = self._absent.get(symbol)
        if absence is None or absence.first_id != first_id or absence.reason != reason:
            absence = self._absent[symbol] = Absence(first_id, self._monotonic(), reason)
        return absence

    def _judge(self, lane: SymbolSequence, first_id: int, last_id: int, reason: VoidReason, seconds: float) -> float:
        absence = self._evidence(lane.symbol, first_id, reason)
        absence.replies += 1
        absence.next_found = min(absence.next_found or last_id + 1, last_id + 1)
        last_id = absence.next_found - 1
        age = self._monotonic() - absence.since
        if absence.replies < self._confirm_replies or age < seconds:
            if absence.replies == 1:
                log.warning(
                    "%s: history lacks %d to %d (%s); void in %.0f s unless it turns up",
                    lane.symbol, first_id, last_id, reason, seconds,
                )  # fmt: skip
            return max(LAG_SECONDS[0], min(self._spacing(), seconds - age))
        del self._absent[lane.symbol]
        evidence: dict[str, str | int] = {
            "replies": absence.replies,
            "seconds": round(age),
            "next_id_found": absence.next_found,
        }
        if reason == "unrepresentable" and lane.refused is not None:
            evidence["error"] = str(lane.refused)[:200]
        self._pipeline.void(Void(lane.symbol, first_id, last_id, reason, evidence))
        return 0.0

    def _spacing(self) -> float:
        return min(30.0, max(LAG_SECONDS[0], self._confirm_seconds / (2 * self._confirm_replies)))

    async def _check_jumps(self) -> None:
        """A jump that history confirms is a long hole, not a reset: fill it like any other."""
        try:
            for lane in [lane for lane in self._pipeline.sequencer.frozen() if lane.frozen == "giant_jump"]:
                if lane.next_id is None:
                    continue
                try:
                    page = await self._history.trades_from(lane.symbol, lane.next_id, PAGE)
                except Retry as error:
                    log.info("history of %s: %s", lane.symbol, error)
                    continue
                if any(trade.trade_id == lane.next_id for trade in page.trades):
                    log.warning("%s: history confirms the jump to %d: filling", lane.symbol, lane.jumped_to)
                    self._pipeline.sequencer.thaw(lane.symbol, self._monotonic())
        finally:
            self._busy.discard("")
