"""Runs the comparison while this instance is a shadow: the tail of the topic on a thread, the judgement on the loop."""

import asyncio
import io
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ingest.binance.symbols import shard_of
from ingest.core.errors import Retry, Stop
from ingest.core.role import Role
from ingest.decoding import Undecodable, decode_json
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.encoding import Encoder
from ingest.kafka.schemas import Registry
from ingest.kafka.trades_consumer import TradesConsumer
from ingest.metrics import Metrics
from ingest.service.pipeline import Pipeline
from ingest.service.shadow_comparison import Comparison
from ingest.settings import Settings

log = logging.getLogger(__name__)

RETRY_SECONDS = 2.0
SCHEMAS_KEPT = 100
"""Schemas of the topic's records; the oldest gives way, as a record names any id."""


class SchemaReader:
    """Decodes values by the schema that each one names; ``ShadowRunner.run`` requests unknown schemas."""

    def __init__(self, known: Mapping[int, str]) -> None:
        from ingest.decoding import avro  # with fastavro: only a shadow reads records

        self._avro = avro
        self._parsed = {number: avro.parse_schema(decode_json(text)) for number, text in known.items()}
        self.unknown: dict[int, None] = {}
        """Schemas to ask for, in this order."""

    def add(self, number: int, text: str) -> None:
        """Know a schema from now on. Raises ``Stop`` for what is none."""
        try:
            parsed = self._avro.parse_schema(decode_json(text))
        except Undecodable as error:
            raise Stop(f"it is no Avro schema: {error}") from error
        while len(self._parsed) >= SCHEMAS_KEPT:
            del self._parsed[next(iter(self._parsed))]
        self._parsed[number] = parsed
        self.unknown.pop(number, None)

    def postpone(self, number: int) -> None:
        """Ask for the others first: it could not be had."""
        self.unknown.pop(number, None)
        self.unknown[number] = None

    def read(self, value: bytes) -> Mapping[str, Any] | None:
        """See ``shadow.Read``."""
        if len(value) < 5 or value[0] != 0:
            raise ValueError("not in the Confluent wire format")
        number = int.from_bytes(value[1:5], "big")
        schema = self._parsed.get(number)
        if schema is None:
            if len(self.unknown) < SCHEMAS_KEPT:
                self.unknown[number] = None
            return None
        try:
            fields = self._avro.read_record(io.BytesIO(value[5:]), schema)
        except Undecodable as error:
            raise ValueError(f"no record of schema {number}: {error}") from error
        if not isinstance(fields, dict) or not {"source_sequence", "ingestion_timestamp"} <= fields.keys():
            raise ValueError(f"schema {number} is not one of trades")
        return _plain(fields)


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Times as microseconds, so that they are compared and used as they were written."""
    for name in ("timestamp", "ingestion_timestamp", "event_timestamp", "receive_timestamp"):
        time = fields.get(name)
        if isinstance(time, datetime):
            fields[name] = round(time.replace(microsecond=0).timestamp()) * 1_000_000 + time.microsecond
    return fields


class ShadowRunner:
    """Begins when the role becomes shadow, ends when it is another; the last result stays."""

    def __init__(self, settings: Settings, metrics: Metrics, pipeline: Pipeline, access: AuthBackoff) -> None:
        self._settings = settings
        self._access = access
        self._metrics = metrics
        self._pipeline = pipeline
        self._loop = asyncio.get_running_loop()
        self._encoder: Encoder | None = None
        self._schema = (0, "")
        self._role: Role | None = None
        self._tail: TradesConsumer | None = None
        self._reader: SchemaReader | None = None
        self._began = asyncio.Event()
        self.comparison: Comparison | None = None

    def ready(self, encoder: Encoder, schema: tuple[int, str]) -> None:
        """From now on there is something to compare with."""
        self._encoder, self._schema = encoder, schema
        if self._role is not None:
            self.on_role(self._role)

    def on_role(self, role: Role) -> None:
        """Begin or end, as the role says."""
        self._role = role
        if role is Role.SHADOW and self._tail is None and self._encoder is not None:
            self._begin(self._encoder)
        elif role is not Role.SHADOW and self._tail is not None:
            self.close()

    def _begin(self, encoder: Encoder) -> None:
        reader = self._reader = SchemaReader({self._schema[0]: self._schema[1]})
        limit = self._settings.service.buffer_max_trades // 2
        shards, shard = self._settings.service.shard_count, self._settings.shard
        comparison = self.comparison = Comparison(
            encoder, reader.read, self._metrics, limit=limit, owns=lambda symbol: shard_of(symbol, shards) == shard,
            monotonic=time.monotonic, time_ns=time.time_ns,
        )  # fmt: skip
        tail: TradesConsumer

        def judge(records: list[tuple[bytes, bytes]]) -> None:
            if self.comparison is comparison:
                comparison.committed(records)
            tail.done()

        def post(records: list[tuple[bytes, bytes]]) -> None:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(judge, records)

        tail = self._tail = TradesConsumer(self._settings, post, self._access)
        tail.start()
        self._pipeline.shadow_listener = comparison.offer
        self._began.set()
        log.info("comparing with what the writer commits")

    def close(self) -> None:
        """Stop comparing."""
        self._pipeline.shadow_listener = None
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    async def run(self) -> None:
        """Ask the registry for schemas that the writer uses and we do not know, until cancelled."""
        await self._began.wait()
        async with Registry(self._settings) as registry:
            while True:
                reader = self._reader
                if reader is None or not reader.unknown:
                    await asyncio.sleep(0.2)
                    continue
                number = next(iter(reader.unknown))
                try:
                    reader.add(number, await registry.schema(number))
                except (Retry, Stop) as error:
                    log.warning("schema %d: %s", number, error)
                    reader.postpone(number)
                    await asyncio.sleep(RETRY_SECONDS)
