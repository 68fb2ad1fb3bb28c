"""How large a transaction may be, and how long to wait after one that failed. Pure: no I/O, no clock."""

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import TypeVar

from ingest.core.batch import Batch, Record
from ingest.core.trade import Void

One = TypeVar("One", bound=tuple[object, ...])

FAILED_SLOWLY_SECONDS = 5.0
"""A transaction that failed after so long may have been too large for the time that it has."""
SLOW_SECONDS = 3.0
QUICK_SECONDS = 1.0
UNLIMITED_BYTES = 16 * 1024 * 1024
"""A limit that has grown to this is lifted: no batch is larger."""
RECORD_OVERHEAD = 96
"""Bytes of a record besides its value, roughly: key, headers, its share of the position records."""

PASSING_FIRST_SECONDS = 0.1
PASSING_MOST_SECONDS = 5.0
PERMANENT_FIRST_SECONDS = 1.0
PERMANENT_MOST_SECONDS = 30.0


def weight(batch: Batch) -> int:
    """The bytes that a batch brings into a transaction, roughly."""
    records = sum(len(value) for _, _, value in batch.records) + RECORD_OVERHEAD * len(batch.records)
    spans = sum(len(span[4]) for span in batch.spans) + RECORD_OVERHEAD * len(batch.spans)
    return records + spans + RECORD_OVERHEAD * (len(batch.voids) + len(batch.baselines))


class TransactionSize:
    """The limit of a transaction's bytes: halved after a slow failure, grown while transactions are quick.

    Retrying the same transaction cannot succeed if it needs more time than it has (a quota, a slow network, a slow
    disk). Below the size that failed last the limit doubles; from there on it grows by an eighth, so that it settles
    below what is possible instead of failing at every second attempt.
    """

    def __init__(self) -> None:
        self.limit: int | None = None
        """None: unlimited, the normal case."""
        self._ceiling = 0

    def failed(self, size: int, seconds: float) -> None:
        """A transaction with ``size`` bytes failed after ``seconds``."""
        if seconds < FAILED_SLOWLY_SECONDS:
            return
        attempted = size if self.limit is None else min(size, self.limit)
        self.limit = self._ceiling = max(1, attempted // 2)

    def committed(self, size: int, seconds: float) -> None:
        """A transaction with ``size`` bytes was committed within ``seconds``."""
        if self.limit is None:
            if seconds > SLOW_SECONDS:
                self.limit = self._ceiling = max(1, size * 3 // 4)
            return
        if seconds > SLOW_SECONDS:
            self.limit = self._ceiling = max(1, min(size, self.limit) * 3 // 4)
        elif seconds <= QUICK_SECONDS and 2 * size >= self.limit:
            self.limit += self.limit if 2 * self.limit <= self._ceiling else max(1, self.limit // 8)
            if self.limit >= UNLIMITED_BYTES:
                self.limit = None
        elif seconds <= QUICK_SECONDS:
            # There was not enough to fill it: a limit that cannot be tested is not kept.
            self.limit += max(1, self.limit // 64)


def split(batch: Batch, limit: int) -> list[Batch]:
    """Split a batch into transactions of at most ``limit`` bytes, at least one record each.

    Each part continues the positions that the parts before it leave. Baselines come first. A void belongs to the part
    with the last record before it. Dead letters are sent after the last part.
    """
    parts = [_part(batch, records) for records in _cut(batch.records, itemgetter(2), limit) or [[]]]
    parts[0].baselines = dict(batch.baselines)
    parts[0].symbols = batch.symbols
    _place(batch.voids, parts)
    parts += [Batch(spans=spans) for spans in _cut(batch.spans, itemgetter(4), limit)]
    parts[-1].dead_letters = list(batch.dead_letters)
    return parts


def _part(batch: Batch, records: list[Record]) -> Batch:
    """``last_times_us`` bounds the times of the whole batch, and so those of each part."""
    return Batch(
        records=records, oldest_trade_time_us=batch.oldest_trade_time_us, last_times_us=dict(batch.last_times_us)
    )


def _cut(items: Iterable[One], value_of: Callable[[One], bytes], limit: int) -> list[list[One]]:
    """Runs of items in their order, each of at most ``limit`` bytes, or of one item that is larger by itself."""
    runs: list[list[One]] = []
    size = limit
    for item in items:
        cost = len(value_of(item)) + RECORD_OVERHEAD
        size += cost
        if size > limit:
            runs.append([])
            size = cost
        runs[-1].append(item)
    return runs


def _place(voids: list[Void], parts: list[Batch]) -> None:
    for void in voids:
        number = 0
        for place, part in enumerate(parts):
            if any(symbol == void.symbol and trade_id < void.first_id for symbol, trade_id, _ in part.records):
                number = place
        parts[number].voids.append(void)


class FailureBackoff:
    """The pause before the next attempt: none after the first passing failure, then growing.

    A record that the broker refuses for good waits from the first failure on. It is not given up, since the cause (a
    clock, a topic's policy) can be corrected at any time.
    """

    def __init__(self) -> None:
        self._failures = 0

    def failed(self, *, permanent: bool) -> float:
        """Return the seconds to wait."""
        self._failures += 1
        if permanent:
            return min(PERMANENT_FIRST_SECONDS * 2.0 ** min(self._failures - 1, 10), PERMANENT_MOST_SECONDS)
        if self._failures == 1:
            return 0.0
        return min(PASSING_FIRST_SECONDS * 2.0 ** min(self._failures - 2, 10), PASSING_MOST_SECONDS)

    def succeeded(self) -> None:
        """A batch was committed."""
        self._failures = 0
