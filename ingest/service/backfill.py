"""Fills gaps from the exchange's REST history by id. ``core.void_evidence`` decides what a reply means."""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from ingest.binance.aggregates import Aggregate
from ingest.core.errors import Reject, Retry
from ingest.core.symbol_sequence import SymbolSequence
from ingest.core.trade import Trade, Void
from ingest.core.void_evidence import LAG_SECONDS, Declare, Finding, GapEvidence, Refuse, VoidLimit, Wait
from ingest.service.aggregate_source import AggregateSource
from ingest.service.numbered_lane import NumberedLane

log = logging.getLogger(__name__)

PAGE = 1000
"""Trades in a page: the most that the exchange returns, and the weight does not depend on it [rest]."""
POLL_SECONDS = 0.05
INEXACT: Final = frozenset(("bad_decimal", "too_large"))
"""Why a well-formed trade has no exact record; any other refusal is damage, and may be gone in the next reply."""
RESUMED_SECONDS = 1.0
"""For this time after a take-over no grace is given: what is missing was traded before, and will not arrive."""


class Page(Protocol):
    """A page of history in ascending order of id."""

    @property
    def trades(self) -> list[Trade]:
        """Well-formed elements."""

    @property
    def rejected(self) -> list[tuple[int | None, bytes, Reject]]:
        """Elements that could not be decoded: id if known, bytes, reason."""


class History(Protocol):
    """The REST history of trades."""

    async def trades_from(self, symbol: str, from_id: int, limit: int = PAGE) -> Page:
        """Return trades from ``from_id`` on; raises ``Retry``."""


class Aggregates(Protocol):
    """Aggregated trades: cheaper, and exact where an aggregate is one trade."""

    async def aggregates(self, symbol: str, limit: int = PAGE) -> list[Aggregate]:
        """Return the newest aggregates; raises ``Retry``."""


