"""A void as a record of the topic of voids."""

import io
import json
from typing import Any

import fastavro

from ingest.core.trade import Void
from ingest.kafka.positions import ShardStateBuilder, VoidRecord, void_record
from ingest.kafka.schemas import void_schema
from ingest.kafka.void_publisher import body_of, key_of


def void(first_id: int, *, symbol: str = "币安人生USDT", last_id: int | None = None) -> VoidRecord:
    return VoidRecord(
        symbol, first_id, first_id if last_id is None else last_id, "exchange_hole",
        {"replies": 5, "next_id": first_id + 1}, 1_723_161_254_122_000,
    )  # fmt: skip


def test_a_record_says_what_the_positions_say() -> None:
    one = void(7, last_id=9)
    parsed = fastavro.parse_schema(json.loads(void_schema()))
    found: Any = fastavro.schemaless_reader(io.BytesIO(body_of(one)), parsed, None)
    assert (found["exchange"], found["symbol"], found["first_id"], found["last_id"]) == ("BINANCE", one.symbol, 7, 9)
    assert (found["reason"], json.loads(found["evidence"])) == ("exchange_hole", one.evidence)
    assert found["confirmed_at"].isoformat() == "2024-08-08T23:54:14.122000+00:00"
    assert key_of(one) == "币安人生USDT:7".encode()


def test_a_void_of_the_positions_is_offered_as_it_was_stored() -> None:
    one, seen = void(7, symbol="BTCUSDT"), list[VoidRecord]()
    builder = ShardStateBuilder(seen.append)
    builder.apply(*void_record(Void("BTCUSDT", 7, 7, "exchange_hole", one.evidence), one.confirmed_at_us))
    builder.apply(b"void:BTCUSDT:8", b"not one")
    builder.apply(b"void:BTCUSDT:9", None)
    assert (seen, builder.invalid) == ([one], ["key b'void:BTCUSDT:8': not a void"])
