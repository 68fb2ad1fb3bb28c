"""Which fields a shadow compares: the times of the delivery, and those that only one of two schemas has."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import fastavro
import msgspec
import pytest

from ingest.core.trade import Trade
from ingest.kafka.schemas import trade_schema
from tests.unit.ingest.service.test_shadow_comparison import NOW, Sides, trade


class Streamed(Sides):
    """Both sides read from the stream; what the writer committed is rewritten, by another schema if one is given."""

    def __init__(self, schema: dict[str, Any] | None = None, number: int = 1) -> None:
        """``number``: the schema's id at the registry; this shadow's own is 1."""
        super().__init__(limit=1000)
        self.schema = fastavro.parse_schema(json.loads(trade_schema()) if schema is None else schema)
        self.number = number
        if schema is not None:
            self.reader.add(number, json.dumps(schema))

    def compare(self, change: Callable[[dict[str, Any]], object], count: int = 300) -> set[str]:
        """The fields that differ in any of so many records."""
        trades = [
            msgspec.structs.replace(trade(n), event_time_us=NOW + n + 1000, receive_time_us=NOW + n + 2000)
            for n in range(1, count + 1)
        ]
        self.writer.received(NOW + 2000)
        self.comparison.offer(trades)
        self.comparison.committed([(b"BTCUSDT", self.rewritten(one, change)) for one in trades])
        assert self.comparison.compared == count
        return {name for one in self.comparison.mismatches for name in one.fields}

    def rewritten(self, one: Trade, change: Callable[[dict[str, Any]], object]) -> bytes:
        plain = fastavro.parse_schema(json.loads(trade_schema()))
        record = fastavro.schemaless_reader(io.BytesIO(self.writer.encode(one, NOW + 5000)[5:]), plain, None)
        assert isinstance(record, dict)
        change(record)
        out = io.BytesIO()
        out.write(b"\0" + self.number.to_bytes(4, "big"))
        fastavro.schemaless_writer(out, self.schema, record)
        return out.getvalue()


def without(*names: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(trade_schema())
    schema["fields"] = [field for field in schema["fields"] if field["name"] not in names]
    return schema


def shifted(name: str, **by: float) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update({name: record[name] + timedelta(**by)})


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        (lambda _: None, set()),
        (shifted("receive_timestamp", seconds=-1), set()),
        (shifted("event_timestamp", milliseconds=300), set()),
        (shifted("receive_timestamp", hours=-1), {"receive_timestamp"}),
        (shifted("receive_timestamp", hours=1), {"receive_timestamp"}),
        (shifted("event_timestamp", hours=-1), {"event_timestamp"}),
        (lambda record: record.update(receive_timestamp=None), {"receive_timestamp"}),
        (lambda record: record.update(event_timestamp=None), {"event_timestamp"}),
    ],
)
def test_times_of_the_delivery_are_compared_with_a_tolerance(
    change: Callable[[dict[str, Any]], None], fields: set[str]
) -> None:
    """Neither is taken over from the other side; an absent one is a difference where both read the stream."""
    assert Streamed().compare(change) == fields


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"event_time_us": 0}, "event_timestamp"), ({"receive_time_us": NOW - 3_600_000_000}, "receive_timestamp")],
)
def test_a_shadow_that_would_write_wrong_times_differs(wrong: dict[str, int], field: str) -> None:
    """The candidate in the shadow: the writer's records are right."""
    sides = Streamed()
    right = [
        msgspec.structs.replace(trade(n), event_time_us=NOW + n + 1000, receive_time_us=NOW + n + 2000)
        for n in range(1, 301)
    ]
    sides.comparison.offer([msgspec.structs.replace(one, **wrong) for one in right])
    sides.comparison.committed([(b"BTCUSDT", sides.rewritten(one, lambda _: None)) for one in right])
    assert {name for one in sides.comparison.mismatches for name in one.fields} == {field}


def test_what_the_writer_read_from_history_has_no_time_of_sending() -> None:
    """After a reconnection: read two seconds later; and a few of them just after they were traded."""

    def from_history(record: dict[str, Any]) -> None:
        late = timedelta(seconds=2 if record["source_sequence"] % 2 else 0)
        record.update(event_timestamp=None, receive_timestamp=record["receive_timestamp"] + late)

    assert Streamed().compare(from_history) == set()


@pytest.mark.parametrize("number", [0, 2])
@pytest.mark.parametrize("name", ["price", "side", "currency", "vendor_data", "quantity", "trade_conditions"])
def test_a_schema_that_lost_a_field_differs(name: str, number: int) -> None:
    assert Streamed(without(name), number).compare(lambda record: record.pop(name)) == {name}


TIMES = ("event_timestamp", "receive_timestamp")


def test_a_newer_version_may_have_more_fields_than_the_writer() -> None:
    """The shadow's schema has the times of the delivery, the writer's has not yet."""
    sides = Streamed(without(*TIMES), 0)
    assert sides.compare(lambda record: [record.pop(name) for name in TIMES]) == set()
    assert Streamed(without(*TIMES), 0).compare(
        lambda record: [*(record.pop(name) for name in TIMES), record.update(currency="EUR")]
    ) == {"currency"}


def with_note() -> dict[str, Any]:
    more = without()
    more["fields"].append({"name": "venue_note", "type": ["null", "string"], "default": None})
    return more


def test_the_writer_may_be_the_newer_version() -> None:
    assert Streamed(with_note(), 2).compare(lambda record: record.update(venue_note="x")) == set()


def test_a_newer_version_may_not_lose_a_field_of_the_older_one() -> None:
    """Neither as the writer (the first two) nor in the shadow: consumers may rely on it."""
    assert Streamed(without(*TIMES), 2).compare(lambda record: [record.pop(name) for name in TIMES]) == set(TIMES)
    assert Streamed(without(TIMES[1]), 2).compare(lambda record: record.pop(TIMES[1])) == {TIMES[1]}
    assert Streamed(with_note(), 0).compare(lambda record: record.update(venue_note="x")) == {"venue_note"}
