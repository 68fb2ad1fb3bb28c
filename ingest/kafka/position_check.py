"""Compares stored positions with the newest records of their topics: a contradicted position is not used.

A record of the positions topic may be well-formed and foreign: of another program, of a restored backup, of a test
against production. At every take-over the ends of the topics are read beside the take-over itself, so that it becomes
hardly longer; what is not seen there is looked for in ``service.position_trust``, within a bound.

A record beyond the position: writing on would write it twice. A position beyond the newest record, without voids that
explain it: writing on would skip ids. Only committed records count, and only the partition that a symbol is written to
now, read to its end of the take-over, proves that a newer record does not exist: an open transaction, of another shard
for example, hides those behind it, and a topic that had fewer partitions has older records in other ones.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from ingest.core.continuity import first_id_not_void
from ingest.core.streams import TRADE, Stream, split_name
from ingest.core.trade import Position
from ingest.kafka.positions import ShardState
from ingest.kafka.tail_reader import Tail, TailReader
from ingest.settings import Settings

log = logging.getLogger(__name__)

TAIL = 2_000
"""Offsets read from the end of each partition at a take-over, so many at most."""
WAIT_SECONDS = 0.25
"""What is not read so long after the take-over is looked for later."""
LOST_TAIL = 20_000
LOST_SECONDS = 2.0
"""The same where a stream of books or quotes has no position at all: its positions are lost, or it is new."""


class Checked(msgspec.Struct, frozen=True):
    """What the ends of the topics say about positions, by sequence name. Positions in no field are right."""

    lost: dict[str, int] = {}
    """Position -> the id of a record beyond it."""
    ahead: dict[str, int] = {}
    """Position -> the newest record, before it: voids may explain that."""
    unseen: frozenset[str] = frozenset()
    """Its newest record was not seen, or newer ones may exist."""
    recorded: frozenset[str] = frozenset()
    """Symbols of recent trades without a position in this shard, or with a rebuilt one: of other shards, or forgotten.

    A rebuilt position, and one of an older version, has no time.
    """
    spans: dict[str, int] = {}
    """Books and quotes that have no position and recent records -> the last id of these: what follows is a break."""

    def of(self, owns: Callable[[str], bool]) -> "Checked":
        """Of the symbols that this shard records: others are left over from another number of shards, or foreign."""

        def ours(name: str) -> bool:
            return owns(split_name(name)[1])

        return Checked(
            {name: number for name, number in self.lost.items() if ours(name)},
            {name: number for name, number in self.ahead.items() if ours(name)},
            frozenset(filter(ours, self.unseen)),
            frozenset(filter(ours, self.recorded)),
            {name: number for name, number in self.spans.items() if ours(name)},
        )


def numbered_topics(settings: Settings) -> dict[str, list[Stream]]:
    """The topics whose records have numbers, with their streams."""
    found: dict[str, list[Stream]] = {settings.kafka.topic: [TRADE]}
    for stream in settings.streams:
        if stream.contract == "numbered":
            found.setdefault(settings.stream_topics[stream.name], []).append(stream)
    return found


def compare(positions: Mapping[str, Position], tail: Tail, streams: Iterable[Stream]) -> Checked:
    """What the end of a topic says about the positions of its streams. Pure."""
    names = {stream.name for stream in streams}
    lost, ahead, unseen = {}, {}, set()
    for name, position in positions.items():
        stream, symbol = split_name(name)
        if stream not in names:
            continue
        newest = tail.newest.get(name, -1)
        highest = max(newest, tail.elsewhere.get(name, -1))
        if highest > position.last_id:
            lost[name] = highest
        elif name in tail.newest and newest < position.last_id and tail.read_to_end(symbol):
            ahead[name] = newest
        elif newest != position.last_id:
            unseen.add(name)
    timed = {name for name, position in positions.items() if position.last_time_us is not None}
    seen = tail.newest.keys() | tail.elsewhere.keys()
    recorded = frozenset(name for name in seen - timed if split_name(name)[0] == TRADE.name)
    return Checked(lost, ahead, frozenset(unseen), recorded)


def merged(found: Iterable[Checked], spans: Mapping[str, int] | None = None) -> Checked:
    """What several topics say. Pure."""
    parts = list(found)
    return Checked(
        {name: number for one in parts for name, number in one.lost.items()},
        {name: number for one in parts for name, number in one.ahead.items()},
        frozenset(name for one in parts for name in one.unseen),
        frozenset(name for one in parts for name in one.recorded),
        dict(spans or {}),
    )


def behind_newest(positions: Mapping[str, Position], tail: Tail) -> tuple[dict[str, int], frozenset[str]]:
    """Books and quotes of a topic that have no position: their last id, and those whose last id is not known. Pure.

    Only what was read to the end has its newest record: going on behind an older one would record updates twice.
    """
    seen = (tail.newest.keys() | tail.elsewhere.keys()) - positions.keys()
    known = {name for name in seen & tail.newest.keys() if tail.read_to_end(split_name(name)[1])}
    return {name: tail.newest[name] for name in known}, frozenset(seen - known)


def explained(newest: int, position: Position, voids: Mapping[int, int]) -> bool:
    """Whether voids (first id -> last id) reach from the newest record to the position. Pure."""
    return first_id_not_void(voids, newest + 1, position.last_id) == position.next_id


def not_in_settings(settings: Settings, names: Iterable[str]) -> str:
    """Of these sequences the symbols of trades that the settings do not name: a command had added them. Pure."""
    listed = settings.binance.symbols
    return "" if "*" in listed else ", ".join(name for name in names if ":" not in name and name not in listed)


class PositionCheck:
    """Reads the ends of all numbered topics beside one take-over.

    Without transactions it compares nothing: records may be ahead of their position there.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        topics = numbered_topics(settings) if settings.kafka.delivery == "exactly-once" else {}
        self._readers = [TailReader(settings, *one, tail=TAIL) for one in topics.items()]
        self._spans: list[TailReader] = []
        self._wait_seconds = WAIT_SECONDS
        self._begun = False

    def positions_read(self, state: ShardState) -> None:
        """The take-over has read the positions: begin to read the records, once.

        Not before the broker was reached: a client that cannot log in would try all the time.
        """
        if self._begun:
            return
        self._begun = True
        if self._readers:
            self._spans = list(self._span_readers(state.positions))
        for reader in (*self._readers, *self._spans):
            reader.start()

    def fenced(self) -> None:
        """The predecessor writes no more: read what it has written until now."""
        for reader in (*self._readers, *self._spans):
            reader.fenced()

    def _span_readers(self, positions: Mapping[str, Position]) -> Iterator[TailReader]:
        """Of the topics of books and quotes, where a position is missing."""
        trades = [name for name in positions if split_name(name)[0] == TRADE.name]
        for stream in self._settings.streams:
            if stream.contract != "numbered":
                topic = self._settings.stream_topics[stream.name]
                if not any(split_name(name)[0] == stream.name for name in positions):
                    self._wait_seconds = LOST_SECONDS
                    yield TailReader(self._settings, topic, [stream], tail=LOST_TAIL)
                elif any(stream.sequence_name(symbol) not in positions for symbol in trades):
                    yield TailReader(self._settings, topic, [stream], tail=TAIL)

    def finish(self, positions: Mapping[str, Position]) -> Checked:
        """After the take-over: what is wrong with these positions. Takes ``WAIT_SECONDS`` at most.

        ``LOST_SECONDS`` where a whole stream has none.
        """
        deadline = time.monotonic() + self._wait_seconds
        tails = [(reader, reader.result(max(0.0, deadline - time.monotonic()))) for reader in self._readers]
        spans: dict[str, int] = {}
        for reader in self._spans:
            behind, unknown = behind_newest(positions, reader.result(max(0.0, deadline - time.monotonic())))
            spans |= behind
            if unknown:
                log.warning(
                    "%s was not read to its end: books or quotes without a position go on without a declared break",
                    reader.topic, extra={"topic": reader.topic, "sequences": len(unknown)},
                )  # fmt: skip
        return merged((compare(positions, tail, reader.streams) for reader, tail in tails), spans)

    def cancel(self) -> None:
        """End without a result, where nothing was taken over."""
        for reader in (*self._readers, *self._spans):
            reader.cancel()
