"""``ingest positions show`` and ``ingest positions rebuild``: the positions, and how records restore them.

The topics themselves say how far each symbol of a numbered stream is recorded. ``rebuild`` reads all of them, checks
that the ids of each symbol continue without a gap but for confirmed voids, and commits the positions under the shard's
transactional id: a writer that still runs is fenced. What cannot be verified is not written.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import msgspec
from confluent_kafka import KafkaException, Message

from ingest.command import terminal
from ingest.core.continuity import first_id_not_void
from ingest.core.errors import Fenced, Recycle, Retry, Stop
from ingest.core.streams import Stream
from ingest.core.trade import Position
from ingest.kafka.last_records import record_id
from ingest.kafka.layout import require_layout
from ingest.kafka.partition_consumer import FIRST_OFFSET, PartitionConsumer
from ingest.kafka.position_check import not_in_settings, numbered_topics
from ingest.kafka.position_records import WRITER
from ingest.kafka.positions import (
    HandoverRecord,
    ShardState,
    WriterRecord,
    handover_record,
    position_record,
    stored_void,
    writer_record,
)
from ingest.kafka.positions_reader import PositionsReader, with_layout
from ingest.kafka.positions_show import show
from ingest.kafka.producer import AtLeastOnceProducer, TransactionalProducer
from ingest.settings import Settings

QUERY_SECONDS = 10.0
SILENCE_SECONDS = 60.0
"""Without a record and without the end of a partition: the broker does not answer."""
MARKER_SECONDS = 30.0
"""A commit is answered before its marker is in the partition."""
NAME = "positions-rebuild"
EPILOG = """\
Stop the writer first. Nothing is written for a symbol whose records are not continuous.

exit codes: 0 every symbol is as it should be, 2 bad settings, 75 Kafka does not answer,
            3 a symbol cannot be verified, or differs and --replace is not given

examples:
  ingest positions show                  what is stored, for this shard
  ingest positions rebuild --dry-run     what would be written
  ingest positions rebuild               restore what is missing
  ingest positions rebuild --replace     and correct positions, writer or generation that are not as they should be
"""

Outcome = Literal["same", "restored", "differs", "unverified", "no records"]


class Recorded:
    """What the trades topic holds of one symbol, in one partition."""

    def __init__(self, first_id: int) -> None:
        self.first_id = first_id
        self.last_id = first_id
        self.count = 1
        self.gaps: list[tuple[int, int]] = []
        self.disorder: str | None = None

    def add(self, trade_id: int) -> None:
        """The next record, by offset."""
        if trade_id <= self.last_id:
            self.disorder = self.disorder or f"trade {trade_id} comes after {self.last_id}"
            return
        if trade_id > self.last_id + 1:
            self.gaps.append((self.last_id + 1, trade_id - 1))
        self.last_id = trade_id
        self.count += 1


class Finding(msgspec.Struct, frozen=True):
    """One symbol: what is stored, what the records say, and what follows."""

    symbol: str
    outcome: Outcome
    stored: Position | None
    rebuilt: Position | None
    reason: str = ""


class TopicContent:
    """Records and voids of a shard's symbols, read in passes: each continues where the one before it stopped."""

    def __init__(self, settings: Settings, owns: Callable[[str], bool]) -> None:
        self._settings = settings
        self._owns = owns
        self._next: dict[str, dict[int, int]] = {}
        """Topic -> partition -> the next offset."""
        self._next_void: dict[int, int] = {}
        self._topics = numbered_topics(settings)
        self.recorded: dict[str, dict[int, Recorded]] = {}
        """Name of the sequence -> partition -> records. That of the trades is the symbol's."""
        self.voids: dict[str, dict[int, int]] = {}
        """Symbol -> first id -> last id."""
        self.trimmed = False
        """Whether the trades topic no longer has its beginning: a retention, or deleted records."""

    def read(self) -> None:
        """Read to the present end. Raises ``Retry`` or ``Stop``."""
        try:
            for topic, streams in self._topics.items():
                self._read_topic(topic, self._next.setdefault(topic, {}), partial(self._add, streams))
            # The voids of every shard: a symbol may have moved.
            self._read_topic(self._settings.positions_topic, self._next_void, self._add_void)
        except KafkaException as error:
            raise Retry(f"reading {', '.join(self._topics)}: {error}") from error

    def _read_topic(self, topic: str, offsets: dict[int, int], add: Callable[[Message], None]) -> None:
        """Pass each record of a topic from ``offsets`` to its present end to ``add``; ``offsets`` move on."""
        with PartitionConsumer(self._settings, "rebuild", topic) as consumer:
            for partition in consumer.partitions(QUERY_SECONDS):
                if topic != self._settings.positions_topic:
                    self.trimmed |= consumer.limits(partition, QUERY_SECONDS)[0] > 0
                one = {partition: offsets.get(partition, FIRST_OFFSET)}
                try:
                    consumer.read_to_end(one, add, silence=SILENCE_SECONDS)
                finally:
                    offsets |= one

    def _add_void(self, message: Message) -> None:
        void = stored_void(message.key(), message.value())
        if void is not None:
            self.voids.setdefault(void.symbol, {})[void.first_id] = void.last_id

    def _add(self, streams: Sequence[Stream], message: Message) -> None:
        """Take one record of a topic that has these streams, several of bars only."""
        partition, value = message.partition() or 0, message.value()
        symbol = (message.key() or b"").decode(errors="replace")
        if not symbol or not self._owns(symbol):
            return
        for stream in streams:
            number = record_id(symbol, value or b"", stream)
            if number is None and stream.name.startswith("kline"):
                continue  # a bar of another interval
            parts = self.recorded.setdefault(stream.sequence_name(symbol), {})
            known = parts.get(partition)
            if number is None:
                known = parts.setdefault(partition, Recorded(-1))
                known.disorder = known.disorder or f"a record that is not of this symbol's {stream.name}"
            elif known is None:
                parts[partition] = Recorded(number)
            else:
                known.add(number)


