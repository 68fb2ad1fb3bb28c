"""Planted faults of the sequence, of history and of voids."""

from collections.abc import Iterable
from typing import Any

import msgspec

from ingest.core import continuity, sequence
from ingest.core.sequence import Sequencer
from ingest.core.symbol_sequence import SymbolSequence
from ingest.core.trade import Trade, Void
from ingest.core.void_evidence import LAG_SECONDS, Declare, Finding, GapEvidence, Refuse, Wait
from ingest.service.backfill import Backfill, Page
from ingest.service.halt_check import HaltCheck
from ingest.service.initial_positions import InitialPositions
from ingest.service.numbered_lane import NumberedLane
from tests.campaigns.chaos.mutant_table import UNSEEN, Patch, mutant, unguarded

# --- the sequence ---


@mutant("a new writer begins at the live head instead of behind the stored position", seeds=60, plan="takeovers")
def resume_at_the_live_head(patch: Patch) -> None:
    unguarded(patch)

    def activate(self: Sequencer, next_ids: dict[str, int], now: float, last_times: Any) -> None:
        del last_times
        self._active = True
        for symbol, lane in self.sequences.items():
            if lane.pending:
                self.start(symbol, max(lane.pending), now)
            elif symbol in next_ids:
                self.start(symbol, next_ids[symbol], now)

    patch(Sequencer, "activate", activate)


@mutant("a second delivery is written, too", seeds=20, plan="exchange")
def no_deduplication(patch: Patch) -> None:
    unguarded(patch)

    def earlier(self: Sequencer, lane: SymbolSequence, trade: Trade, next_id: int, now: float) -> None:
        del lane, next_id, now
        if self.active:
            self._accept(trade, trade.symbol, trade.trade_id)

    patch(Sequencer, "_handle_duplicate", earlier)


@mutant("a hole is not waited for: what comes beyond it goes on at once", seeds=30, plan="exchange")
def holes_passed_over(patch: Patch) -> None:
    unguarded(patch)
    original = Sequencer._handle_out_of_order

    def irregular(self: Sequencer, lane: SymbolSequence, trade: Trade, now: float) -> None:
        if self.active and lane.next_id is not None and trade.trade_id > lane.next_id:
            lane.next_id = trade.trade_id
        original(self, lane, trade, now)

    patch(Sequencer, "_handle_out_of_order", irregular)


@mutant("a hole is not waited for, and filled when its trades come: out of order", seeds=30, plan="exchange")
def holes_filled_late(patch: Patch) -> None:
    unguarded(patch)
    skipped: dict[str, set[int]] = {}
    original = Sequencer._handle_out_of_order

    def irregular(self: Sequencer, lane: SymbolSequence, trade: Trade, now: float) -> None:
        late = skipped.setdefault(lane.symbol, set())
        if self.active and lane.next_id is not None:
            if lane.next_id < trade.trade_id <= lane.next_id + 100:
                late.update(range(lane.next_id, trade.trade_id))
                lane.next_id = trade.trade_id
            elif trade.trade_id in late:
                late.discard(trade.trade_id)
                self._accept(trade, trade.symbol, trade.trade_id)
                return
        original(self, lane, trade, now)

    patch(Sequencer, "_handle_out_of_order", irregular)


@mutant("what finds no room is dropped and forgotten", seeds=40, plan="full")
def shed_is_forgotten(patch: Patch) -> None:
    unguarded(patch)
    original = Sequencer.process

    def offer(self: Sequencer, trades: Iterable[Trade], now: float) -> None:
        if self.active and self._full():
            for trade in trades:
                lane = self.sequences.get(trade.symbol)
                if lane is not None and trade.trade_id == lane.next_id:
                    lane.next_id += 1
            return
        original(self, trades, now)

    patch(Sequencer, "process", offer)


@mutant("of two deliveries that differ the later one is believed", seeds=200, plan="exchange")
def last_delivery_wins(patch: Patch) -> None:
    original = Sequencer._handle_out_of_order

    def irregular(self: Sequencer, lane: SymbolSequence, trade: Trade, now: float) -> None:
        if trade.trade_id in lane.pending:
            lane.pending[trade.trade_id] = trade
        original(self, lane, trade, now)

    patch(Sequencer, "_handle_out_of_order", irregular)
    patch(sequence.Sequencer, "process", _always_handle_out_of_order)


def _always_handle_out_of_order(self: Sequencer, trades: Iterable[Trade], now: float) -> None:
    """Hold everything for a moment, so that a second delivery finds the first."""
    batch = list(trades)
    for trade in batch:
        lane = self.sequences.get(trade.symbol)
        if lane is not None:
            twins = [other for other in batch if other.symbol == trade.symbol and other.trade_id == trade.trade_id]
            self._handle_out_of_order(lane, twins[-1], now)


