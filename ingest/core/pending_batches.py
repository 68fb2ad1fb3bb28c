"""Records on their way to Kafka: kept until their transaction is known to be committed."""

from collections import deque
from collections.abc import Iterable, Mapping

from ingest.core.batch import Batch, Record, Span, SymbolChanges
from ingest.core.streams import STREAMS, split_name
from ingest.core.trade import DeadLetter, Position, Void

LETTER_BYTES = 8 * 1024 * 1024
"""Memory of dead letters kept at most, whatever the broker does."""
LETTER_OVERHEAD = 400
"""Bytes that a dead letter takes beside its texts: the objects, their headers, the place in the list."""


SPAN_OVERHEAD = 250
"""Bytes that a span takes beside its value: the tuple and its numbers."""
SPAN_BATCH_BYTES = 4 * 1024 * 1024
"""Spans of one transaction, roughly: trades do not wait for more than this."""


def _span_bytes(spans: Iterable[Span]) -> int:
    return sum(SPAN_OVERHEAD + len(span[4]) for span in spans)


def letter_size(letter: DeadLetter) -> int:
    """The memory that a dead letter takes, in bytes; rather more than less."""
    return LETTER_OVERHEAD + len(letter.raw) + len(letter.detail) + len(letter.source) + len(letter.symbol or "")