def verify(parts: Iterable[Recorded], voids: Mapping[int, int]) -> Position | str:
    """Return the position that records and voids add up to, or the reason why there is none. Pure."""
    runs = sorted(parts, key=lambda one: one.first_id)
    gaps: list[tuple[int, int]] = []
    for number, run in enumerate(runs):
        if run.disorder is not None:
            return run.disorder
        gaps += run.gaps
        if number:
            before = runs[number - 1].last_id
            if run.first_id <= before:
                return f"trade {run.first_id} is in two partitions"
            if run.first_id > before + 1:
                gaps.append((before + 1, run.first_id - 1))
    for first_id, last_id in gaps:
        due = first_id_not_void(voids, first_id, last_id)
        if due != last_id + 1:
            return f"trades {due} to {last_id} are missing, and no void says why"
    last = runs[-1].last_id
    while last + 1 in voids:
        last = voids[last + 1]
    return Position(runs[0].first_id, last, sum(run.count for run in runs))


def agrees(stored: Position, rebuilt: Position, voids: Mapping[int, int], *, trimmed: bool) -> bool:
    """Whether a stored position says what the records prove. Pure.

    It may begin earlier, with ids that are void, or with records that a retention has deleted (``trimmed``).
    """
    if stored.last_id != rebuilt.last_id or stored.first_id > rebuilt.first_id:
        return False
    more = stored.count - rebuilt.count
    due = first_id_not_void(voids, stored.first_id, rebuilt.first_id - 1)
    if due == rebuilt.first_id:
        return more == 0
    return trimmed and 0 <= more <= rebuilt.first_id - stored.first_id


def compare(state: ShardState, content: TopicContent) -> list[Finding]:
    """What follows for each symbol, from what is stored and what is recorded."""
    findings = []
    for symbol in sorted(state.positions.keys() | content.recorded.keys()):
        stored = state.positions.get(symbol)
        parts = content.recorded.get(symbol)
        if parts is None:
            findings.append(Finding(symbol, "no records", stored, None, "the stored position is kept"))
            continue
        rebuilt = verify(parts.values(), content.voids.get(symbol, {}))
        if isinstance(rebuilt, str):
            findings.append(Finding(symbol, "unverified", stored, None, rebuilt))
        elif stored is None:
            findings.append(Finding(symbol, "restored", None, rebuilt))
        elif agrees(stored, rebuilt, content.voids.get(symbol, {}), trimmed=content.trimmed):
            findings.append(Finding(symbol, "same", stored, stored))
        elif stored.last_id != rebuilt.last_id:
            reason = f"stored {stored.last_id}, recorded {rebuilt.last_id}"
            findings.append(Finding(symbol, "differs", stored, rebuilt, reason))
        else:
            reason = f"stored {stored.count} trades from {stored.first_id}"
            reason += f", recorded {rebuilt.count} from {rebuilt.first_id}"
            findings.append(Finding(symbol, "differs", stored, rebuilt, reason))
    return findings


def writes(findings: Iterable[Finding], *, replace: bool) -> dict[str, Position]:
    """The positions to write."""
    wanted = {"restored", "differs"} if replace else {"restored"}
    return {one.symbol: one.rebuilt for one in findings if one.outcome in wanted and one.rebuilt is not None}


def rebuild(settings: Settings, owns: Callable[[str], bool], *, replace: bool, dry_run: bool) -> list[Finding]:
    """Read, fence, read what came meanwhile, commit, and read back. Raises ``Retry`` or ``Stop``."""
    reader = PositionsReader(settings, any_format=True)
    content = TopicContent(settings, owns)
    try:
        content.read()
        if dry_run:
            state = reader.read()
            require_layout(with_layout(state, settings).layout, settings.service.shard_count)
            return compare(state, content)
        kind = TransactionalProducer if settings.kafka.delivery == "exactly-once" else AtLeastOnceProducer
        producer = kind(settings, interrupted=lambda: False, monotonic=time.monotonic)
        try:
            producer.init()
            content.read()
            state = reader.read()
            require_layout(with_layout(state, settings).layout, settings.service.shard_count)
            if not replace:
                state.require_format()
            findings = compare(state, content)
            positions = writes(findings, replace=replace)
            producer.transact(_messages(settings, state, positions))
        except (Fenced, Recycle) as error:
            raise Stop(f"a writer of this shard runs: stop it first, then try again ({error})") from error
        finally:
            producer.close()
        _confirm(_read_committed(reader), positions)
    finally:
        reader.close()
    return findings


