"""The schema at the registry: compatible before the first write, and its serializers in a bounded cache.

Three requests are all that we have for a registry. Its official client would cost half a second at every start, most
of it for authentication methods that are not configured: a restart after a crash is measured by its first commit.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import certifi
import httpx2
import msgspec
from cachetools import LRUCache
from msgspec import Meta

from ingest.core.backoff import full_jitter
from ingest.core.errors import IngestError, Retry, Stop
from ingest.decoding import Undecodable, decode_json, decode_typed, decoding
from ingest.kafka.encoding import Encoder, GenericEncoder, TradeEncoder
from ingest.kafka.schema_check import SYMBOLS, check
from ingest.metrics import Metrics
from ingest.settings import Settings

log = logging.getLogger(__name__)

SCHEMA_PATH = Path(__file__).with_name("trade_v2.avsc")
VOID_SCHEMA_PATH = Path(__file__).with_name("void_v1.avsc")
REQUEST_SECONDS = 5.0
BODY_LIMIT = 1024 * 1024
MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_NOT_THERE = frozenset({40401, 40402, 40403, 40408})
"""Subject, version or schema not found: any other 404 is not a registry's."""

Assets = Mapping[str, tuple[str, str]]


def trade_schema() -> str:
    """The text of schema ``TradeV2``."""
    return SCHEMA_PATH.read_text(encoding="utf-8")


def void_schema() -> str:
    """The text of schema ``VoidV1``."""
    return VOID_SCHEMA_PATH.read_text(encoding="utf-8")


def stream_schema(record: str) -> str:
    """The text of the schema of this name. Raises ``KeyError``."""
    return {str(decode_json(text)["name"]): text for text in map(_read, SCHEMA_PATH.parent.glob("*.avsc"))}[record]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


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


class _Compatibility(msgspec.Struct):
    is_compatible: bool


_Id = Annotated[int, Meta(ge=0, le=2**31 - 1)]
"""Four bytes of each record."""


class _Registered(msgspec.Struct):
    id: _Id


class _Known(msgspec.Struct):
    id: _Id
    schema: str | None = None


class _Version(msgspec.Struct):
    id: _Id
    schema: str


class _Schema(msgspec.Struct):
    schema: str


class _Error(msgspec.Struct):
    error_code: int = 0
    message: str = ""


class _Refusal(Exception):
    """An answer that is no 200."""

    def __init__(self, status: int, error: _Error) -> None:
        super().__init__(f"HTTP {status} {error.error_code} {error.message}"[:300])
        self.status = status
        self.code = error.error_code


