"""``ingest check --connect``: tries everything that a service with these settings connects to, and changes nothing.

The broker (credentials, topics, positions, transactions), each schema registry, REST and WebSocket address, the
symbols, the clock, and the addresses to listen on.
"""

import asyncio
import errno
import os
import ssl
from collections.abc import Awaitable, Callable
from typing import Literal

import msgspec
from confluent_kafka import KafkaException, Producer

from ingest.binance.dialer import Dialer, make_dialer
from ingest.binance.history import History
from ingest.binance.rest import RestClient
from ingest.binance.server_time import clock_difference
from ingest.binance.tls import client_context
from ingest.binance.transport import opener
from ingest.core.errors import IngestError, Retry, Stop
from ingest.http.server import listen
from ingest.kafka import client, topics
from ingest.kafka.layout import require_layout
from ingest.kafka.positions_reader import PositionsReader, with_layout
from ingest.kafka.schemas import Registry, make_encoder, require_ours, stream_schema
from ingest.metrics import Metrics
from ingest.settings import Settings

INIT_SECONDS = 15.0
READ_SECONDS = 15.0
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
        ("positions", lambda: asyncio.to_thread(_positions, settings)),
        ("Kafka's transactions", lambda: asyncio.to_thread(_transactions, settings)),
        *(
            (f"schema registry {url}", lambda url=url: try_registry(settings, url, metrics))
            for url in map(str.strip, settings.kafka.schema_registry_url.split(","))
        ),
        *(
            (f"K2_{name}_HOST", lambda host=host, port=port: asyncio.to_thread(try_listening, host, port))
            for name, host, port in _addresses(settings)
        ),
        ("symbols", lambda: _symbols(settings, metrics, context, dialer)),
        *((f"REST {url}", lambda url=url: _rest(settings, url, metrics, context, dialer)) for url in rests),
        *((f"WebSocket {url}", lambda url=url: _socket(settings, url, metrics, context, dialer)) for url in urls),
    ]
    return await asyncio.gather(*(_tried(what, attempt) for what, attempt in tries))


def _addresses(settings: Settings) -> list[tuple[str, str, int]]:
    service = settings.service
    found = [("METRICS", service.metrics_host, service.metrics_port)]
    if service.control_port is not None and service.control_token is not None:
        found.append(("CONTROL", service.control_host, service.control_port))
    return found


async def _tried(what: str, attempt: Callable[[], Awaitable[str]]) -> Trial:
    try:
        return Trial(what, "ok", await attempt())
    except NotTried as error:
        return Trial(what, "not tried", str(error))
    except Stop as error:
        return Trial(what, "wrong", str(error))
    except (Retry, OSError) as error:
        return Trial(what, "no answer", str(error))
    except IngestError as error:
        return Trial(what, "wrong", str(error))


class NotTried(Exception):
    """It cannot be tried without disturbing a running service; the text says what is known."""


def _topics(settings: Settings) -> str:
    *names, last = topics.verify(settings)
    return f"{', '.join(names)} and {last} are there"


def _positions(settings: Settings) -> str:
    """Read the number of shards and who wrote this one last. Raises ``Retry``, ``Stop`` where no start would write."""
    reader = PositionsReader(settings, any_format=True)
    try:
        state = reader.read(seconds=READ_SECONDS)
    finally:
        reader.close()
    state.require_format()
    require_layout(with_layout(state, settings).layout, settings.service.shard_count)
    if state.writer is None:
        return "no writer yet"
    where = "" if state.writer_offset is None else f" at offset {state.writer_offset}"
    if state.spent:
        return f"generation {state.generation}{where} is forged: the next take-over corrects it"
    return f"generation {state.generation} of {state.writer.instance}{where}, {len(state.positions)} positions"


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
            raise NotTried(f"{failed.name()} for the id {tried}; {known}") from error
        raise Retry(f"no transactions: {failed.name()}: {failed.str()}") from error
    return f"allowed (tried as {tried})"


async def try_registry(settings: Settings, url: str, metrics: Metrics) -> str:
    """Ask one address what ``run`` asks, with its client; registers nothing. Raises ``Retry`` or ``Stop``."""
    alone = msgspec.structs.replace(settings, kafka=msgspec.structs.replace(settings.kafka, schema_registry_url=url))
    missing = []
    async with Registry(alone) as registry:
        known = await registry.examine()
    if known is None:
        missing.append(settings.kafka.topic)
    else:
        make_encoder(alone, metrics, *known, {})
    for stream in settings.streams:
        topic = settings.stream_topics[stream.name]
        async with Registry(alone, topic=topic, schema=stream_schema(stream.record)) as registry:
            found = await registry.examine()
        if found is None:
            missing.append(topic)
        else:
            require_ours(topic, stream.record, *found)
    if missing:
        return f"the schema of {', '.join(missing)} is not registered yet, `ingest run` registers it"
    return "the schema is registered"


def try_listening(host: str, port: int) -> str:
    """Open the address for a moment. Raises ``Stop`` where it cannot be had, ``NotTried`` where it is in use."""
    try:
        listen(host, port).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise NotTried(f"{host}:{port} is in use: by this service, if it runs") from error
        raise Stop(f"cannot listen on {host}:{port}: {error}") from error
    return f"{host}:{port} can be had"


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
        if not infos and not await history.exchange_info():
            raise Retry("the exchange lists no symbol at present; `ingest run` waits for them")
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
