"""``ingest reshard``: the command, and the real Kafka behind the steps of ``resharding``."""

import argparse
import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
from confluent_kafka import KafkaException, Message

from ingest.command import arguments as kinds
from ingest.command import terminal
from ingest.core.errors import Fenced, Recycle, Retry, Stop
from ingest.core.streams import split_name
from ingest.kafka import topics
from ingest.kafka.partition_consumer import FIRST_OFFSET, PartitionConsumer
from ingest.kafka.producer import TransactionalProducer
from ingest.kafka.resharding import Contents, Resharding
from ingest.kafka.shard_movement import Content, Movement, ShardOf
from ingest.settings import Settings

MOST_SHARDS = 1000
QUERY_SECONDS = 10.0
SILENCE_SECONDS = 60.0
"""Without a record and without the end of a partition: the broker does not answer."""
FENCE_SECONDS = 60.0
FENCE_ATTEMPTS = 5
EPILOG = """\
The service may run. Every shard stops writing for the time that is printed; instances with the old K2_SHARD_COUNT end
with exit code 3, instances with the new one continue behind the last record of each symbol.

exit codes: 0 the topic has so many shards, 2 bad options or settings, 75 Kafka does not answer,
            3 it was refused, or another run has taken over: the last line says why

examples:
  ingest reshard --to 8 --dry-run    what would be moved
  ingest reshard --to 8              move it
  ingest reshard --abort             take back a change whose command was killed
"""


class KafkaReshardPort:
    """The real broker. Reads continue where the one before them stopped. A context manager."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings.of_shard(0)
        self._topic = settings.positions_topic
        self._consumer = PartitionConsumer(self._settings, "reshard", self._topic, wait_ms=10)
        self._contents: dict[int, Content] = {}
        self._next: dict[int, int] = {}

    def partitions(self) -> int:
        """How many the positions topic has. Raises ``Retry`` or ``Stop``."""
        try:
            return len(self._consumer.partitions(QUERY_SECONDS))
        except KafkaException as error:
            raise Retry(f"partitions of {self._topic}: {error.args[0].str()}") from error

    def add_partitions(self, number: int) -> None:
        """Make it so many, and wait until they can be read. Raises ``Retry`` or ``Stop``."""
        topics.add_partitions(self._settings, self._topic, number)
        deadline = time.monotonic() + QUERY_SECONDS
        while self.partitions() < number:
            if time.monotonic() >= deadline:
                raise Retry(f"the new partitions of {self._topic} do not show")
            time.sleep(0.1)

    def read(self) -> Contents:
        """All partitions, ``read_committed`` to the end of now. Raises ``Retry`` or ``Stop``."""
        for partition in range(self.partitions()):
            self._contents.setdefault(partition, Content())
        offsets = {partition: self._next.get(partition, FIRST_OFFSET) for partition in self._contents}
        self._next = offsets
        ends = self._consumer.read_to_end(offsets, self._take, silence=SILENCE_SECONDS)
        unfinished = frozenset(one for one, end in ends.items() if self._consumer.cached_end(one) > end)
        self._consumer.unassign()
        return Contents(dict(self._contents), unfinished)

    def _take(self, message: Message) -> None:
        self._contents[message.partition() or 0].apply(message.key(), message.value())

    def open(self, shard: int | None) -> TransactionalProducer:
        """A producer that does not wait for longer than ``FENCE_SECONDS`` for the id."""
        settings = self._settings if shard is None else self._settings.of_shard(shard)
        deadline = time.monotonic() + FENCE_SECONDS
        return TransactionalProducer(
            settings,
            interrupted=lambda: time.monotonic() > deadline,
            monotonic=time.monotonic,
            transactional_id=settings.reshard_transactional_id if shard is None else settings.transactional_id,
        )

    def fence(self, shards: Sequence[int]) -> None:
        """Take the ids of these shards, all at once, and release them. Raises ``Retry``."""
        with ThreadPoolExecutor(len(shards), "fence") as pool:
            for fenced in [pool.submit(self._fence, shard) for shard in shards]:
                fenced.result()

    def _fence(self, shard: int) -> None:
        for _ in range(FENCE_ATTEMPTS):
            producer = self.open(shard)
            try:
                producer.init()
            except (Fenced, Recycle):
                continue  # a writer that waits took it at the same moment
            else:
                return
            finally:
                producer.close()
        raise Retry(f"the transactional id of shard {shard} is taken again and again")

    def wait(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def __enter__(self) -> "KafkaReshardPort":
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``ingest reshard``."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--to", type=kinds.whole(1, MOST_SHARDS), metavar="N", help="the new number of shards")
    what.add_argument("--abort", action="store_true", help="take back a change that has not ended")
    parser.add_argument("--dry-run", action="store_true", help="with --to: print what would be moved, write nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(settings: Settings, arguments: argparse.Namespace, shard_of: ShardOf) -> int:
    """Change the number of shards, or take a change back; returns the exit code. Raises ``Retry`` or ``Stop``."""
    if settings.kafka.delivery != "exactly-once":
        raise Stop("without transactions nothing fences the writers: stop them all, then `ingest positions rebuild`")
    if arguments.abort and arguments.dry_run:
        raise Stop("--dry-run goes with --to")
    steps = Steps()
    with KafkaReshardPort(settings) as port, Resharding(
        port, topic=settings.positions_topic, configured=settings.service.shard_count,
        by=f"{socket.gethostname()[:48]}-{os.getpid()}", shard_of=shard_of, time_ns=time.time_ns, on_step=steps,
    ) as resharding:  # fmt: skip
        if arguments.abort:
            return _abort(resharding, as_json=arguments.json)
        planned = resharding.plan(arguments.to) if arguments.dry_run else resharding.run(arguments.to)
    steps("done")
    _print(arguments, planned, steps)
    return 0


class Steps:
    """Prints each step as it begins, and keeps how long each took, seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last: tuple[str, float] | None = None

    def __call__(self, step: str) -> None:
        """A step begins."""
        now = time.monotonic()
        if self._last is not None:
            name, began = self._last
            self.seconds[name] = round(self.seconds.get(name, 0.0) + now - began, 3)
        self._last = (step, now)
        terminal.write(f"{step}\n", sys.stderr)

    def stopped(self) -> float:
        """Seconds in which no shard was written."""
        return sum(seconds for name, seconds in self.seconds.items() if name.startswith(STOPPED))


