"""Records as bytes, with the schema that the service registers."""

import io
import json
from pathlib import Path
from typing import Any

import fastavro
import pytest

from ingest.audit.decode import Decoder, SchemaMissing, SchemaRegistry, Unreadable
from ingest.audit.model import Inconclusive
from tests.harness.audit.books import record, trade
from tests.harness.registry import Registry

SCHEMA = json.loads((Path(__file__).parents[4] / "ingest" / "kafka" / "trade_v2.avsc").read_text())
RAW = record(trade(77))


def encode(fields: dict[str, Any], schema_id: int = 1) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), fields)
    return b"\x00" + schema_id.to_bytes(4, "big") + out.getvalue()


UNSTATED = {"event_timestamp": None, "receive_timestamp": None}
"""What a record of an older version lacks."""


def test_fields_come_as_plain_values_and_the_schema_is_asked_for_once() -> None:
    asked: list[int] = []

    def fetch(schema_id: int) -> Any:
        asked.append(schema_id)
        return SCHEMA

    decoder = Decoder(fetch)
    assert [decoder.decode(encode(RAW, 259)) for _ in range(3)] == [{**RAW, **UNSTATED}] * 3
    assert asked == [259]


@pytest.mark.parametrize("value", [b"", b"\x00\x00", b"\x01" + encode(RAW)[1:], encode(RAW)[:-3], encode(RAW) + b"x"])
def test_what_is_no_record_is_unreadable(value: bytes) -> None:
    with pytest.raises(Unreadable):
        Decoder(lambda _: SCHEMA).decode(value)


def test_every_cut_of_a_record_is_unreadable_or_another_record() -> None:
    decoder, value = Decoder(lambda _: SCHEMA), encode(RAW)
    for end in range(5, len(value)):
        with pytest.raises(Unreadable):
            decoder.decode(value[:end])


def test_a_schema_without_the_fields_is_unreadable() -> None:
    poor = {"type": "record", "name": "Other", "fields": [{"name": "symbol", "type": "string"}]}
    with pytest.raises(Unreadable, match=r"lacks .*message_id"):
        Decoder(lambda _: poor).decode(encode(RAW))


def test_the_registry_is_asked_with_the_credentials() -> None:
    with Registry(user="auditor", password="secret") as registry:  # noqa: S106
        registry.handle("POST", "/subjects/t-value/versions", {"schema": json.dumps(SCHEMA)})
        good = SchemaRegistry(registry.url, user="auditor", password="secret")  # noqa: S106
        assert Decoder(good.schema).decode(encode(RAW)) == {**RAW, **UNSTATED}
        decoder = Decoder(good.schema)
        for _ in range(2):  # asked for, and remembered
            with pytest.raises(SchemaMissing, match="id 9 is not in the registry"):
                decoder.decode(encode(RAW, 9))
        with pytest.raises(Inconclusive, match="401"):
            SchemaRegistry(registry.url).schema(1)
        registry.failing = 503
        with pytest.raises(Inconclusive, match="503"):
            good.schema(1)
        url = registry.url
    with pytest.raises(Inconclusive, match="does not answer"):
        SchemaRegistry(url).schema(1)
