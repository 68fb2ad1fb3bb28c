"""``ingest check --connect``: tries everything that a service with these settings connects to, and changes nothing.

The broker (credentials, topics, transactions), the schema registry, each REST and each WebSocket address, the symbols,
and the clock.
"""

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import Literal
from urllib.parse import quote

import httpx2
import msgspec
from confluent_kafka import KafkaException, Producer

from ingest.binance.dialer import Dialer, make_dialer
from ingest.binance.history import History
from ingest.binance.rest import RestClient
from ingest.binance.server_time import clock_difference
from ingest.binance.tls import client_context
from ingest.binance.transport import opener
from ingest.core.errors import IngestError, Retry, Stop
from ingest.kafka import client, topics
from ingest.metrics import Metrics
from ingest.settings import Settings

INIT_SECONDS = 15.0
State = Literal["ok", "wrong", "no answer", "not tried"]


class Trial(msgspec.Struct, frozen=True):
    """One thing that was tried. ``wrong`` needs a change; ``no answer`` may pass."""

    what: str
    state: State
    detail: str = ""


async def try_all(settings: Settings) -> list[Trial]:
    """Try everything, side by side; never raises for what is tried."""
    urls = (settings.binance.websocket_url, *settings.binance.websocket_fallback_urls)
    plain = not any(url.startswith(("https", "wss")) for url in (*urls, settings.binance.rest_url))
    context = None if plain else client_context(settings.binance)
    dialer = make_dialer(settings.binance, os.environ)
    metrics = Metrics(process=False)
    rests = (settings.binance.rest_url, *settings.binance.rest_fallback_urls)
    tries: list[tuple[str, Callable[[], Awaitable[str]]]] = [
        ("Kafka's topics", lambda: asyncio.to_thread(_topics, settings)),
        ("Kafka's transactions", lambda: asyncio.to_thread(_transactions, settings)),
        ("schema registry", lambda: _registry(settings)),
        ("symbols", lambda: _symbols(settings, metrics, context, dialer)),
        *((f"REST {url}", lambda url=url: _rest(settings, url, metrics, context, dialer)) for url in rests),
        *((f"WebSocket {url}", lambda url=url: _socket(settings, url, metrics, context, dialer)) for url in urls),
    ]
    return await asyncio.gather(*(_tried(what, attempt) for what, attempt in tries))


async def _tried(what: str, attempt: Callable[[], Awaitable[str]]) -> Trial:
    try:
        return Trial(what, "ok", await attempt())
    except _NotTried as error:
        return Trial(what, "not tried", str(error))
    except Stop as error:
        return Trial(what, "wrong", str(error))
    except (Retry, OSError) as error:
        return Trial(what, "no answer", str(error))
    except IngestError as error:
        return Trial(what, "wrong", str(error))


class _NotTried(Exception):
    """It cannot be tried without disturbing a running service; the text says what is known."""


def _topics(settings: Settings) -> str:
    *names, last = topics.verify(settings)
    return f"{', '.join(names)} and {last} are there"


def _transactions(settings: Settings) -> str:
    """Begin a session under another transactional id: that of the service would fence a writer that runs."""
    if settings.kafka.delivery != "exactly-once":
        return "not used: K2_KAFKA_DELIVERY=at-least-once"
    tried = f"{settings.transactional_id}-check"
    producer = Producer({**client.producer(settings, transactional=True), "transactional.id": tried})
    try:
        producer.init_transactions(INIT_SECONDS)
    except KafkaException as error:
        failed = error.args[0]
        if "AUTHORIZATION" in failed.name():
            known = f"a literal ACL for {settings.transactional_id} would be enough"
            raise _NotTried(f"{failed.name()} for the id {tried}; {known}") from error
        raise Retry(f"no transactions: {failed.name()}: {failed.str()}") from error
    return f"allowed (tried as {tried})"


async def _registry(settings: Settings) -> str:
    kafka = settings.kafka
    url = f"{kafka.schema_registry_url}/subjects/{quote(kafka.topic, safe='')}-value/versions/latest"
    auth = (kafka.schema_registry_user, kafka.schema_registry_password or "") if kafka.schema_registry_user else None
    try:
        async with httpx2.AsyncClient(timeout=10.0, trust_env=False, auth=auth) as http:
            answer = await http.get(url)
    except httpx2.HTTPError as error:
        raise Retry(f"{kafka.schema_registry_url} does not answer: {str(error) or type(error).__name__}") from error
    if answer.status_code == 404:
        return "the schema is not registered yet"
    if answer.status_code in (401, 403):
        raise Stop(f"{kafka.schema_registry_url} answered {answer.status_code}: see K2_KAFKA_SCHEMA_REGISTRY_USER")
    if answer.status_code != 200:
        raise Retry(f"{kafka.schema_registry_url} answered {answer.status_code}: {answer.text[:200]}")
    return "the schema is registered"


async def _rest(settings: Settings, url: str, metrics: Metrics, context: ssl.SSLContext | None, dialer: Dialer) -> str:
    alone = msgspec.structs.replace(settings.binance, rest_url=url, rest_fallback_urls=())
    async with RestClient(alone, metrics, ssl_context=context, dialer=dialer) as rest:
        difference = await clock_difference(rest)
    if difference.wrong:
        raise Stop(f"{difference}: set it by NTP")
    return f"the clock differs by {difference.ahead:+.2f} s"


async def _symbols(settings: Settings, metrics: Metrics, context: ssl.SSLContext | None, dialer: Dialer) -> str:
    wanted = settings.binance.symbols
    everything = "*" in wanted
    async with History(RestClient(settings.binance, metrics, ssl_context=context, dialer=dialer)) as history:
        infos = await history.exchange_info(None if everything else wanted)
    missing = [] if everything else [name for name in wanted if name not in infos]
    if missing:
        raise Stop(f"K2_BINANCE_SYMBOLS: the exchange does not list {', '.join(missing)}")
    return f"{len(infos)} listed"


async def _socket(
    settings: Settings, url: str, metrics: Metrics, context: ssl.SSLContext | None, dialer: Dialer
) -> str:
    socket = await opener(settings.binance, metrics, context, dialer).open(f"{url}/stream")
    socket.abort()
    return "opened"
