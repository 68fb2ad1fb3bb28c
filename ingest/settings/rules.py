"""What single values cannot show: settings that contradict each other, and addresses that cannot be used."""

import difflib
import re
from collections.abc import Iterator
from pathlib import Path

from ingest.command.arguments import is_host, is_url
from ingest.command.masking import refused
from ingest.core.proxies import parse_proxy
from ingest.core.streams import STREAMS, TRADE
from ingest.settings.declarations import MOST_PEERS, BinanceSettings, KafkaSettings, Settings

FLEET_ID_LENGTH = 58
"""An instance id has at most 64 characters, and a child's ends with the shard."""

_ASCII_SYMBOL = re.compile(r"[A-Z0-9]{2,20}")
_SYMBOL = re.compile(r"[\w.\-]{1,50}")
_SERVER = re.compile(r"\[[0-9A-Fa-f:.]+\]|[^:\s\[\]]+")
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


def contradictions(settings: Settings) -> Iterator[str]:
    """A line for each problem: name, value, what is allowed."""
    yield from _addresses(settings)
    yield from _binance(settings.binance)
    yield from _symbols(settings.binance)
    yield from _streams(settings.binance)
    yield from _kafka(settings)
    yield from _service(settings)


def _addresses(settings: Settings) -> Iterator[str]:
    binance, kafka = settings.binance, settings.kafka
    streams, web = ("ws", "wss"), ("http", "https")
    yield from _url(
        "K2_BINANCE_WEBSOCKET_URL", binance.websocket_url, binance.websocket_url, streams, ("/ws", "/stream")
    )
    for url in binance.websocket_fallback_urls:
        whole = ",".join(binance.websocket_fallback_urls)
        yield from _url("K2_BINANCE_WEBSOCKET_FALLBACK_URLS", url, whole, streams, ("/ws", "/stream"))
    for name, urls in (
        ("K2_BINANCE_REST_URL", (binance.rest_url,)),
        ("K2_BINANCE_REST_FALLBACK_URLS", binance.rest_fallback_urls),
    ):
        for url in urls:
            yield from _url(name, url, ",".join(urls), web, ("/api", "/api/v3"))
    whole = kafka.schema_registry_url
    for url in whole.split(","):
        yield from _url("K2_KAFKA_SCHEMA_REGISTRY_URL", url.strip(), whole, web, ("/subjects", "/schemas"))
    if settings.service.peers and settings.service.shard_index == "auto":
        yield "K2_PEERS: allowed with the number of one shard in K2_SHARD_INDEX; a fleet asks Kafka's group"
    if len(settings.service.peers) > MOST_PEERS:
        yield f"K2_PEERS: {len(settings.service.peers)} addresses; allowed are at most {MOST_PEERS}"
    for url in settings.service.peers:
        yield from _url("K2_PEERS", url, ",".join(settings.service.peers), ("http",), ("/process", "/status"))
    for name, first, others in (
        ("K2_BINANCE_WEBSOCKET_FALLBACK_URLS", binance.websocket_url, binance.websocket_fallback_urls),
        ("K2_BINANCE_REST_FALLBACK_URLS", binance.rest_url, binance.rest_fallback_urls),
    ):
        scheme = first.partition("://")[0]
        if any(other.partition("://")[0] != scheme for other in others):
            yield f"{name}: allowed is {scheme}:// as in the first address: failing over must not change the encryption"
    for name, host in (
        ("K2_METRICS_HOST", settings.service.metrics_host),
        ("K2_CONTROL_HOST", settings.service.control_host),
    ):
        if not is_host(host):
            yield f"{name}={refused(host)!r}: allowed is a host name or an IP address to listen on"


def _url(name: str, url: str, whole: str, schemes: tuple[str, ...], ends: tuple[str, ...]) -> Iterator[str]:
    """``whole``: the list of which it is an item; ``ends``: paths that are added to the base address."""
    if not is_url(url, schemes):
        allowed = " or ".join(f"{scheme}://host[:port]" for scheme in schemes)
        yield f"{name}={refused(url, whole)!r}: allowed is {allowed}"
        return
    path = "/" + url.partition("://")[2].partition("/")[2].strip("/")
    end = next((end for end in ends if path.endswith(end)), None)
    if end is not None:
        yield f"{name}={url!r}: allowed is the base address, without {end}: the path is added to it"


