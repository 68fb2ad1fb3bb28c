"""The last check before Kafka: what a batch adds must continue what is stored, symbol by symbol. Pure."""

from collections.abc import Iterable, Iterator, Mapping

from ingest.core.batch import Span
from ingest.core.streams import STREAMS, split_name
from ingest.core.trade import Position, Void


class DiscontinuityError(Exception):
    """A batch does not continue the stored positions: a bug upstream, stopped before it reaches Kafka."""


def validate_and_advance_positions(
    positions: dict[str, Position],
    records: Iterable[tuple[str, int, bytes]],
    voids: Iterable[Void],
    baselines: dict[str, int],
    last_times_us: Mapping[str, int] | None = None,
) -> dict[str, Position]:
    """Return the positions after a batch, for the symbols that it touches.

    The last check before Kafka: per symbol, records and voids together must continue the position without a gap and
    without going back. Raises ``DiscontinuityError``.
    """
    pending: dict[str, list[Void]] = {}
    for void in voids:
        pending.setdefault(void.symbol, []).append(void)
    for queue in pending.values():
        queue.sort(key=lambda void: void.first_id, reverse=True)
    next_ids: dict[str, int] = {}
    voided: dict[str, int] = {}

    def start(symbol: str, otherwise: int) -> int:
        stored = positions.get(symbol)
        return stored.next_id if stored is not None else baselines.get(symbol, otherwise)

    def pass_voids(symbol: str, due: int) -> int:
        queue = pending.get(symbol)
        while queue and queue[-1].first_id == due:
            void = queue.pop()
            voided[symbol] = voided.get(symbol, 0) + void.count
            due = void.last_id + 1
        return due

    firsts: dict[str, int] = {}
    for symbol, trade_id, _ in records:
        due = next_ids.get(symbol)
        if due is None:
            due = firsts[symbol] = start(symbol, trade_id)
        if trade_id != due:
            due = pass_voids(symbol, due)
            if trade_id != due:
                raise DiscontinuityError(f"{symbol}: trade {trade_id} where {due} is due")
        next_ids[symbol] = due + 1
    for symbol, queue in pending.items():
        due = next_ids.get(symbol)
        if due is None:
            due = firsts[symbol] = start(symbol, queue[-1].first_id)
        next_ids[symbol] = pass_voids(symbol, due)
        if queue:
            raise DiscontinuityError(f"{symbol}: void {queue[-1].first_id} where {next_ids[symbol]} is due")
    for symbol, first_id in baselines.items():
        if symbol not in positions and symbol not in next_ids:
            firsts[symbol] = next_ids[symbol] = first_id
    return dict(_after(positions, firsts, next_ids, voided, last_times_us or {}))


def _after(
    positions: dict[str, Position],
    firsts: dict[str, int],
    next_ids: dict[str, int],
    voided: dict[str, int],
    last_times_us: Mapping[str, int],
) -> Iterator[tuple[str, Position]]:
    for symbol, next_id in next_ids.items():
        before = positions.get(symbol) or Position(firsts[symbol], firsts[symbol] - 1, 0)
        count = before.count + next_id - before.next_id - voided.get(symbol, 0)
        yield symbol, Position(before.first_id, next_id - 1, count, last_times_us.get(symbol))


def advance_spans(positions: Mapping[str, Position], spans: Iterable[Span]) -> dict[str, Position]:
    """Return the positions after a batch's spans, for the sequences that they touch. Raises ``DiscontinuityError``.

    Of a chained stream an update must hold the next id, or follow a break up to the id before it; of a latest one ids
    must rise. A snapshot continues the update before it and ends the time without one.
    """
    after: dict[str, Position] = {}
    for name, kind, first_id, last_id, _, time_us in spans:
        before = after.get(name) or positions.get(name)
        chained = STREAMS[split_name(name)[0]].contract == "chained"
        if before is None:
            before = Position(first_id, first_id - 1, 0, unsynced=chained)
        if kind == "snapshot":
            if last_id != before.last_id:
                raise DiscontinuityError(f"{name}: a snapshot behind {last_id} where {before.last_id} is the last id")
            after[name] = Position(before.first_id, last_id, before.count, before.last_time_us)
            continue
        due = before.next_id
        fits = (first_id <= due if chained else first_id >= due) if kind == "update" else first_id == due
        if not fits or last_id < due:
            raise DiscontinuityError(f"{name}: {kind} {first_id}..{last_id} where {due} is due")
        unsynced = chained and (kind == "break" or before.unsynced)
        count = before.count + (kind == "update")
        after[name] = Position(before.first_id, last_id, count, time_us or before.last_time_us, unsynced)
    return after


def first_id_not_void(voids: Mapping[int, int], due: int, last_id: int) -> int:
    """The first id from ``due`` on that no void (first id -> last id) fills; voids that begin behind ``last_id`` not
    counted.
    """
    while due <= last_id and due in voids:
        due = voids[due] + 1
    return due
