"""Reads the topics of all streams and checks each contract, with nothing of the writer's code."""

import io
import itertools
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer

from tests.harness.processes import ROOT
from tests.harness.topics import beginning

KINDS = {
    "agg_trades": "agg_trade_v2", "block_trades": "trade_v2", "bars": "bar_v2", "quotes": "quote_v2",
    "books": "book_event_v2",
}  # fmt: skip
Rows = list[dict[str, Any]]


def schema(name: str) -> Any:
    """A schema of the package, parsed."""
    path = Path(ROOT) / "ingest" / "kafka" / f"{name}.avsc"
    return fastavro.parse_schema(json.loads(path.read_text()), named_schemas={})


def committed(bootstrap_servers: str, topic: str, kind: str) -> Rows:
    """Every committed record of a topic, in the order of each partition."""
    parsed = schema(KINDS[kind])
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers, "group.id": "stream-topics", "isolation.level": "read_committed",
            "enable.auto.commit": False, "auto.offset.reset": "earliest", "enable.partition.eof": True, "log_level": 0,
        }
    )  # fmt: skip
    found: Rows = []
    try:
        partitions = beginning(consumer, topic)
        consumer.assign(partitions)
        open_ = len(partitions)
        while open_:
            message = consumer.poll(30.0)
            if message is None:
                raise TimeoutError(f"the end of {topic} was not reached")
            if message.error() is not None:
                open_ -= 1
                continue
            record: Any = fastavro.schemaless_reader(io.BytesIO((message.value() or b"")[5:]), parsed, None)
            if record["symbol"] != (message.key() or b"").decode():
                raise AssertionError(f"{topic}: the key of {record['message_id']} is {message.key()!r}")
            found.append(record)
    finally:
        consumer.close()
    return found


def by_symbol(rows: Rows) -> dict[str, Rows]:
    """Records by symbol, in order."""
    found: dict[str, Rows] = {}
    for row in rows:
        found.setdefault(row["symbol"], []).append(row)
    return found


def check_numbered(rows: Rows) -> dict[str, tuple[int, int]]:
    """Each number exactly once and in order; returns symbol -> first and last."""
    found = {}
    for symbol, of in by_symbol(rows).items():
        numbers = [row["source_sequence"] for row in of]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), f"{symbol}: {_odd(numbers)}"
        found[symbol] = (numbers[0], numbers[-1])
    return found


def _odd(numbers: list[int]) -> list[tuple[int, int]]:
    return [(one, two) for one, two in itertools.pairwise(numbers) if two != one + 1][:5]


def check_quotes(rows: Rows) -> Counter[str]:
    """Ids rise, and a break stands right before the quote that it names."""
    kinds: Counter[str] = Counter()
    for symbol, of in by_symbol(rows).items():
        last, broke = -1, None
        for row in of:
            kinds[row["kind"]] += 1
            if row["kind"] == "BREAK":
                assert row["break_detail"]["last_update_id"] == last, f"{symbol}: a break behind {last}: {row}"
                broke = row["break_detail"]["first_update_id"]
                continue
            assert row["source_sequence"] > last, f"{symbol}: {row['source_sequence']} after {last}"
            assert broke in (None, row["source_sequence"]), f"{symbol}: a break to {broke} before {row}"
            last, broke = row["source_sequence"], None
    return kinds


class Book:
    """A book rebuilt from the topic."""

    def __init__(self) -> None:
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}
        self.last: int | None = None
        self.in_sync = False
        self.kinds: Counter[str] = Counter()
        self.verified = 0

    def take(self, row: dict[str, Any]) -> None:
        """Apply a record; raises ``AssertionError`` where the contract is broken."""
        self.kinds[row["kind"]] += 1
        first, last = row["first_update_id"], row["final_update_id"]
        due = None if self.last is None else self.last + 1
        match row["kind"]:
            case "UPDATE":
                assert first <= last, row
                assert due is None or first <= due <= last, f"{row['symbol']}: {first}..{last} where {due} is due"
                self._apply(row)
                self.last = last
            case "BREAK":
                assert first == due, f"{row['symbol']}: a break of {first}..{last} where {due} is due"
                self.last, self.in_sync = last, False
            case _:
                assert due is None or last + 1 >= due, f"{row['symbol']}: a snapshot of {last} where {due} is due"
                self._replace(row, last == self.last)

    def _apply(self, row: dict[str, Any]) -> None:
        for side, levels in ((self.bids, row["bids"]), (self.asks, row["asks"])):
            for level in levels:
                if level["quantity"]:
                    side[level["price"]] = level["quantity"]
                else:
                    side.pop(level["price"], None)

    def _replace(self, row: dict[str, Any], comparable: bool) -> None:
        sides = [{level["price"]: level["quantity"] for level in row[side]} for side in ("bids", "asks")]
        if self.in_sync and comparable:
            assert sides == [self.bids, self.asks], f"{row['symbol']}: the snapshot at {row['final_update_id']} differs"
            self.verified += 1
        self.bids, self.asks = sides
        self.in_sync = True


def rebuild(rows: Rows) -> dict[str, Book]:
    """The book of each symbol after all of its records."""
    books: dict[str, Book] = {}
    for row in rows:
        books.setdefault(row["symbol"], Book()).take(row)
    return books
