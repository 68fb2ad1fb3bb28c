"""The schema at the registry: compatible before the first write, and its serializers in a bounded cache."""

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fastavro
import httpx
from cachetools import LRUCache
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from ingest.core.backoff import full_jitter
from ingest.core.errors import IngestError, Retry, Stop
from ingest.kafka.encoding import Encoder, GenericEncoder, TradeEncoder
from ingest.metrics import Metrics
from ingest.settings import Settings

log = logging.getLogger(__name__)

SCHEMA_PATH = Path(__file__).with_name("trade_v2.avsc")
REQUEST_SECONDS = 5.0
_NOT_FOUND = 404
_NO_SUBJECT = frozenset({40401, 40402, 40408})

Assets = Mapping[str, tuple[str, str]]


def trade_schema() -> str:
    """The text of schema ``TradeV2``."""
    return SCHEMA_PATH.read_text(encoding="utf-8")


class SerializerCache(LRUCache[int, Encoder]):
    """Serializers by schema id; the least recently used one gives way."""

    def __init__(self, metrics: Metrics, *, maxsize: int) -> None:
        super().__init__(maxsize=maxsize)
        self._metrics = metrics

    def popitem(self) -> tuple[int, Encoder]:
        """Evict one, and say so."""
        evicted = super().popitem()
        self._metrics.serializer_cache_evictions.inc()
        return evicted

    def get_or_make(self, schema_id: int, make: Callable[[], Encoder]) -> Encoder:
        """The serializer of a schema id; ``make`` is called where there is none yet."""
        encoder = self.get(schema_id)
        if encoder is None:
            encoder = self[schema_id] = make()
        self._metrics.serializer_cache_size.set(len(self))
        return encoder


def _classify(error: SchemaRegistryError, url: str) -> IngestError:
    """What to do about the registry's answer."""
    status, text = error.http_status_code, f"schema registry at {url}: {error}"
    if status in (401, 403):
        return Stop(f"{text}; check K2_KAFKA_SCHEMA_REGISTRY_USER and _PASSWORD")
    if status in (409, 422):
        return Stop(f"{text}; the subject holds a schema that TradeV2 does not fit")
    if status == _NOT_FOUND:
        return Stop(f"{text}; is K2_KAFKA_SCHEMA_REGISTRY_URL the address of a Confluent-compatible registry?")
    return Retry(text)


class Registry:
    """The few questions that we have for a registry. Blocking: call it from a thread."""

    def __init__(self, settings: Settings) -> None:
        kafka = settings.kafka
        self._url = kafka.schema_registry_url
        self._subject = f"{kafka.topic}-value"
        self._register = kafka.schema_auto_register
        config: dict[str, Any] = {"url": self._url, "timeout": REQUEST_SECONDS, "max.retries": 0}
        if kafka.schema_registry_user is not None:
            config["basic.auth.user.info"] = f"{kafka.schema_registry_user}:{kafka.schema_registry_password or ''}"
        self._client = SchemaRegistryClient(config)

    def settle(self) -> tuple[int, str]:
        """Return the id and the text of the schema to write with.

        Raises ``Retry`` while the registry does not answer and ``Stop`` where it refuses the schema.
        """
        ours = Schema(trade_schema(), "AVRO")
        try:
            if not self._compatible(ours):
                raise Stop(
                    f"subject {self._subject}: TradeV2 is not compatible with its latest version; "
                    "consumers would break. Use another topic, or evolve the subject first"
                )
            if self._register:
                return self._client.register_schema(self._subject, ours), trade_schema()
            latest = self._client.get_latest_version(self._subject)
        except SchemaRegistryError as error:
            raise _classify(error, self._url) from error
        except (httpx.HTTPError, OSError, ValueError) as error:
            raise Retry(f"schema registry at {self._url}: {type(error).__name__}: {error}") from error
        if latest.schema_id is None or latest.schema is None or latest.schema.schema_str is None:
            raise Retry(f"schema registry at {self._url}: an incomplete answer for {self._subject}")
        return latest.schema_id, latest.schema.schema_str

    def _compatible(self, schema: Schema) -> bool:
        try:
            return self._client.test_compatibility(self._subject, schema)
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND and error.error_code in _NO_SUBJECT:
                if self._register:
                    return True
                raise Stop(
                    f"subject {self._subject} does not exist and K2_KAFKA_SCHEMA_AUTO_REGISTER is false"
                ) from error
            raise


def make_encoder(schema_id: int, text: str, assets: Assets) -> Encoder:
    """The specialised encoder for our own schema, the general one for any other that a record fits."""
    if json.loads(text) == json.loads(trade_schema()):
        return TradeEncoder(schema_id, assets)
    return GenericEncoder(schema_id, fastavro.parse_schema(json.loads(text)), assets)


async def open_encoder(settings: Settings, metrics: Metrics, assets: Assets) -> Encoder:
    """Settle the schema and return its encoder; waits for the registry while it is away. Raises ``Stop``."""
    registry = Registry(settings)
    cache = SerializerCache(metrics, maxsize=settings.kafka.serializer_cache_max_size)
    pauses = full_jitter(initial=0.25, maximum=10.0, uniform=random.uniform)
    settled = None
    while settled is None:
        try:
            settled = await asyncio.to_thread(registry.settle)
        except Retry as error:
            pause = 0.1 + next(pauses)
            log.warning("%s; next try in %.1f s", error, pause)
            await asyncio.sleep(pause)
    schema_id, text = settled
    log.info("schema %d of subject %s-value", schema_id, settings.kafka.topic)
    return cache.get_or_make(schema_id, lambda: make_encoder(schema_id, text, assets))
