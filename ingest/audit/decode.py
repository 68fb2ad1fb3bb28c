"""Decodes records: Confluent's wire format and Avro, with the schema that the registry has."""

import io
import struct
import weakref
from collections.abc import Callable
from typing import Any, cast

import httpx2

from ingest.audit.content import SCALE, Record
from ingest.audit.http import Transport
from ingest.audit.model import Inconclusive
from ingest.decoding import Undecodable, decode_json, decoding
from ingest.decoding.avro import parse_schema, read_record
from ingest.http.answers import ask

MAGIC = 0
"""First byte of Confluent's wire format; the schema id follows, 4 bytes, big-endian."""

SCHEMA_BYTES = 1024 * 1024
"""Of one answer of the registry."""
SCHEMAS_KEPT = 100
"""Parsed schemas; the oldest gives way, as a record names any id."""
UNREADABLE_KEPT = 10_000
"""Headers without a usable schema, at most ``REASON_CHARACTERS`` each; further ones are asked for again."""
REASON_CHARACTERS = 500

FIELDS = frozenset((
    "message_id", "trade_id", "symbol", "exchange", "asset_class", "timestamp", "price", "quantity", "currency", "side",
    "trade_conditions", "source_sequence", "ingestion_timestamp", "platform_sequence", "vendor_data",
))  # fmt: skip


class Unreadable(Exception):
    """The record is not what the topic's format says; the text says why."""


class SchemaMissing(Unreadable):
    """The registry does not have the record's schema: nothing can be said about the record."""


class SchemaRegistry:
    """Schemas by their id, from a registry with Confluent's interface."""

    def __init__(
        self, url: str, *, user: str | None = None, password: str | None = None, transport: Transport | None = None
    ) -> None:
        auth = (user, password or "") if user else None
        self._url = url
        self._client = (transport or Transport()).client(url, auth=auth)
        weakref.finalize(self, self._client.close)

    def schema(self, schema_id: int) -> Any:
        """Return the schema as JSON data. Raises ``SchemaMissing`` or ``Unreadable``, ``Inconclusive`` for the rest."""
        try:
            answer = ask(self._client, "GET", f"/schemas/ids/{schema_id}", most_bytes=SCHEMA_BYTES)
        except httpx2.HTTPError as error:
            text = str(error) or type(error).__name__
            raise Inconclusive(f"the schema registry at {self._url} does not answer: {text}") from error
        if answer.status_code == 404:
            raise SchemaMissing(f"schema id {schema_id} is not in the registry")
        if answer.status_code != 200:
            raise Inconclusive(f"the schema registry answered {answer.status_code}: {answer.text[:200]}")
        try:
            with decoding():
                data = decode_json(answer.content)
                kind, text = data.get("schemaType", "AVRO"), data["schema"]
                if kind != "AVRO":
                    raise Unreadable(f"schema id {schema_id} is {kind}, not AVRO")
                return decode_json(text)
        except Undecodable as error:
            raise Inconclusive(f"the schema registry sent what is no schema: {answer.text[:200]}") from error


class Decoder:
    """Decodes records; fetches every schema once."""

    def __init__(self, fetch: Callable[[int], Any], fields: frozenset[str] = FIELDS) -> None:
        """``fetch`` returns a schema by its id (``SchemaRegistry.schema``); ``fields`` must be in it."""
        self._fetch = fetch
        self._fields = fields
        self._parsed: dict[bytes, Any] = {}
        self._unreadable: dict[bytes, Unreadable] = {}

    def decode(self, value: bytes) -> Record:
        """Return the fields: times as integers, decimals of the usual scale as bytes.

        Raises ``Unreadable``, ``SchemaMissing`` included.
        """
        schema = self._parsed.get(value[:5]) or self._learn(value)
        body = io.BytesIO(value)
        body.seek(5)
        try:
            record = read_record(body, schema)
        except Undecodable as error:
            raise Unreadable(f"no Avro of its schema: {error}") from error
        if body.tell() != len(value):
            raise Unreadable(f"{len(value) - body.tell()} bytes after the end of the record")
        return cast(Record, record)

    def _learn(self, value: bytes) -> Any:
        header = value[:5]
        if header in self._unreadable:
            kept = self._unreadable[header]
            raise type(kept)(str(kept))
        try:
            return self._parse(header)
        except Unreadable as error:
            if len(self._unreadable) < UNREADABLE_KEPT:
                self._unreadable[header] = type(error)(str(error)[:REASON_CHARACTERS])
            raise

    def _parse(self, header: bytes) -> Any:
        if len(header) < 5 or header[0] != MAGIC:
            raise Unreadable(f"no Confluent wire format: starts with {header.hex()}")
        (schema_id,) = struct.unpack(">I", header[1:])
        schema = self._fetch(schema_id)
        try:
            with decoding():
                parsed = parse_schema(_plain(schema))
        except Undecodable as error:
            raise Unreadable(f"schema id {schema_id} cannot be parsed: {error}") from error
        fields = {field["name"] for field in parsed.get("fields", [])} if isinstance(parsed, dict) else set()
        if not fields >= self._fields:
            raise Unreadable(f"schema id {schema_id} lacks {', '.join(sorted(self._fields - fields))}")
        if len(self._parsed) >= SCHEMAS_KEPT:
            del self._parsed[next(iter(self._parsed))]
        self._parsed[header] = parsed
        return parsed


def _plain(schema: Any) -> Any:
    """The schema without the logical types that the auditor compares as plain values."""
    if isinstance(schema, list):
        return [_plain(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {
        key: _plain(value) if key in ("fields", "type", "items", "values") else value for key, value in schema.items()
    }
    kind = plain.get("logicalType")
    if kind == "timestamp-micros" or (kind == "decimal" and plain.get("scale") == SCALE and plain["type"] == "bytes"):
        del plain["logicalType"]
    return plain