class Registry:
    """A Confluent-compatible schema registry, asked about one subject. An asynchronous context manager."""

    def __init__(self, settings: Settings, *, topic: str | None = None, schema: str | None = None) -> None:
        """``topic``: whose values the subject is about, the trades' by default; ``schema``: the text of theirs."""
        kafka = settings.kafka
        self._urls = [url.strip().rstrip("/") for url in kafka.schema_registry_url.split(",")]
        self._url = self._urls[0]
        """The address that answered last."""
        self._subject = f"{topic or kafka.topic}-value"
        self._text = schema or trade_schema()
        self._name = str(decode_json(self._text)["name"])
        self._register = kafka.schema_auto_register
        user = kafka.schema_registry_user
        self._http = httpx2.AsyncClient(
            auth=(user, kafka.schema_registry_password or "") if user is not None else None,
            verify=_tls() if any(url.startswith("https:") for url in self._urls) else False,
            trust_env=False,
            follow_redirects=False,
            timeout=REQUEST_SECONDS,
            headers={"Content-Type": MEDIA_TYPE, "Accept": f"{MEDIA_TYPE}, application/json"},
        )

    async def __aenter__(self) -> "Registry":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def resolve_schema(self) -> tuple[int, str]:
        """Return the id and the text of the schema to write with.

        What is registered is looked up first, so that a registry that takes no registrations does not end a restart.
        Raises ``Retry`` while the registry does not answer and ``Stop`` if it refuses the schema.
        """
        known = await self.registered()
        if known is not None:
            return known
        try:
            await self._refuse_misfit()
            path = f"/subjects/{quote(self._subject, safe='')}/versions"
            made = await self._ask("POST", path, self._ours, _Registered)
        except _Refusal as refusal:
            raise self._classify(refusal) from refusal
        await self._read_back(made.id)
        return made.id, self._text

    @property
    def _ours(self) -> dict[str, str]:
        """The content of requests about our schema."""
        return {"schema": self._text, "schemaType": "AVRO"}

    async def registered(self) -> tuple[int, str] | None:
        """Return the id and the text of the schema to write with; None if it is to be registered first.

        Changes nothing. Raises ``Retry`` or ``Stop``, also for a subject that must exist and does not.
        """
        subject = quote(self._subject, safe="")
        if not self._register:
            latest: _Version | None = await self._find("GET", f"/subjects/{subject}/versions/latest", None, _Version)
            if latest is None:
                raise Stop(f"subject {self._subject} does not exist and K2_KAFKA_SCHEMA_AUTO_REGISTER is false")
            return latest.id, latest.schema
        known: _Known | None = await self._find("POST", f"/subjects/{subject}", self._ours, _Known)
        return None if known is None else (known.id, known.schema or self._text)

    async def examine(self) -> tuple[int, str] | None:
        """Like ``registered``; raises ``Stop``, too, where the schema could not be registered."""
        known = await self.registered()
        if known is None:
            await self._refuse_misfit()
        return known

    async def _refuse_misfit(self) -> None:
        """Raise ``Stop`` if the subject's latest version is one that our schema does not follow."""
        path = f"/compatibility/subjects/{quote(self._subject, safe='')}/versions/latest"
        fits: _Compatibility | None = await self._find("POST", path, self._ours, _Compatibility)
        if fits is not None and not fits.is_compatible:
            raise Stop(
                f"subject {self._subject}: {self._name} is not compatible with its latest version; "
                "consumers would break. Use another topic, or evolve the subject first"
            )

    async def _read_back(self, schema_id: int) -> None:
        """Raise ``Stop`` if readers would be given another schema for this id than the one that was registered."""
        text = await self.schema(schema_id)
        if not same_schema(text, self._text):
            raise Stop(
                f"schema registry at {self._url}: it registers {self._name} as schema {schema_id} and gives another "
                "schema for that id; nothing is written"
            )

    async def _find(self, method: str, path: str, content: dict[str, str] | None, kind: type[Any]) -> Any:
        """One request about something that need not exist: None then. Raises ``Retry`` or ``Stop``."""
        try:
            return await self._ask(method, path, content, kind)
        except _Refusal as refusal:
            if refusal.status == HTTPStatus.NOT_FOUND and refusal.code in _NOT_THERE:
                return None
            raise self._classify(refusal) from refusal

    async def schema(self, schema_id: int) -> str:
        """Return the text of a schema by its id. Raises ``Retry`` or ``Stop``."""
        try:
            answer: _Schema = await self._ask("GET", f"/schemas/ids/{schema_id}", None, _Schema)
        except _Refusal as refusal:
            raise self._classify(refusal) from refusal
        return answer.schema

    async def stored_schema(self, schema_id: int) -> str | None:
        """Return the text that readers get for an id, None where they get none. Raises ``Retry`` or ``Stop``."""
        found: _Schema | None = await self._find("GET", f"/schemas/ids/{schema_id}", None, _Schema)
        return None if found is None else found.schema

    async def _ask(self, method: str, path: str, content: dict[str, str] | None, kind: type[Any]) -> Any:
        """One request, at each address until one answers. Raises ``_Refusal`` or ``Retry``."""
        body = None if content is None else msgspec.json.encode(content)
        first = self._urls.index(self._url)
        failures: list[str] = []
        for url in self._urls[first:] + self._urls[:first]:
            try:
                status, answer = await self._request(method, url + path, body)
            except Retry as error:
                failures.append(f"schema registry at {url}: {error}")
                continue
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR and len(self._urls) > 1:
                failures.append(f"schema registry at {url}: {_Refusal(status, _error(answer))}")
                continue
            self._url = url
            if status != HTTPStatus.OK:
                raise _Refusal(status, _error(answer))
            try:
                return decode_typed(answer, kind)
            except Undecodable as error:
                raise Retry(f"schema registry at {url}: an answer that is none: {error}") from error
        raise Retry("; ".join(failures))

    async def _request(self, method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        """Return status and body. Raises ``Retry``."""
        try:
            async with asyncio.timeout(REQUEST_SECONDS), self._http.stream(method, url, content=body) as response:
                answer = b""
                async for part in response.aiter_bytes():
                    answer += part
                    if len(answer) > BODY_LIMIT:
                        raise Retry(f"an answer beyond {BODY_LIMIT} bytes")
                return response.status_code, answer
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
            raise Retry(f"{type(error).__name__}: {error}") from error

    def _classify(self, refusal: _Refusal) -> IngestError:
        """What to do about the registry's answer."""
        text = f"schema registry at {self._url}: {refusal}"
        match refusal.status:
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                return Stop(
                    f"{text}; check K2_KAFKA_SCHEMA_REGISTRY_USER and _PASSWORD, and the right to register for "
                    f"{self._subject}"
                )
            case HTTPStatus.CONFLICT:
                return Stop(f"{text}; the subject {self._subject} holds a schema that {self._name} does not fit")
            case HTTPStatus.UNPROCESSABLE_ENTITY | HTTPStatus.METHOD_NOT_ALLOWED:
                return Stop(f"{text}; the registry does not register {self._name} for {self._subject}")
            case HTTPStatus.NOT_FOUND:
                return Stop(f"{text}; is K2_KAFKA_SCHEMA_REGISTRY_URL the address of a Confluent-compatible registry?")
            case _:
                return Retry(text)


def _tls() -> ssl.SSLContext:
    """The system's authorities, and certifi's for images that have none."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(cafile=certifi.where())
    return context


def _error(body: bytes) -> _Error:
    try:
        return decode_typed(body, _Error)
    except Undecodable:
        return _Error(0, body[:100].decode("utf-8", "replace"))


def same_schema(text: str, ours: str) -> bool:
    """Whether this is the schema of ours, written in whatever way."""
    try:
        with decoding():
            return bool(decode_json(text) == decode_json(ours))
    except Undecodable:
        return False


def make_encoder(settings: Settings, metrics: Metrics, schema_id: int, text: str, assets: Assets) -> Encoder:
    """The serializer of a settled schema, out of the cache. Raises ``Stop`` where our records do not fit it."""
    cache = SerializerCache(metrics, maxsize=settings.kafka.serializer_cache_max_size)
    return cache.get_or_make(schema_id, lambda: _make(f"{settings.kafka.topic}-value", schema_id, text, assets))


def require_usable(topic: str, schema_id: int, text: str) -> None:
    """Raise ``Stop`` unless a schema can hold the records of trades."""
    _make(f"{topic}-value", schema_id, text, {})


def _make(subject: str, schema_id: int, text: str, assets: Assets) -> Encoder:
    """The specialised encoder for our own schema, the general one for any other that holds a record in full."""
    ours = decode_json(trade_schema())
    try:
        schema = decode_json(text)
    except Undecodable as error:
        raise Stop(f"schema {schema_id} of subject {subject} is not JSON: {error}") from error
    if schema == ours:
        return TradeEncoder(schema_id, assets)
    check(f"schema {schema_id} of subject {subject}", schema, ours, lambda: GenericEncoder(schema_id, schema, SYMBOLS))
    return GenericEncoder(schema_id, schema, assets)


async def resolve_stream_schema(settings: Settings, topic: str, record: str) -> int:
    """Settle the schema of another stream's topic; returns its id.

    Raises ``Stop`` unless it is the one of this package.
    """
    ours = stream_schema(record)
    schema_id, text = await resolve_schema(settings, topic=topic, schema=ours)
    require_ours(topic, record, schema_id, text)
    return schema_id


def require_ours(topic: str, record: str, schema_id: int, text: str) -> None:
    """Raise ``Stop`` unless a schema is the one of this package for another stream's records."""
    if not same_schema(text, stream_schema(record)):
        raise Stop(f"schema {schema_id} of subject {topic}-value is not {record} of this version: nothing is written")


async def resolve_schema(settings: Settings, *, topic: str | None = None, schema: str | None = None) -> tuple[int, str]:
    """Settle the schema: its id and text; waits for the registry while it is away. Raises ``Stop``.

    ``topic`` and ``schema``: those of another stream than the trades.
    """
    pauses = full_jitter(initial=0.25, maximum=10.0, uniform=random.uniform)
    async with Registry(settings, topic=topic, schema=schema) as registry:
        while True:
            try:
                schema_id, text = await registry.resolve_schema()
            except Retry as error:
                pause = 0.1 + next(pauses)
                log.warning("%s; next try in %.1f s", error, pause)
                await asyncio.sleep(pause)
            else:
                log.info("schema %d of subject %s-value", schema_id, topic or settings.kafka.topic)
                return schema_id, text