# --- history and voids ---


@mutant("the hole filler leaves the first missing trade out", seeds=30, plan="exchange")
def hole_filler_off_by_one(patch: Patch) -> None:
    original = Backfill._use

    def use(self: Backfill, sequence: SymbolSequence, asked: int, page: Page) -> float:
        class Rest(msgspec.Struct):
            trades: list[Trade]
            rejected: Any

        trades = [trade for trade in page.trades if trade.trade_id != asked]
        return original(self, sequence, asked, Rest(trades, page.rejected))

    patch(Backfill, "_use", use)


@mutant("a void is declared on the first reply that lacks an id", seeds=1000, plan="history")
def void_without_evidence(patch: Patch) -> None:
    original = GapEvidence._absent

    def absent(self: GapEvidence, *arguments: Any) -> Wait | Declare | Refuse:
        self._confirm_replies, self._confirm_seconds = 1, 0.0
        return original(self, *arguments)

    patch(GapEvidence, "_absent", absent)


@mutant("history that lags is taken for evidence of a void", seeds=2000, plan="history")
def lag_taken_for_a_void(patch: Patch) -> None:
    original = GapEvidence.judge

    def judge(self: GapEvidence, finding: Finding, first_pending: int | None, now: float) -> Wait | Declare | Refuse:
        if finding.first_beyond is None and not finding.unusable and first_pending is not None:
            return Declare(finding.next_id, first_pending - 1, "exchange_hole", {})
        return original(self, finding, first_pending, now)

    patch(GapEvidence, "judge", judge)


@mutant("a void covers trades that are in memory where history lacks them", seeds=200, plan="received")
def void_over_pending_trades(patch: Patch) -> None:
    original = GapEvidence.judge
    patch(GapEvidence, "judge", lambda self, finding, _pending, now: original(self, finding, None, now))
    patch(Sequencer, "check_void", lambda _self, _void: None)
    passed = Sequencer.void

    def void(self: Sequencer, one: Void, now: float) -> None:
        self._drop_below(self.sequences[one.symbol], one.last_id + 1)
        passed(self, one, now)

    patch(Sequencer, "void", void)


@mutant("an id alone identifies a trade: ids that begin again are duplicates", seeds=100, plan=UNSEEN)
def identity_by_id_alone(patch: Patch) -> None:
    def duplicate(self: Sequencer, lane: SymbolSequence, trade: Trade, next_id: int, now: float) -> None:
        del lane, trade, next_id, now
        self.counts.duplicates += 1

    patch(Sequencer, "_handle_duplicate", duplicate)


@mutant("positions do not tell when their last trade was", seeds=100, plan=UNSEEN)
def positions_without_a_time(patch: Patch) -> None:
    original = continuity._after

    def after(before: Any, firsts: Any, next_ids: Any, voided: Any, times: Any) -> Any:
        del times
        return original(before, firsts, next_ids, voided, {})

    patch(continuity, "_after", after)


@mutant("history is asked without a pause for an id that one message named", seeds=100, plan=UNSEEN)
def wild_ids_are_asked_for_ever(patch: Patch) -> None:
    patch(GapEvidence, "_behind", lambda _self, _now: Wait(LAG_SECONDS[0]))
    patch(Sequencer, "withdraw_contradicted", lambda _self, _symbol, _now: [])
    patch(Sequencer, "withdraw_claim", lambda _self, _symbol, _now: 0)


@mutant("a symbol begins with whatever arrives first", seeds=200, plan=UNSEEN)
def first_trade_believed(patch: Patch) -> None:
    original = InitialPositions._start_one

    async def start_one(self: InitialPositions, symbol: str, last_id: int, *, exact: bool) -> None:
        sequence = self._sequence(symbol)
        if sequence is not None and sequence.pending:
            self._begin(symbol, min(sequence.pending))
        else:
            await original(self, symbol, last_id, exact=exact)

    patch(InitialPositions, "_start_one", start_one)


@mutant("a halt ends without a look at history", seeds=100, plan=UNSEEN)
def halts_end_by_themselves(patch: Patch) -> None:
    async def goes_on(_self: HaltCheck, _sequence: SymbolSequence) -> bool:
        return True

    patch(HaltCheck, "_goes_on", goes_on)


@mutant("a void is passed over without a record", seeds=60, plan="exchange")
def void_not_recorded(patch: Patch) -> None:
    unguarded(patch)
    patch(NumberedLane, "void", lambda self, void: self.sequencer.void(void, self._monotonic()))
