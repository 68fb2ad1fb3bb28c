"""Faults planted into the service from outside: each breaks one promise, and each must be noticed.

A mutant replaces attributes of the modules, nothing in the service knows of it. Some of them would be stopped by the
last guard before Kafka (``continuity``), which ends the process; those take the guard away, too, so that the
damage reaches the topic and the auditor must see it there.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ingest.core import continuity, sequence
from ingest.core.batch import Batch
from ingest.core.errors import Fenced, Recycle, Retry
from ingest.core.role import Role
from ingest.core.sequence import Sequencer
from ingest.core.symbol_sequence import SymbolSequence
from ingest.core.trade import Position, Trade, Void
from ingest.core.void_evidence import LAG_SECONDS, Declare, Finding, GapEvidence, Refuse, Wait
from ingest.kafka import client, encoding, positions, transactional_writer
from ingest.kafka.events import Committed, Recycled, TookOver
from ingest.kafka.positions import ShardState, ShardStateUpdate
from ingest.kafka.producer import Message, Timing, TransactionalProducer
from ingest.kafka.transactional_writer import TransactionalWriter
from ingest.kafka.writer_thread import WriterThread
from ingest.service.backfill import Backfill, Page
from ingest.service.halt_check import HaltCheck
from ingest.service.initial_positions import InitialPositions
from ingest.service.pipeline import Pipeline
from ingest.service.supervisor import Supervisor

Patch = Callable[[Any, str, Any], None]
"""(module or class, attribute, replacement)."""


@dataclass(frozen=True)
class Mutant:
    """One planted fault."""

    name: str
    breaks: str
    apply: Callable[[Patch], None]
    seeds: int
    """It must be caught within so many seeds of the deterministic tier; 0: it cannot show there."""
    plan: str
    """What it is hunted with first on the real processes, see ``plans``."""


MUTANTS: dict[str, Mutant] = {}


def mutant(breaks: str, *, seeds: int, plan: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Register a mutant under its function's name."""

    def register(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        name = apply.__name__.replace("_", "-")
        MUTANTS[name] = Mutant(name, breaks, apply, seeds, plan)
        return apply

    return register


class Applied:
    """Applies a mutant while the context is open."""

    def __init__(self, name: str) -> None:
        self._mutant = MUTANTS[name]
        self._before: list[tuple[Any, str, Any]] = []

    def _patch(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, value)

    def __enter__(self) -> None:
        self._mutant.apply(self._patch)

    def __exit__(self, *_: object) -> None:
        for owner, name, value in reversed(self._before):
            setattr(owner, name, value)


def _unguarded(patch: Patch) -> None:
    """Positions follow whatever is written."""

    def advance(
        before: dict[str, Position],
        records: Iterable[tuple[str, int, bytes]],
        voids: Iterable[Void],
        baselines: dict[str, int],
        last_times_us: Mapping[str, int],
    ) -> dict[str, Position]:
        after: dict[str, Position] = {}

        def known(symbol: str, first_id: int) -> Position:
            return (
                after.get(symbol)
                or before.get(symbol)
                or Position(baselines.get(symbol, first_id), baselines.get(symbol, first_id) - 1, 0)
            )

        def moved(old: Position, symbol: str, last_id: int, count: int) -> None:
            after[symbol] = Position(old.first_id, max(old.last_id, last_id), count, last_times_us.get(symbol))

        for symbol, trade_id, _ in records:
            old = known(symbol, trade_id)
            moved(old, symbol, trade_id, old.count + 1)
        for void in voids:
            old = known(void.symbol, void.first_id)
            moved(old, void.symbol, void.last_id, old.count)
        for symbol, first_id in baselines.items():
            if symbol not in before:
                after.setdefault(symbol, known(symbol, first_id))
        return after

    patch(transactional_writer, "validate_and_advance_positions", advance)


# --- fencing and the take-over ---


@mutant("nobody is fenced: every producer has an id of its own", seeds=10, plan="takeovers")
def random_transactional_ids(patch: Patch) -> None:
    numbers, original = itertools.count(), client.producer

    def other(settings: Any, *, transactional: bool) -> dict[str, Any]:
        config = original(settings, transactional=transactional)
        return {**config, "transactional.id": f"{config['transactional.id']}-{id(config)}-{next(numbers)}"}

    patch(client, "producer", other)


@mutant("the positions are read before the predecessor is fenced", seeds=1000, plan="promotions")
def positions_read_before_the_fence(patch: Patch) -> None:
    original = TransactionalWriter.take_over

    def take_over(self: TransactionalWriter, deployment_id: str | None) -> Any:
        early = self._broker.ledger()
        event = original(self, deployment_id)
        if isinstance(event, TookOver):
            self.positions = dict(early.positions)
            event = msgspec.structs.replace(event, ledger=early)
        return event

    patch(TransactionalWriter, "take_over", take_over)


@mutant("a fenced writer takes the id back without looking who writes now", seeds=500, plan="takeovers")
def generation_not_checked(patch: Patch) -> None:
    original = Supervisor.on_ledger

    def on_ledger(self: Supervisor, update: ShardStateUpdate) -> None:
        writing = self.role in (Role.ACTIVE, Role.FENCED)
        original(self, msgspec.structs.replace(update, writer=None) if writing else update)

    patch(TransactionalWriter, "_superseded", lambda _self, _seen: False)
    patch(Supervisor, "on_ledger", on_ledger)  # else the news of the successor alone would put it right


@mutant(
    "positions are read uncommitted: those of an aborted transaction are believed", seeds=200, plan="killed_in_commit"
)
def positions_read_uncommitted(patch: Patch) -> None:
    original = client.reader

    def other(*arguments: Any, **options: Any) -> dict[str, Any]:
        return {**original(*arguments, **options), "isolation.level": "read_uncommitted"}

    patch(client, "reader", other)


@mutant(
    "a replaced producer trusts memory: what an unknown outcome has committed is written again",
    seeds=1000,
    plan="unanswered",
)
def recycle_without_reading(patch: Patch) -> None:
    original = TransactionalWriter.recycle

    def recycle(self: TransactionalWriter, reason: str) -> Any:
        before = dict(self.positions)
        event = original(self, reason)
        if isinstance(event, Recycled):
            self.positions = before
            ledger = ShardState(before, event.ledger.generation, event.ledger.writer)
            event = msgspec.structs.replace(event, ledger=ledger)
        return event

    patch(TransactionalWriter, "recycle", recycle)


@mutant(
    "a lost commit is sent again sooner than a slow commit is noticed (KAFKA-17754)", seeds=3000, plan="late_commits"
)
def hidden_retry_is_quick(patch: Patch) -> None:
    original = client.producer

    def other(settings: Any, *, transactional: bool) -> dict[str, Any]:
        return {**original(settings, transactional=transactional), "retry.backoff.ms": 100}

    patch(client, "producer", other)


# --- transactions ---


def _split(patch: Patch, *, positions_first: bool) -> None:
    original = TransactionalProducer.transact

    def transact(self: TransactionalProducer, messages: Iterable[Message]) -> Timing:
        parts: tuple[list[Message], list[Message]] = ([], [])
        for message in messages:
            parts[message[0].endswith(".positions") is not positions_first].append(message)
        if parts[0]:
            original(self, iter(parts[0]))
        return original(self, iter(parts[1]))

    patch(TransactionalProducer, "transact", transact)


@mutant("positions are committed in a transaction of their own, after the trades", seeds=40, plan="killed_in_commit")
def positions_outside_the_transaction(patch: Patch) -> None:
    _split(patch, positions_first=False)


@mutant("positions are committed in a transaction of their own, before the trades", seeds=20, plan="killed_in_commit")
def positions_before_the_trades(patch: Patch) -> None:
    _split(patch, positions_first=True)


@mutant("a slow or interrupted commit does not replace the producer (KAFKA-17754)", seeds=2000, plan="late_commits")
def no_recycle(patch: Patch) -> None:
    patch(TransactionalProducer, "doubtful", lambda _self, _timing: None)


@mutant("a batch whose transaction went wrong counts as committed", seeds=1000, plan="undelivered")
def errors_swallowed(patch: Patch) -> None:
    _unguarded(patch)
    original = TransactionalProducer.transact

    def transact(self: TransactionalProducer, messages: Iterable[Message]) -> Timing:
        try:
            return original(self, messages)
        except (Recycle, Retry):
            # So slow that the producer is replaced: one that goes on with a broken producer commits nothing any more,
            # and whoever takes over from it reads the positions, which mends everything.
            return Timing(60.0, 60.0)

    patch(TransactionalProducer, "transact", transact)


@mutant(
    "a batch counts as committed before it is: before delivery reports, before the commit",
    seeds=1000,
    plan="undelivered",
)
def acknowledged_before_the_commit(patch: Patch) -> None:
    _unguarded(patch)

    def transact(self: WriterThread, batch: Batch | None) -> None:
        if batch is not None:
            after = continuity.validate_and_advance_positions(
                self._shard.positions, batch.records, batch.voids, batch.baselines, batch.last_times_us
            )
            last_ids = {symbol: position.last_id for symbol, position in after.items()}
            self._callback(Committed(self._shard.session, batch, 0.0, 0.0, last_ids))
        try:
            _, doubt = self._shard.write(batch)
        except (Recycle, Fenced, Retry) as error:
            self._on_trouble(error)
            return
        self._last_commit = self._shard._monotonic()
        if doubt is not None:
            self._recycle(doubt, "")

    patch(WriterThread, "_transact", transact)


@mutant("a batch of the time before a recycle is written after it", seeds=10, plan="slow_commits")
def session_not_checked(patch: Patch) -> None:
    _unguarded(patch)

    class Any_(int):  # noqa: N801
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    original = WriterThread.write
    patch(WriterThread, "write", lambda self, session, batch: original(self, Any_(session), batch))


@mutant("the stored position is one ahead of the trades", seeds=10, plan="takeovers")
def position_one_ahead(patch: Patch) -> None:
    original = positions.position_record

    def ahead(symbol: str, position: Position) -> Any:
        return original(symbol, Position(position.first_id, position.last_id + 1, position.count))

    patch(transactional_writer, "position_record", ahead)


@mutant("the stored count takes voids for trades", seeds=50, plan="exchange")
def voids_counted_as_trades(patch: Patch) -> None:
    original = continuity._after
    patch(
        continuity,
        "_after",
        lambda before, firsts, next_ids, _voided, times: original(before, firsts, next_ids, {}, times),
    )


@mutant("records have no key: a symbol's trades are spread over the partitions", seeds=10, plan="few")
def keys_dropped(patch: Patch) -> None:
    original = TransactionalWriter._messages

    def messages(self: TransactionalWriter, batch: Batch | None, after: dict[str, Position]) -> Iterator[Message]:
        for topic, key, value, partition in original(self, batch, after):
            yield topic, None if topic == self._topic else key, value, partition

    patch(TransactionalWriter, "_messages", messages)


# --- after a recycle ---


@mutant("after a recycle, what had been handed over is forgotten", seeds=10, plan="slow_commits")
def rewind_forgets(patch: Patch) -> None:
    _unguarded(patch)
    patch(Pipeline, "rewind", lambda self, _positions: self.outbox.clear())


@mutant("after a recycle, everything not acknowledged is written again", seeds=60, plan="unanswered")
def rewind_repeats(patch: Patch) -> None:
    _unguarded(patch)
    patch(Pipeline, "rewind", lambda self, _positions: self.outbox.rewind({}))


# --- the sequence ---


@mutant("a new writer begins at the live head instead of behind the stored position", seeds=60, plan="takeovers")
def resume_at_the_live_head(patch: Patch) -> None:
    _unguarded(patch)

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
    _unguarded(patch)

    def earlier(self: Sequencer, lane: SymbolSequence, trade: Trade, next_id: int, now: float) -> None:
        del lane, next_id, now
        if self.active:
            self._accept(trade)

    patch(Sequencer, "_handle_duplicate", earlier)


@mutant("a hole is not waited for: what comes beyond it goes on at once", seeds=30, plan="exchange")
def holes_passed_over(patch: Patch) -> None:
    _unguarded(patch)
    original = Sequencer._handle_out_of_order

    def irregular(self: Sequencer, lane: SymbolSequence, trade: Trade, now: float) -> None:
        if self.active and lane.next_id is not None and trade.trade_id > lane.next_id:
            lane.next_id = trade.trade_id
        original(self, lane, trade, now)

    patch(Sequencer, "_handle_out_of_order", irregular)


@mutant("a hole is not waited for, and filled when its trades come: out of order", seeds=30, plan="exchange")
def holes_filled_late(patch: Patch) -> None:
    _unguarded(patch)
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
                self._accept(trade)
                return
        original(self, lane, trade, now)

    patch(Sequencer, "_handle_out_of_order", irregular)


@mutant("what finds no room is dropped and forgotten", seeds=40, plan="full")
def shed_is_forgotten(patch: Patch) -> None:
    _unguarded(patch)
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

        return original(self, sequence, asked, Rest(page.trades[1:], page.rejected))

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


@mutant("a void covers trades that are in memory where history lacks them", seeds=200, plan="history")
def void_over_pending_trades(patch: Patch) -> None:
    original = GapEvidence.judge
    patch(GapEvidence, "judge", lambda self, finding, _pending, now: original(self, finding, None, now))
    patch(Sequencer, "check_void", lambda _self, _void: None)
    passed = Sequencer.void

    def void(self: Sequencer, one: Void, now: float) -> None:
        self._drop_below(self.sequences[one.symbol], one.last_id + 1)
        passed(self, one, now)

    patch(Sequencer, "void", void)


@mutant("an id alone identifies a trade: ids that begin again are duplicates", seeds=100, plan="exchange")
def identity_by_id_alone(patch: Patch) -> None:
    def duplicate(self: Sequencer, lane: SymbolSequence, trade: Trade, next_id: int, now: float) -> None:
        del lane, trade, next_id, now
        self.counts.duplicates += 1

    patch(Sequencer, "_handle_duplicate", duplicate)


@mutant("positions do not tell when their last trade was", seeds=100, plan="takeovers")
def positions_without_a_time(patch: Patch) -> None:
    original = continuity._after

    def after(before: Any, firsts: Any, next_ids: Any, voided: Any, times: Any) -> Any:
        del times
        return original(before, firsts, next_ids, voided, {})

    patch(continuity, "_after", after)


@mutant("history is asked without a pause for an id that one message named", seeds=100, plan="exchange")
def wild_ids_are_asked_for_ever(patch: Patch) -> None:
    patch(GapEvidence, "_behind", lambda _self, _now: Wait(LAG_SECONDS[0]))
    patch(Sequencer, "withdraw_contradicted", lambda _self, _symbol, _now: [])
    patch(Sequencer, "withdraw_claim", lambda _self, _symbol, _now: 0)


@mutant("a symbol begins with whatever arrives first", seeds=200, plan="exchange")
def first_trade_believed(patch: Patch) -> None:
    original = InitialPositions._start_one

    async def start_one(self: InitialPositions, symbol: str, last_id: int, *, exact: bool) -> None:
        sequence = self._sequence(symbol)
        if sequence is not None and sequence.pending:
            self._begin(symbol, min(sequence.pending))
        else:
            await original(self, symbol, last_id, exact=exact)

    patch(InitialPositions, "_start_one", start_one)


@mutant("a halt ends without a look at history", seeds=100, plan="exchange")
def halts_end_by_themselves(patch: Patch) -> None:
    async def goes_on(_self: HaltCheck, _sequence: SymbolSequence) -> bool:
        return True

    patch(HaltCheck, "_goes_on", goes_on)


@mutant("a void is passed over without a record", seeds=60, plan="exchange")
def void_not_recorded(patch: Patch) -> None:
    _unguarded(patch)
    patch(Pipeline, "void", lambda self, void: self.sequencer.void(void, self._monotonic()))


# --- content: the model's records are not Avro, so these show on the real topic only ---


def _recoded(patch: Patch, change: Callable[[Trade], Trade]) -> None:
    original = encoding.TradeEncoder.encode

    def encode(self: encoding.TradeEncoder, trade: Trade, ingestion_us: int) -> bytes:
        return original(self, change(trade), ingestion_us)

    patch(encoding.TradeEncoder, "encode", encode)


@mutant("times lose their microseconds", seeds=0, plan="few")
def time_in_milliseconds(patch: Patch) -> None:
    _recoded(patch, lambda one: msgspec.structs.replace(one, trade_time_us=one.trade_time_us // 1000 * 1000))


@mutant("buyer and seller are confused", seeds=0, plan="few")
def sides_swapped(patch: Patch) -> None:
    _recoded(patch, lambda one: msgspec.structs.replace(one, buyer_is_maker=not one.buyer_is_maker))


@mutant("quantities are rounded to six decimal places by way of a float", seeds=0, plan="few")
def quantity_through_a_float(patch: Patch) -> None:
    _recoded(patch, lambda one: msgspec.structs.replace(one, quantity=f"{float(one.quantity) * 1.0000001:.6f}"))


DETERMINISTIC = tuple(name for name, one in MUTANTS.items() if one.seeds)
"""Those that can show on the models."""