def _is_file(path: Path) -> bool:
    """Whether there is such a file; one in a folder that may not be searched, or with too long a name, is none."""
    try:
        return path.is_file()
    except OSError:
        return False


def _binance(binance: BinanceSettings) -> Iterator[str]:
    if not binance.ssl_verify and not binance.insecure_development:
        yield "K2_BINANCE_SSL_VERIFY=false: allowed only together with K2_BINANCE_INSECURE_DEVELOPMENT=true"
    if binance.custom_ca_bundle is not None and not _is_file(binance.custom_ca_bundle):
        yield f"K2_BINANCE_CUSTOM_CA_BUNDLE={refused(binance.custom_ca_bundle)!r}: no such file"
    if binance.proxy is not None and (problem := _proxy_problem(binance.proxy)):
        yield f"K2_BINANCE_PROXY=********: {problem}"
    if binance.ping_timeout_seconds >= binance.ping_interval_seconds:
        yield (
            f"K2_BINANCE_PING_TIMEOUT_SECONDS={binance.ping_timeout_seconds:g}: allowed is less than "
            f"K2_BINANCE_PING_INTERVAL_SECONDS = {binance.ping_interval_seconds:g}"
        )
    if binance.backoff_initial_seconds > binance.backoff_maximum_seconds:
        yield (
            f"K2_BINANCE_BACKOFF_INITIAL_SECONDS={binance.backoff_initial_seconds:g}: allowed is at most "
            f"K2_BINANCE_BACKOFF_MAXIMUM_SECONDS = {binance.backoff_maximum_seconds:g}"
        )


def _proxy_problem(url: str) -> str | None:
    try:
        parse_proxy(url)
    except ValueError as error:
        return str(error)
    return None


def _symbols(binance: BinanceSettings) -> Iterator[str]:
    whole = ",".join(binance.symbols)
    if not binance.symbols:
        yield "K2_BINANCE_SYMBOLS='': allowed is a comma-separated list of symbols, or *"
    if "*" in binance.symbols and len(binance.symbols) > 1:
        yield f"K2_BINANCE_SYMBOLS={refused(whole)!r}: * stands alone"
    for symbol in binance.symbols:
        if symbol == "*":
            continue
        shown = repr(refused(symbol, whole))
        if symbol.isascii() or not binance.allow_non_ascii_symbols:
            if not _ASCII_SYMBOL.fullmatch(symbol):
                yield f"K2_BINANCE_SYMBOLS: {shown} is no symbol; allowed is A-Z and 0-9, 2 to 20 (e.g. BTCUSDT)"
        elif not _SYMBOL.fullmatch(symbol) or symbol.lower().upper() != symbol:
            yield f"K2_BINANCE_SYMBOLS: {shown} is no symbol; allowed are upper-case letters and digits, 1 to 50"
    for symbol in sorted({s for s in binance.symbols if binance.symbols.count(s) > 1}):
        yield f"K2_BINANCE_SYMBOLS: {refused(symbol, whole)!r} is named twice"


def _streams(binance: BinanceSettings) -> Iterator[str]:
    allowed = f"allowed are {', '.join(STREAMS)}"
    whole = ",".join(binance.streams)
    for name in binance.streams:
        if name not in STREAMS:
            near = difflib.get_close_matches(name, STREAMS, n=1)
            meant = f" (do you mean {near[0]}?)" if near else ""
            yield f"K2_BINANCE_STREAMS: {refused(name, whole)!r} is no stream{meant}; {allowed}"
    for name in sorted({one for one in binance.streams if binance.streams.count(one) > 1}):
        yield f"K2_BINANCE_STREAMS: {refused(name, whole)!r} is named twice"
    if TRADE.name not in binance.streams:
        yield f"K2_BINANCE_STREAMS={refused(whole)!r}: trade must be among them"


