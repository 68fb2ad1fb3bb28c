"""Planted faults of books, quotes and aggregates: of their order, their breaks, their snapshots and their content."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ingest.binance.stream_history import StreamHistory
from ingest.core.batch import Span
from ingest.core.chain import Chain
from ingest.core.jump_guard import JumpGuard
from ingest.core.latest import Latest
from ingest.core.market_events import AggTrade, BookSnapshot, Break, DepthUpdate, Quote
from ingest.core.pending_batches import PendingBatches
from ingest.core.trade import Position
from ingest.kafka import stream_encoding, transactional_writer
from ingest.service.book_lane import BookLane
from ingest.service.halt_check import HaltCheck
from ingest.service.quote_lane import QuoteLane
from ingest.service.span_lane import SpanLane
from tests.campaigns.chaos.mutant_table import UNSEEN, Patch, mutant

STREAMS = "streams"
"""The plan: all streams, and faults of each."""


def unguarded_spans(patch: Patch) -> None:
    """Positions follow whatever is written."""

    def advance(positions: Mapping[str, Position], spans: Iterable[Span]) -> dict[str, Position]:
        after: dict[str, Position] = {}
        for name, kind, first_id, last_id, _, time_us in spans:
            before = after.get(name) or positions.get(name) or Position(first_id, first_id - 1, 0)
            reached = max(before.last_id, last_id)
            after[name] = Position(before.first_id, reached, before.count + (kind == "update"), time_us or None)
        return after

    patch(transactional_writer, "advance_spans", advance)


# --- books: order and breaks ---


@mutant("missing updates of a book are passed over without a break", seeds=60, plan=STREAMS, streams=True)
def book_break_undeclared(patch: Patch) -> None:
    unguarded_spans(patch)
    patch(BookLane, "_broke", lambda _self, _chain, _first_id: None)


@mutant("a break of a book says that one update less is missing", seeds=60, plan=STREAMS, streams=True)
def book_break_too_short(patch: Patch) -> None:
    unguarded_spans(patch)
    original = SpanLane.declare

    def declare(self: SpanLane, symbol: str, last_id: int, first_id: int, *others: Any) -> None:
        original(self, symbol, last_id, first_id - (self.stream.name == "depth"), *others)

    patch(SpanLane, "declare", declare)


@mutant("an update that is ahead is written before those that are missing", seeds=60, plan=STREAMS, streams=True)
def book_without_patience(patch: Patch) -> None:
    unguarded_spans(patch)
    original = Chain.take

    def take(self: Chain, update: DepthUpdate, now: float, source: str = "") -> int:
        if self.active and self.next_id is not None and update.first_id > self.next_id:
            self.next_id = update.first_id
        return original(self, update, now, source)

    patch(Chain, "take", take)


@mutant("an update of a book that comes twice is written twice", seeds=60, plan=STREAMS, streams=True)
def book_updates_doubled(patch: Patch) -> None:
    unguarded_spans(patch)
    original = Chain.take

    def take(self: Chain, update: DepthUpdate, now: float, source: str = "") -> int:
        if self.active and self.next_id is not None and update.trade_id < self.next_id:
            self._release(update)
        return original(self, update, now, source)

    patch(Chain, "take", take)


@mutant("a missing update of a book is not waited for on the other connection", seeds=120, plan=STREAMS, streams=True)
def book_break_at_once(patch: Patch) -> None:
    original = BookLane.take

    def take(self: BookLane, state: Chain, event: DepthUpdate, now: float) -> int:
        held = original(self, state, event, now)
        return held + (self._expired(state, now, 0.0) if state.gap_since is not None else 0)

    patch(BookLane, "take", take)


@mutant("a standby holds no updates of books", seeds=120, plan=STREAMS, streams=True)
def book_standby_deaf(patch: Patch) -> None:
    original = Chain.take

    def take(self: Chain, update: DepthUpdate, now: float, source: str = "") -> int:
        return original(self, update, now, source) if self.active else 0

    patch(Chain, "take", take)


@mutant("updates of books that were under way when the producer was replaced are lost", seeds=200, plan=STREAMS,
        streams=True)  # fmt: skip
def spans_lost_by_a_recycle(patch: Patch) -> None:
    unguarded_spans(patch)
    patch(PendingBatches, "_add_spans", lambda _self, _spans, _positions: None)


@mutant("records of books and quotes are written again after a commit in doubt", seeds=200, plan=STREAMS,
        streams=True)  # fmt: skip
def spans_repeated_by_a_recycle(patch: Patch) -> None:
    unguarded_spans(patch)

    def add(self: PendingBatches, spans: Iterable[Span], _positions: Mapping[str, Position]) -> None:
        for span in spans:
            self.add_span(span)

    patch(PendingBatches, "_add_spans", add)


@mutant("what a former writer had queued of books is dropped when it writes again", seeds=600, plan=STREAMS,
        streams=True, first=170)  # fmt: skip
def spans_dropped_by_a_promotion(patch: Patch) -> None:
    patch(PendingBatches, "_continues", staticmethod(lambda _span, _due, _stored: False))


# --- books: snapshots ---


@mutant("no snapshot is asked for after a break", seeds=60, plan=STREAMS, streams=True)
def book_stays_unsynced(patch: Patch) -> None:
    original = Chain.break_to

    def break_to(self: Chain, first_id: int, now: float) -> None:
        original(self, first_id, now)
        self.synced = True

    patch(Chain, "break_to", break_to)


@mutant("a snapshot is written where it arrives, whatever its id", seeds=60, plan=STREAMS, streams=True)
def snapshot_anywhere(patch: Patch) -> None:
    unguarded_spans(patch)

    def offer(self: Chain, book: BookSnapshot, now: float) -> bool:
        self._paused = False
        self.synced = True
        self._placed(self, book)
        self.drain(now)
        return True

    patch(Chain, "offer", offer)


@mutant("a snapshot keeps half of its levels", seeds=60, plan=STREAMS, streams=True)
def snapshot_cut(patch: Patch) -> None:
    original = BookLane.offer

    def offer(self: BookLane, symbol: str, book: BookSnapshot) -> bool:
        half = len(book.bids) // 2
        return original(self, symbol, msgspec.structs.replace(book, bids=book.bids[:half]))

    patch(BookLane, "offer", offer)


# --- quotes ---


@mutant("quotes that a restart missed are not declared", seeds=60, plan=STREAMS, streams=True)
def quotes_joined_after_a_restart(patch: Patch) -> None:
    original = Latest.activate

    def activate(self: Latest, last_id: int | None, since_us: int | None) -> int:
        self._first_heard = 0
        return original(self, last_id, since_us)

    patch(Latest, "activate", activate)


@mutant("quotes that a lost connection missed are not declared", seeds=60, plan=STREAMS, streams=True)
def quotes_joined_after_a_loss(patch: Patch) -> None:
    patch(Latest, "lost", lambda _self, _since_us, _reason: None)


@mutant("a standby forgets that its connection was lost", seeds=600, plan=STREAMS, streams=True, first=50)
def quotes_joined_by_a_standby(patch: Patch) -> None:
    original = Latest.lost

    def lost(self: Latest, since_us: int | None, reason: str) -> None:
        if self.active:
            original(self, since_us, reason)

    patch(Latest, "lost", lost)


@mutant("a connection counts as listening from its opening on", seeds=600, plan=STREAMS, streams=True)
def quotes_proven_at_once(patch: Patch) -> None:
    def prove(self: QuoteLane, source: Any) -> bool:
        self._proven.add(source.name)
        return True

    patch(QuoteLane, "_prove", prove)


@mutant("a quote that comes twice is written twice", seeds=60, plan=STREAMS, streams=True)
def quotes_doubled(patch: Patch) -> None:
    unguarded_spans(patch)
    original = Latest.take

    def take(self: Latest, quote: Quote, now: float = 0.0, source: str = "") -> int:
        if self.active and quote.trade_id == self.last_id:
            self._release(self, quote, False)
        return original(self, quote, now, source)

    patch(Latest, "take", take)


@mutant("every rotation of the quotes' connection is a break", seeds=60, plan=STREAMS, streams=True)
def quotes_broken_by_a_rotation(patch: Patch) -> None:
    original = QuoteLane.ended

    def ended(self: QuoteLane, source: Any, wall_us: int) -> None:
        original(self, source, wall_us)
        for state in self.states.values():
            state.lost(wall_us, "connection")

    patch(QuoteLane, "ended", ended)


@mutant("an id far above the others moves a book or quotes at once", seeds=60, plan=UNSEEN, streams=True)
def wild_ids_move_a_sequence(patch: Patch) -> None:
    patch(JumpGuard, "admit", lambda _self, event, _last_id, _source: (event,))


@mutant("a quote with a wrong id takes the place of another one, and no break says so", seeds=200, plan=UNSEEN,
        streams=True)  # fmt: skip
def contradicted_quotes_undeclared(patch: Patch) -> None:
    patch(QuoteLane, "contradicted", lambda _self, _state, _event, _source: None)


# --- aggregates ---


@mutant("missing aggregates are asked for from one too late", seeds=200, plan=STREAMS, streams=True)
def aggregates_from_one_too_late(patch: Patch) -> None:
    original = StreamHistory.trades_from

    async def trades_from(self: StreamHistory, symbol: str, from_id: int, limit: int = 1000) -> Any:
        return await original(self, symbol, from_id + 2, limit)

    patch(StreamHistory, "trades_from", trades_from)


@mutant("a halted symbol of another stream is not compared with its history", seeds=60, plan=UNSEEN, streams=True)
def stream_halts_unchecked(patch: Patch) -> None:
    original = HaltCheck.due

    def due(self: HaltCheck) -> list[str]:
        return original(self) if self._stream == "trade" else []

    patch(HaltCheck, "due", due)


# --- content: the model's records are not Avro, so these show on the real topics only ---


def _recoded(patch: Patch, encoder: Any, change: Callable[[Any], Any]) -> None:
    original = encoder.encode

    def encode(self: Any, event: Any, ingestion_us: int) -> bytes:
        value: bytes = original(self, change(event), ingestion_us)
        return value

    patch(encoder, "encode", encode)


@mutant("deletions of levels are left out", seeds=0, plan=STREAMS, streams=True)
def levels_never_deleted(patch: Patch) -> None:
    def change(event: DepthUpdate) -> DepthUpdate:
        bids, asks = ([level for level in side if float(level[1])] for side in (event.bids, event.asks))
        return msgspec.structs.replace(event, bids=bids, asks=asks)

    _recoded(patch, stream_encoding.BookEncoder, change)


@mutant("the sides of an update are swapped", seeds=0, plan=STREAMS, streams=True)
def book_sides_swapped(patch: Patch) -> None:
    _recoded(
        patch, stream_encoding.BookEncoder,
        lambda event: msgspec.structs.replace(event, bids=event.asks, asks=event.bids),
    )  # fmt: skip


@mutant("a quote has the quantity of its bid on both sides", seeds=0, plan=STREAMS, streams=True)
def quote_quantities_confused(patch: Patch) -> None:
    _recoded(
        patch, stream_encoding.QuoteEncoder,
        lambda event: msgspec.structs.replace(event, ask_quantity=event.bid_quantity),
    )  # fmt: skip


@mutant("an aggregate states its first trade as its last", seeds=0, plan=STREAMS, streams=True)
def aggregate_of_one_trade(patch: Patch) -> None:
    def change(event: AggTrade) -> AggTrade:
        return msgspec.structs.replace(event, last_trade_id=event.first_trade_id)

    _recoded(patch, stream_encoding.AggTradeEncoder, change)


@mutant("a bar has its highest price as its lowest", seeds=0, plan=STREAMS, streams=True)
def bar_without_a_low(patch: Patch) -> None:
    def change(event: Any) -> Any:
        opened, high, _, *others = event.figures
        return msgspec.structs.replace(event, figures=(opened, high, high, *others))

    _recoded(patch, stream_encoding.BarEncoder, change)


@mutant("a break of a book names the update after the one that comes next", seeds=0, plan=STREAMS, streams=True)
def break_record_too_long(patch: Patch) -> None:
    original = stream_encoding.BookEncoder.encode_break

    def encode_break(self: stream_encoding.BookEncoder, found: Break, ingestion_us: int) -> bytes:
        return original(self, msgspec.structs.replace(found, first_id=found.first_id + 1), ingestion_us)

    patch(stream_encoding.BookEncoder, "encode_break", encode_break)