class Backfill:
    """Fills the sequencer's gaps, those of busy symbols first, a few symbols at a time."""

    def __init__(
        self,
        pipeline: NumberedLane,
        history: History,
        *,
        grace_seconds: float,
        confirm_seconds: float,
        confirm_replies: int,
        monotonic: Callable[[], float],
        void_limit: VoidLimit | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        at_once: int = 8,
        page: int = PAGE,
        aggregates: Aggregates | None = None,
        on_catch_up: Callable[[bool], None] = lambda _: None,
    ) -> None:
        """``on_catch_up`` gets whether trades are missing, at each look."""
        self._pipeline = pipeline
        self._sequencer = pipeline.sequencer
        self._history = history
        self._grace = grace_seconds
        self._confirm_seconds = confirm_seconds
        self._confirm_replies = confirm_replies
        self._monotonic = monotonic
        self._void_limit = void_limit or VoidLimit()
        self._sleep = sleep
        self._at_once = at_once
        self._page = page
        self._busy: set[str] = set()
        self._evidence: dict[str, GapEvidence] = {}
        self._unusable: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._on_catch_up = on_catch_up
        self._from_aggregates = AggregateSource(pipeline, aggregates) if aggregates is not None else None

    async def run(self) -> None:
        """Fill gaps until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._sleep(POLL_SECONDS)
                self._forget_closed()
                self._on_catch_up(bool(self._sequencer.open_gaps))
                for symbol in self.due():
                    self._busy.add(symbol)
                    group.create_task(self._fill(symbol), name=f"backfill {symbol}")

    def _forget_closed(self) -> None:
        """What was learned about a gap does not hold for the next one."""
        if self._from_aggregates is not None:
            self._from_aggregates.forget_closed()
        for known in (self._evidence, self._not_before, self._unusable):
            for symbol in [symbol for symbol in known if symbol not in self._sequencer.open_gaps]:
                del known[symbol]

    @property
    def asking(self) -> bool:
        """Whether history is being requested, or is to be requested now; not while a symbol waits to be asked again."""
        return bool(self._busy) or bool(self._ready())

    def due(self) -> list[str]:
        """Symbols whose gap is old enough to ask about, as many as may be asked at once: busy ones first."""
        places = self._at_once - len(self._busy)
        if places <= 0 or not self._pipeline.room_for_history():
            return []
        # What waits behind a gap fills the memory: the more of it, the more urgent.
        return [one.symbol for one in heapq.nlargest(places, self._ready(), key=lambda one: len(one.pending))]

    def _ready(self) -> list[SymbolSequence]:
        """The symbols whose gap is old enough to ask about."""
        now = self._monotonic()
        grace = 0.0 if now - self._pipeline.activated_at < RESUMED_SECONDS else self._grace
        return [
            sequence
            for symbol, sequence in self._sequencer.open_gaps.items()
            if symbol not in self._busy
            and sequence.halted is None
            and sequence.gap_age(now) >= grace
            and now >= self._not_before.get(symbol, 0.0)
        ]

    async def _fill(self, symbol: str) -> None:
        """Read pages until the gap is closed or a wait is due; then another symbol gets the place."""
        try:
            while self._fillable(symbol):
                sequence = self._sequencer.sequences[symbol]
                asked = sequence.next_id
                if asked is None:
                    return
                try:
                    if self._from_aggregates is not None and await self._from_aggregates.fill(sequence):
                        continue
                    # From the last released id on, which shows that history continues the same sequence.
                    page = await self._history.trades_from(symbol, max(0, asked - 1), self._page)
                except Retry as error:
                    log.info("history: %s", error, extra={"symbol": symbol, "from_id": asked})
                    self._not_before[symbol] = self._monotonic() + max(error.after, LAG_SECONDS[0])
                    return
                if not self._fillable(symbol):
                    return
                seconds = self._use(sequence, asked, page)
                if seconds > 0.0:
                    self._not_before[symbol] = self._monotonic() + seconds
                    return
        finally:
            self._busy.discard(symbol)

    def _fillable(self, symbol: str) -> bool:
        sequence = self._sequencer.open_gaps.get(symbol)
        return sequence is not None and sequence.halted is None and self._pipeline.room_for_history()

    def _use(self, sequence: SymbolSequence, asked: int, page: Page) -> float:
        """Take a page; returns the seconds to wait before the next request for this symbol, 0.0 for none."""
        symbol = sequence.symbol
        other = next((trade for trade in page.trades if trade.trade_id == asked - 1), None)
        if other is not None and other.trade_time_us > sequence.last_time_us:
            self._sequencer.halt(symbol, "id_reset", self._monotonic(), other)
            return 0.0
        self._pipeline.on_history([trade for trade in page.trades if trade.trade_id >= asked])
        full = len(page.trades) + len(page.rejected) >= self._page
        if not full:
            # History has been read to its end: what is older than that end and still waits is false.
            self._pipeline.contradicted(self._sequencer.withdraw_contradicted(symbol, self._monotonic()))
        if not self._fillable(symbol) or sequence.next_id is None:
            return 0.0
        finding = self._finding(sequence, sequence.next_id, page, full=full)
        return self._decide(sequence, finding)

    def _finding(self, sequence: SymbolSequence, next_id: int, page: Page, *, full: bool) -> Finding:
        present = {trade.trade_id for trade in page.trades}
        unusable = {trade_id: (raw, error) for trade_id, raw, error in page.rejected if trade_id is not None}
        if next_id in unusable and self._unusable.get(sequence.symbol) != next_id:
            self._unusable[sequence.symbol] = next_id
            self._pipeline.on_rejected("history", *unusable[next_id])
        beyond = [trade_id for trade_id in (*present, *unusable) if trade_id > next_id]
        refused = sequence.refused if next_id in present else None
        no_record = next_id in unusable or refused is not None
        damaged = next_id in unusable or (refused is not None and refused.reason not in INEXACT)
        return Finding(next_id, no_record, min(beyond, default=None), full, damaged)

    def _decide(self, sequence: SymbolSequence, finding: Finding) -> float:
        symbol, now = sequence.symbol, self._monotonic()
        evidence = self._evidence.get(symbol)
        if evidence is None:
            evidence = self._evidence[symbol] = GapEvidence(
                confirm_seconds=self._confirm_seconds, confirm_replies=self._confirm_replies
            )
        decision = evidence.judge(finding, sequence.first_received, now)
        if isinstance(decision, Declare):
            self._declare(sequence, decision, now)
            return 0.0
        if isinstance(decision, Refuse):
            log.error(
                "history lacks a trade that was received and could not be kept",
                extra={"symbol": symbol, "trade_id": finding.next_id},
            )
            self._sequencer.halt(symbol, "voids", now)
            return 0.0
        self._report(sequence, finding, decision)
        if decision.unproven and self._sequencer.withdraw_claim(symbol, now):
            log.warning(
                "ids that only a message named are not in history: no longer waited for",
                extra={"symbol": symbol, "next_id": finding.next_id},
            )
        return decision.seconds

    def _report(self, sequence: SymbolSequence, finding: Finding, decision: Wait) -> None:
        where = {"symbol": sequence.symbol, "next_id": finding.next_id}
        if decision.first_evidence:
            log.warning(
                "history lacks ids: void after %g s unless they turn up", self._confirm_seconds,
                extra={**where, "unusable": finding.unusable, "first_beyond": finding.first_beyond},
            )  # fmt: skip
        elif decision.unproven:
            log.warning(
                "history does not reach ids that were received",
                extra={**where, "high_watermark": sequence.high_watermark, "pending": len(sequence.pending)},
            )

    def _declare(self, sequence: SymbolSequence, found: Declare, now: float) -> None:
        symbol = sequence.symbol
        if not self._void_limit.allows(symbol, found.reason, now):
            self._sequencer.halt(symbol, "voids", now)
            return
        evidence = dict(found.evidence)
        if found.reason == "unrepresentable" and sequence.refused is not None:
            evidence["error"] = str(sequence.refused)[:200]
        self._pipeline.void(Void(symbol, found.first_id, found.last_id, found.reason, evidence))