def _kafka(settings: Settings) -> Iterator[str]:
    kafka = settings.kafka
    yield from _servers(kafka)
    if kafka.schema_registry_password and not kafka.schema_registry_user:
        yield "K2_KAFKA_SCHEMA_REGISTRY_PASSWORD: allowed only together with K2_KAFKA_SCHEMA_REGISTRY_USER"
    topics = {
        "K2_KAFKA_TOPIC": kafka.topic,
        "K2_KAFKA_POSITIONS_TOPIC": settings.positions_topic,
        "K2_KAFKA_DEAD_LETTER_TOPIC": settings.dead_letter_topic,
        "K2_KAFKA_VOIDS_TOPIC": settings.voids_topic,
    }
    if all(name in STREAMS for name in settings.binance.streams):
        for topic in sorted(set(settings.stream_topics.values()) & set(topics.values())):
            yield f"topic {topic!r} is that of another stream of K2_BINANCE_STREAMS, too: give it another name"
    for name, topic in topics.items():
        if topic in (".", ".."):
            yield f"{name}={topic!r}: Kafka allows no topic of this name"
    if len(set(topics.values())) < len(topics):
        yield f"{', '.join(topics)} must be {len(topics)} topics"


def _servers(kafka: KafkaSettings) -> Iterator[str]:
    name, allowed = "K2_KAFKA_BOOTSTRAP_SERVERS", "allowed is host:port,host:port"
    servers = [server.strip() for server in kafka.bootstrap_servers.split(",")]
    for server in servers:
        found = _SERVER.match(server)
        host = "" if found is None else found[0]
        port = server[len(host) :].removeprefix(":")
        has_port = len(server) > len(host)
        good_port = not has_port or bool(_PORT.fullmatch(port) and 0 < int(port) <= 65_535)
        if not (is_host(host.strip("[]")) and good_port):
            yield f"{name}={refused(server, kafka.bootstrap_servers)!r}: {allowed}"


def _service(settings: Settings) -> Iterator[str]:
    service = settings.service
    if service.shard_index != "auto" and service.shard_index >= service.shard_count:
        yield f"K2_SHARD_INDEX={service.shard_index}: allowed is 0 to K2_SHARD_COUNT - 1 = {service.shard_count - 1}"
    if service.shard_index == "auto":
        yield from _fleet(settings)
    if service.control_port is not None and len(service.control_token or "") < 16:
        yield "K2_CONTROL_TOKEN: the control API needs a token of at least 16 characters (K2_CONTROL_TOKEN_FILE)"
    for name in ("control_operate_token", "control_read_token"):
        token = getattr(service, name)
        if token is not None and len(token) < 16:
            yield f"K2_{name.upper()}: a token needs at least 16 characters"
    tokens = [one for one in (service.control_token, service.control_operate_token, service.control_read_token) if one]
    if len(set(tokens)) < len(tokens):
        yield "K2_CONTROL_TOKEN, K2_CONTROL_OPERATE_TOKEN and K2_CONTROL_READ_TOKEN must differ"
    ports = (service.metrics_port, service.control_port)
    if ports[0] == ports[1] != 0 and service.metrics_host == service.control_host:
        yield f"K2_CONTROL_PORT={service.control_port}: K2_METRICS_PORT is the same; allowed is another port"


def _fleet(settings: Settings) -> Iterator[str]:
    if settings.kafka.delivery != "exactly-once":
        yield "K2_SHARD_INDEX='auto': allowed with K2_KAFKA_DELIVERY=exactly-once: the transactional id is the lock"
    if settings.service.start_mode != "auto":
        yield "K2_SHARD_INDEX='auto': allowed with K2_START_MODE=auto: Kafka's group says who writes"
    if len(settings.service.instance_id) > FLEET_ID_LENGTH:
        yield f"K2_INSTANCE_ID: with K2_SHARD_INDEX=auto allowed are {FLEET_ID_LENGTH} characters: children add theirs"
