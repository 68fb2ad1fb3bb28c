"""Topics in memory, in the place of ``TopicReader``, and the whole audit over them."""

import json
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from ingest.audit.decode import Decoder
from ingest.audit.ledger import Ledger
from ingest.audit.model import LedgerTrade
from ingest.audit.run import Audit, Outcome
from ingest.audit.topic import NoTopic, TopicReader
from tests.harness.audit.books import SYMBOL, WRITTEN_US, record


class Entry(NamedTuple):
    """What ``confluent_kafka.Message`` has, as far as the auditor reads it."""

    key_: bytes | None
    value_: bytes | None
    partition_: int
    offset_: int
    written_us: int = WRITTEN_US

    def key(self) -> bytes | None:
        return self.key_

    def value(self) -> bytes | None:
        return self.value_

    def partition(self) -> int:
        return self.partition_

    def offset(self) -> int:
        return self.offset_

    def timestamp(self) -> tuple[int, int]:
        return 1, self.written_us // 1000


class Topic:
    """Entries that are all there when it is first read, but for those that come ``later``."""

    def __init__(
        self, entries: Sequence[Entry], *, partitions: int = 1, exists: bool = True, later: Sequence[Entry] = ()
    ) -> None:
        self.lows = dict.fromkeys(range(partitions), 0)
        self.open_transactions = 0
        self.covers_from = 0.0
        self._entries = list(entries)
        self._later = list(later)
        self._exists = exists

    def start(self) -> None:
        if not self._exists:
            raise NoTopic("no topic positions at nowhere")

    def drain(self, take: Callable[[list[Any]], None]) -> int:
        taken, self._entries, self._later = self._entries, self._later, []
        take(taken)
        return len(taken)


class Records:
    """Decoded records by their value; stands for registry and Avro."""

    def __init__(self) -> None:
        self.by_value: dict[bytes, dict[str, Any]] = {}

    def entry(self, fields: dict[str, Any], offset: int, *, partition: int = 0, written_us: int = WRITTEN_US) -> Entry:
        value = b"%d" % len(self.by_value)
        self.by_value[value] = fields
        return Entry(str(fields["symbol"]).encode(), value, partition, offset, written_us)

    def decode(self, value: bytes) -> dict[str, Any]:
        return self.by_value[value]


def position(symbol: str, first: int, last: int, count: int, *, shards: int = 1, partition: int | None = None) -> Entry:
    """A position record, in the partition of its shard unless told otherwise."""
    value = json.dumps({"first_id": first, "last_id": last, "count": count, "v": 1}).encode()
    place = zlib.crc32(symbol.encode()) % shards if partition is None else partition
    return Entry(f"position:{symbol}".encode(), value, place, 0)


def void(symbol: str, first: int, last: int) -> Entry:
    """A void record."""
    value = {"symbol": symbol, "first_id": first, "last_id": last, "reason": "exchange_hole", "v": 1}
    return Entry(f"void:{symbol}:{first}".encode(), json.dumps(value).encode(), 0, 0)


def audit(
    ledger: Ledger,
    trades: Sequence[LedgerTrade],
    *,
    positions: Sequence[Entry] | None = None,
    partitions: int = 1,
    positions_exist: bool = True,
    change: Callable[[dict[str, Any]], dict[str, Any]] = lambda fields: fields,
    written_us: int = WRITTEN_US,
    later: int = 0,
    **options: Any,
) -> Outcome:
    """Audit a topic that has these trades of one symbol, each changed by ``change``; the last ``later`` come late."""
    records = Records()
    entries = [records.entry(change(record(one)), offset, written_us=written_us) for offset, one in enumerate(trades)]
    if positions is None:
        positions = [position(SYMBOL, trades[0].trade_id, trades[-1].trade_id, len(trades))]
    early = len(entries) - later
    claimed = Topic(positions, partitions=partitions, exists=positions_exist)
    return Audit(
        cast(TopicReader, Topic(entries[:early], later=entries[early:])),
        None if options.pop("without_positions", False) else cast(TopicReader, claimed),
        ledger,
        cast(Decoder, records),
        **options,
    ).run()