class PendingBatches:
    """A bounded queue of batches. What was handed over stays here until it is acknowledged.

    After the writer was replaced, ``rewind`` compares what is here with what Kafka really holds: the rest is queued
    again, in the same order. No record is ever sent twice on a guess.
    """

    def __init__(self, *, limit: int, batch_records: int, letter_bytes: int = LETTER_BYTES) -> None:
        self._limit = limit
        self._letter_bytes = letter_bytes
        self._letters = 0
        self._batch_records = batch_records
        self._building = Batch()
        self._records = self._building.records
        """Of the batch that is being built: asking the batch for it costs more than appending to it."""
        self.begins = True
        """Whether the next record is the first one of a batch."""
        self._ready: deque[Batch] = deque()
        self._unacknowledged: deque[Batch] = deque()
        self._full_batches = 0
        """Records in all batches but the one that is being built."""
        self.span_bytes = 0
        """Memory of all spans here, acknowledged ones excluded, in bytes: bounded by the streams that add them."""
        self._building_bytes = 0
        self.cut: set[str] = set()
        """Sequences of which ``promote`` has dropped records that were taken: they are missing, undeclared."""

    def __len__(self) -> int:
        """Records here, acknowledged ones excluded."""
        return self._full_batches + len(self._records)

    @property
    def in_flight(self) -> int:
        """Batches handed over and not yet acknowledged."""
        return len(self._unacknowledged)

    def full(self) -> bool:
        """Whether nothing more should be added. The bound is soft by one wake-up's frames."""
        return len(self) >= self._limit

    def add(self, record: Record, trade_time_us: int) -> None:
        """Append a record. ``trade_time_us`` is kept of a batch's first one only, see ``begins``."""
        records = self._records
        if self.begins:
            self._building.oldest_trade_time_us = trade_time_us
            self.begins = False
        records.append(record)
        if len(records) >= self._batch_records:
            self._ready.append(self._seal())

    def _seal(self) -> Batch:
        """End the batch that is being built."""
        batch = self._building
        self._begin()
        self._full_batches += len(batch.records)
        return batch

    def _begin(self) -> None:
        self._building = Batch()
        self._records = self._building.records
        self.begins = True
        self._building_bytes = 0

    def add_span(self, span: Span) -> None:
        """Append a record of a stream that is not numbered."""
        size = SPAN_OVERHEAD + len(span[4])
        self._building.spans.append(span)
        self.span_bytes += size
        self._building_bytes += size
        if self._building_bytes >= SPAN_BATCH_BYTES:
            self._ready.append(self._seal())

    def add_void(self, void: Void) -> None:
        """Append a void, in order with its symbol's records."""
        self._building.voids.append(void)

    def add_dead_letter(self, letter: DeadLetter) -> bool:
        """Append a dead letter; False where there is no room: it is for the caller to count then."""
        size = letter_size(letter)
        if self._letters + size > self._letter_bytes:
            return False
        self._letters += size
        self._building.dead_letters.append(letter)
        return True

    def set_symbols(self, changes: SymbolChanges) -> None:
        """Store these changes of the recorded symbols with the next batch; later ones replace earlier ones."""
        self._building.symbols = changes

    def add_baseline(self, symbol: str, first_id: int) -> None:
        """Append the first id that a symbol without a position is accounted for from."""
        self._building.baselines[symbol] = first_id

    def ready(self) -> bool:
        """Whether a full batch waits."""
        return bool(self._ready)

    def waiting(self) -> bool:
        """Whether anything waits, full batch or not."""
        return bool(self._ready) or bool(self._building)

    def take(self) -> Batch | None:
        """The next batch to hand over, or None. It stays here until acknowledged."""
        if self._ready:
            batch = self._ready.popleft()
        elif self._building:
            batch = self._seal()
        else:
            return None
        self._unacknowledged.append(batch)
        return batch

    def acknowledge(self, batch: Batch) -> None:
        """Forget the oldest batch handed over, which must be this one (``ValueError`` otherwise)."""
        if not self._unacknowledged or self._unacknowledged[0] is not batch:
            raise ValueError("batches are acknowledged in the order in which they were handed over")
        self._unacknowledged.popleft()
        self._full_batches -= len(batch.records)
        self._letters -= sum(map(letter_size, batch.dead_letters))
        self.span_bytes -= _span_bytes(batch.spans)

    def rewind(self, positions: Mapping[str, Position]) -> dict[str, int]:
        """Queue again, in order, what ``positions`` does not cover.

        Returns symbol -> next id for each symbol whose remaining records do not continue its position: they are
        dropped here and must be read again from that id on.
        """
        batches = self._batches()
        voids: dict[str, deque[Void]] = {}
        for batch in batches:
            for void in batch.voids:
                voids.setdefault(void.symbol, deque()).append(void)
        self._clear()
        expected = {symbol: position.next_id for symbol, position in positions.items()}
        broken: dict[str, int] = {}
        for batch in batches:
            for letter in batch.dead_letters:
                self.add_dead_letter(letter)
            if batch.symbols is not None:
                self._building.symbols = batch.symbols
            for symbol, first_id in batch.baselines.items():
                if symbol not in expected:
                    self._building.baselines[symbol] = expected[symbol] = first_id
            for record in batch.records:
                symbol, trade_id, _ = record
                if symbol in broken:
                    continue
                due = self._pass_voids(voids.get(symbol), expected.setdefault(symbol, trade_id))
                if trade_id > due:
                    broken[symbol] = due
                elif trade_id == due:
                    due += 1
                    self.add(record, batch.oldest_trade_time_us)
                expected[symbol] = due
            self._add_spans(batch.spans, positions)
        for symbol, queue in voids.items():
            if symbol not in broken:
                due = self._pass_voids(queue, expected.get(symbol, queue[0].first_id if queue else 0))
                if queue:
                    broken[symbol] = due
        return broken

    def _pass_voids(self, queue: deque[Void] | None, due: int) -> int:
        """Queue again the voids that come next, drop those already stored; returns the id due after them."""
        while queue and queue[0].first_id <= due:
            void = queue.popleft()
            if void.first_id == due:
                self.add_void(void)
                due = void.last_id + 1
        return due

    def _add_spans(self, spans: Iterable[Span], positions: Mapping[str, Position]) -> None:
        """Queue again the spans that are not stored. A snapshot right behind the position may be stored already."""
        for span in spans:
            position = positions.get(span[0])
            stored = -1 if position is None else position.last_id
            if span[3] > stored or (span[1] == "snapshot" and span[3] == stored):
                self.add_span(span)

    @staticmethod
    def _continues(span: Span, due: int | None, stored: int | None) -> bool:
        """Whether a span that was kept may follow what is stored; a snapshot, if what it follows is queued again."""
        name, kind, first_id, last_id, _, _ = span
        if due is None:
            return False
        if kind == "snapshot":
            return last_id == due - 1 and due != stored
        return last_id >= due and (first_id <= due or STREAMS[split_name(name)[0]].contract == "latest")

    def in_sync(self) -> dict[str, bool]:
        """Sequence name -> whether a snapshot follows the last break, of those that have either of them here."""
        return {
            span[0]: span[1] == "snapshot"
            for batch in self._batches()
            for span in batch.spans
            if span[1] in ("break", "snapshot")
        }

    def next_ids(self) -> dict[str, int]:
        """Sequence name -> the id behind its last span here."""
        return {span[0]: span[3] + 1 for batch in self._batches() for span in batch.spans}

    def clear(self) -> int:
        """Drop everything; returns how many records that were."""
        dropped = len(self)
        self._clear()
        return dropped

    def demote(self) -> int:
        """Another instance writes now: keep the records alone, in case it does not come to write them.

        Voids, baselines and dead letters are the new writer's to judge. Returns how many records are kept.
        """
        batches = self._batches()
        self._clear()
        for batch in batches:
            if batch.records or batch.spans:
                kept = Batch(records=batch.records, spans=batch.spans, oldest_trade_time_us=batch.oldest_trade_time_us)
                self._ready.append(kept)
                self._full_batches += len(batch.records)
                self.span_bytes += _span_bytes(batch.spans)
        return len(self)

    def drop_committed(self, positions: Mapping[str, int]) -> None:
        """Drop what the new writer has committed (symbol -> last id), batch by batch from the oldest on."""
        while (
            self._ready
            and all(trade_id <= positions.get(symbol, -1) for symbol, trade_id, _ in reversed(self._ready[0].records))
            and all(span[3] <= positions.get(span[0], -1) for span in reversed(self._ready[0].spans))
        ):
            dropped = self._ready.popleft()
            self._full_batches -= len(dropped.records)
            self.span_bytes -= _span_bytes(dropped.spans)

    def promote(self, positions: Mapping[str, Position]) -> dict[str, int]:
        """Queue again what was kept by ``demote`` and continues ``positions``, drop the rest.

        Returns symbol -> the id that comes next.
        """
        batches = self._batches()
        self._clear()
        stored = {symbol: position.next_id for symbol, position in positions.items()}
        due = dict(stored)
        self.cut = set()
        for batch in batches:
            for record in batch.records:
                symbol, trade_id, _ = record
                if due.get(symbol) == trade_id:
                    self.add(record, batch.oldest_trade_time_us)
                    due[symbol] = trade_id + 1
            for span in batch.spans:
                name, kind, first_id, last_id, _, _ = span
                if kind == "break" and first_id != (at := due.get(name, first_id)) and last_id >= at:
                    # A part of what it declares was written by the other one: what is missing now is another range.
                    self.cut.add(name)
                if name not in self.cut and self._continues(span, due.get(name), stored.get(name)):
                    self.add_span(span)
                    due[name] = last_id + 1
        return due

    def _batches(self) -> list[Batch]:
        """All that is here, the oldest first."""
        return [*self._unacknowledged, *self._ready, self._building]

    def _clear(self) -> None:
        self._begin()
        self._ready.clear()
        self._unacknowledged.clear()
        self._full_batches = 0
        self._letters = 0
        self.span_bytes = 0