STOPPED = ("fencing shards", "reading what came meanwhile", "committing the move")


def _abort(resharding: Resharding, *, as_json: bool) -> int:
    taken_back = resharding.abort()
    if as_json:
        terminal.write(json.dumps({"taken_back": msgspec.to_builtins(taken_back)}, indent=2) + "\n")
    elif taken_back is None:
        terminal.write("no change of the number of shards is under way\n")
    else:
        terminal.write(
            f"the change from {taken_back.shards} to {taken_back.to} shards is taken back: {taken_back.shards} shards\n"
        )
    return 0


def _print(arguments: argparse.Namespace, planned: Movement | None, steps: Steps) -> None:
    summary = {"to": arguments.to, "dry_run": arguments.dry_run, "changed": planned is not None} | (
        {} if planned is None else _summary(planned)
    )
    if arguments.json:
        terminal.write(
            json.dumps({**summary, "seconds": steps.seconds, "stopped_seconds": steps.stopped()}, indent=2) + "\n"
        )
        return
    if planned is None:
        terminal.write(f"the positions topic has {arguments.to} shards already\n")
        return
    would = "would be" if arguments.dry_run else "were"
    for stream, count in _moved(planned).items():
        terminal.write(f"{stream}: {count} positions {would} moved\n")
    terminal.write(
        f"{planned.before} to {planned.to} shards: {len(planned.moved)} of {len(planned.positions)} positions and "
        f"{planned.voids} voids {would} moved, {planned.deleted} old copies {would} deleted, "
        f"{len(planned.entries)} records\n"
    )
    if not arguments.dry_run:
        terminal.write(f"no shard was written for {steps.stopped():.1f} s\n")
        terminal.write(f"start the instances with K2_SHARD_COUNT={planned.to}\n")


def _moved(planned: Movement) -> dict[str, int]:
    """Stream -> positions that move."""
    moved: dict[str, int] = {}
    for name in planned.moved:
        stream = split_name(name)[0]
        moved[stream] = moved.get(stream, 0) + 1
    return dict(sorted(moved.items()))


def _summary(planned: Movement) -> dict[str, object]:
    return {
        "from": planned.before, "moved": _moved(planned), "positions": len(planned.positions),
        "voids": planned.voids, "deleted": planned.deleted, "records": len(planned.entries),
    }  # fmt: skip