def _read_committed(reader: PositionsReader) -> ShardState:
    """The positions behind the transaction that was committed just now: its marker may be on its way still."""
    deadline = time.monotonic() + MARKER_SECONDS
    state = reader.read()
    while reader.unfinished and time.monotonic() < deadline:
        time.sleep(0.05)
        state = reader.read()
    return state


def _messages(settings: Settings, state: ShardState, positions: Mapping[str, Position]) -> Iterable[Any]:
    topic, partition = settings.positions_topic, settings.shard
    for symbol, position in positions.items():
        key, value = position_record(symbol, position)
        yield topic, key, value, partition
    for key, tombstone_or_value in ending(state, time.time_ns() // 1000):
        yield topic, key, tombstone_or_value, partition


def ending(state: ShardState, now_us: int) -> list[tuple[bytes, bytes | None]]:
    """What ends the transaction of a rebuild: a new generation, and the word that this version wrote last. Pure."""
    before = state.credible
    # Without a recorded generation: larger than any number of take-overs, so that no older writer counts as newer.
    generation = before + 1 if before else now_us // 1_000_000
    previous = state.writer
    handover = HandoverRecord(
        generation=generation,
        previous=previous.instance if previous is not None else None,
        successor=NAME,
        deployment_id=None,
        started_at_us=now_us,
        completed_at_us=now_us,
    )
    records: list[tuple[bytes, bytes | None]] = [handover_record(handover)]
    if state.spent:
        records.insert(0, (WRITER, None))
    if state.spent or state.newer_format:
        writer = WriterRecord(generation, NAME, None, now_us, 1)
        if previous is not None:  # where the trades are does not change
            writer = msgspec.structs.replace(
                writer, partitions=previous.partitions, topic_id=previous.topic_id, shards=previous.shards
            )
        records.append(writer_record(writer))
    return records


def _confirm(state: ShardState, positions: Mapping[str, Position]) -> None:
    state.require_format()
    wrong = [symbol for symbol, position in positions.items() if state.positions.get(symbol) != position]
    if wrong:
        raise Stop(f"positions are not as written: {', '.join(wrong[:20])}; a writer runs: stop it, then try again")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Sub-commands and options of ``ingest positions``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("action", choices=["show", "rebuild"], help="show them, or restore them from the records")
    parser.add_argument("--dry-run", action="store_true", help="rebuild: write nothing")
    parser.add_argument(
        "--replace", action="store_true", help="rebuild: correct positions that differ from the records"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(settings: Settings, arguments: argparse.Namespace, owns: Callable[[str], bool]) -> int:
    """Show or rebuild; returns the exit code."""
    if arguments.action == "show":
        return show(settings, as_json=arguments.json)
    terminal.write(f"reading {settings.kafka.topic} from its beginning\n", sys.stderr)
    findings = rebuild(settings, owns, replace=arguments.replace, dry_run=arguments.dry_run)
    corrected = writes(findings, replace=arguments.replace)
    written = {} if arguments.dry_run else corrected
    if arguments.json:
        terminal.write(json.dumps([msgspec.to_builtins(one) for one in findings], indent=2) + "\n")
    else:
        for one in findings:
            position = one.rebuilt or one.stored
            ids = f"{position.first_id} to {position.last_id}" if position is not None else ""
            note = " (written)" if one.symbol in written else ""
            terminal.write(f"{one.symbol:20} {one.outcome:10}{note} {ids} {one.reason}".rstrip() + "\n")
    unnamed = not_in_settings(settings, (one.symbol for one in findings if one.outcome == "restored"))
    if unnamed:
        terminal.write(f"not in K2_BINANCE_SYMBOLS; add there or by POST /control/symbols: {unnamed}\n", sys.stderr)
    judge(findings, corrected)
    return 0


def judge(findings: Iterable[Finding], corrected: Mapping[str, Position]) -> None:
    """Raise ``Stop`` if a symbol is not as it should be, and not one of those that are, or would be, corrected."""
    unverified = [one.symbol for one in findings if one.outcome == "unverified"]
    differing = [one.symbol for one in findings if one.outcome == "differs" and one.symbol not in corrected]
    reasons = []
    if unverified:
        reasons.append(f"not verified, nothing is written for them: {', '.join(unverified[:20])}")
    if differing:
        reasons.append(f"stored otherwise than recorded, corrected with --replace: {', '.join(differing[:20])}")
    if reasons:
        raise Stop("; ".join(reasons))
