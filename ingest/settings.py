"""Settings: one frozen value, one part for each edge, read from the environment once.

Each field is declared once with its type, bounds, default and meaning; the environment's name is the part's prefix and
the field's name in capitals. ``NAME_FILE`` holds the path of a file with the value (for secrets). The reference in
docs/ is generated from these declarations.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from ingest.core.errors import BadSettings

MASK = "********"
KAFKA_OPTION_PREFIX = "K2_KAFKA_OPTION_"
FORBIDDEN_KAFKA_OPTIONS = frozenset(
    {
        "acks",
        "bootstrap.servers",
        "enable.idempotence",
        "isolation.level",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "message.timeout.ms",
        "reconnect.backoff.ms",
        "retry.backoff.ms",
        "request.required.acks",
        "transaction.timeout.ms",
        "transactional.id",
    }
)
"""What exactly-once rests on is not for settings to change."""

_SECRET = {"secret": True}
_SYMBOL = re.compile(r"^[A-Z0-9]{2,20}$")


def _secret(description: str) -> Meta:
    return Meta(description=description, extra=_SECRET)


class BinanceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange's side (prefix ``K2_BINANCE_``)."""

    websocket_url: Annotated[str, Meta(description="Base address of the market streams (ws:// or wss://).")] = (
        "wss://stream.binance.com:9443"
    )
    websocket_fallback_urls: Annotated[
        tuple[str, ...],
        Meta(description="Further addresses of the same exchange, tried in turn. Never another venue's."),
    ] = ("wss://stream.binance.com:443", "wss://data-stream.binance.vision")
    rest_url: Annotated[str, Meta(description="Base address of the REST API: history by trade id.")] = (
        "https://api.binance.com"
    )
    rest_fallback_urls: Annotated[tuple[str, ...], Meta(description="Further REST addresses of the same exchange.")] = (
        "https://api-gcp.binance.com",
        "https://api1.binance.com",
    )
    symbols: Annotated[
        tuple[str, ...], Meta(description="Symbols to record, comma separated, or * for every symbol that trades.")
    ] = ("BTCUSDT", "ETHUSDT")
    allow_non_ascii_symbols: Annotated[bool, Meta(description="Accept symbols beyond A-Z and 0-9 (some exist).")] = (
        False
    )
    symbol_refresh_seconds: Annotated[
        float, Meta(ge=1, description="How often exchangeInfo is read again for listings and status changes.")
    ] = 3600.0
    ssl_verify: Annotated[
        bool, Meta(description="Verify the exchange's certificate. False only with INSECURE_DEVELOPMENT.")
    ] = True
    insecure_development: Annotated[
        bool, Meta(description="Development only: permits ssl_verify=false and warns at each start.")
    ] = False
    custom_ca_bundle: Annotated[
        Path | None, Meta(description="PEM file whose certificates are added to certifi's bundle.")
    ] = None
    connection_max_lifetime_hours: Annotated[
        float, Meta(ge=1, le=24, description="A connection is replaced after this time, hours.")
    ] = 4.0
    connection_max_lifetime_seconds: Annotated[
        float | None, Meta(ge=1, le=86_400, description="Overrides the hours: for tests and drills.")
    ] = None
    connection_lifetime_jitter: Annotated[
        float, Meta(ge=0, le=0.5, description="Each lifetime is shortened by a random share up to this.")
    ] = 0.1
    rotation_overlap_seconds: Annotated[
        float, Meta(ge=0.1, le=300, description="How long old and new connection run together at most.")
    ] = 10.0
    ping_interval_seconds: Annotated[float, Meta(ge=1, le=3600, description="Our ping to the exchange, seconds.")] = (
        180.0
    )
    ping_timeout_seconds: Annotated[float, Meta(gt=0, le=60, description="How long to wait for its pong.")] = 10.0
    health_check_interval: Annotated[float, Meta(gt=0, le=600, description="Between two health checks, seconds.")] = (
        30.0
    )
    health_check_timeout: Annotated[
        float, Meta(gt=0, le=600, description="A connection that delivers nothing for this long is suspect, seconds.")
    ] = 30.0
    dual_connections: Annotated[
        bool, Meta(description="Keep a permanent second connection per group; the first arrival wins.")
    ] = False
    streams_per_connection: Annotated[
        int, Meta(ge=1, le=1024, description="Streams on one connection (the exchange allows 1,024).")
    ] = 1024
    connection_attempts_per_5_minutes: Annotated[
        int, Meta(ge=1, le=300, description="Budget of connection attempts (the exchange allows 300 per address).")
    ] = 100
    open_timeout_seconds: Annotated[float, Meta(gt=0, le=60, description="Limit of one opening handshake.")] = 10.0
    backoff_initial_seconds: Annotated[float, Meta(gt=0, le=60, description="First ceiling of the jitter.")] = 0.25
    backoff_maximum_seconds: Annotated[float, Meta(gt=0, le=600, description="Last ceiling of the jitter.")] = 30.0
    max_frame_bytes: Annotated[
        int, Meta(ge=4096, le=16_777_216, description="Larger frames, after inflation, close the connection (1009).")
    ] = 65_536
    compression: Annotated[bool, Meta(description="Negotiate permessage-deflate.")] = False
    transport: Annotated[
        Literal["websockets", "picows"], Meta(description="WebSocket client; picows needs the extra 'fast'.")
    ] = "websockets"
    rest_timeout_seconds: Annotated[float, Meta(gt=0, le=60, description="Limit of one REST call.")] = 10.0
    rest_weight_fraction: Annotated[
        float, Meta(gt=0, le=1, description="Share of the exchange's request weight that may be used.")
    ] = 0.5
    gap_grace_seconds: Annotated[
        float, Meta(ge=0, le=60, description="How long a missing id may still arrive before REST is asked.")
    ] = 0.25
    void_confirm_seconds: Annotated[
        float, Meta(ge=0, description="An id must be absent from REST for this long before a void is recorded.")
    ] = 600.0
    void_confirm_replies: Annotated[
        int, Meta(ge=2, description="And in at least this many replies that contain an id beyond it.")
    ] = 5
    jump_limit: Annotated[
        int, Meta(ge=1000, description="An id this far ahead, or any id far behind, freezes its symbol.")
    ] = 1_000_000


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The broker's side (prefix ``K2_KAFKA_``). Other client options: ``K2_KAFKA_OPTION_SASL_USERNAME`` and so on."""

    bootstrap_servers: Annotated[str, Meta(min_length=1, description="host:port, comma separated.")] = "localhost:9092"
    schema_registry_url: Annotated[str, Meta(description="Confluent-compatible schema registry.")] = (
        "http://localhost:8081"
    )
    schema_registry_user: Annotated[str | None, Meta(description="Basic authentication: user.")] = None
    schema_registry_password: Annotated[str | None, _secret("Basic authentication: password.")] = None
    schema_auto_register: Annotated[
        bool, Meta(description="Register the schema where it is new; false uses the subject's latest version.")
    ] = True
    topic: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,200}$", description="Topic of the trades.")] = (
        "market.crypto.trades.binance"
    )
    positions_topic: Annotated[str | None, Meta(description="Compacted topic of positions (<topic>.positions).")] = None
    dead_letter_topic: Annotated[str | None, Meta(description="Topic of dead letters (<topic>.dlq).")] = None
    serializer_cache_max_size: Annotated[int, Meta(ge=1, le=100, description="Serializers kept (LRU).")] = 10
    transactional_id_prefix: Annotated[
        str, Meta(pattern=r"^[A-Za-z0-9._-]{1,100}$", description="The id is <prefix>-<topic>-<shard>.")
    ] = "k2-ingest"
    delivery: Annotated[
        Literal["exactly-once", "at-least-once"],
        Meta(description="at-least-once is for brokers without transactions: duplicates can occur."),
    ] = "exactly-once"
    commit_interval_ms: Annotated[int, Meta(ge=5, le=5000, description="A transaction at least this often.")] = 100
    commit_max_records: Annotated[int, Meta(ge=1, le=50_000, description="Most trades in one transaction.")] = 5000
    heartbeat_interval_ms: Annotated[
        int, Meta(ge=100, le=10_000, description="An empty market commits a heartbeat this often.")
    ] = 1000
    slow_commit_ms: Annotated[
        int, Meta(ge=50, le=450, description="A slower commit recycles the producer (KAFKA-17754); below 500.")
    ] = 300
    transaction_timeout_ms: Annotated[
        int, Meta(ge=11_000, le=900_000, description="The broker aborts an older transaction.")
    ] = 15_000
    dead_letter_max_bytes: Annotated[int, Meta(ge=256, description="Raw bytes kept of one dead letter.")] = 65_536
    dead_letter_max_per_minute: Annotated[int, Meta(ge=1, description="More are counted and dropped.")] = 600


class ServiceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The process itself (prefix ``K2_``)."""

    instance_id: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="This instance among its peers, e.g. blue or green."),
    ] = "ingest"
    slot: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,32}$", description="Deployment slot, label of the metrics.")] = (
        "blue"
    )
    version: Annotated[str, Meta(description="Version shown in /status; set by the image.")] = ""
    revision: Annotated[str, Meta(description="Source revision shown in /status; set by the image.")] = ""
    shard_index: Annotated[int, Meta(ge=0, description="This process's shard.")] = 0
    shard_count: Annotated[int, Meta(ge=1, le=1000, description="Shards in all; a symbol belongs to one.")] = 1
    start_mode: Annotated[
        Literal["auto", "standby", "shadow"],
        Meta(description="auto takes over when nobody writes; standby and shadow wait to be promoted."),
    ] = "auto"
    takeover_after_seconds: Annotated[
        float, Meta(ge=2, le=3600, description="A standby (auto) takes over when no commit was seen for this long.")
    ] = 10.0
    buffer_max_trades: Annotated[
        int, Meta(ge=1000, description="Trades held in memory at most, in order and beyond holes together.")
    ] = 100_000
    metrics_host: Annotated[str, Meta(description="Address of metrics, health and status.")] = "127.0.0.1"
    metrics_port: Annotated[int, Meta(ge=0, le=65_535, description="0 picks a free one.")] = 9095
    metrics_max_symbols: Annotated[
        int, Meta(ge=1, le=5000, description="Symbols with a label of their own; the rest are 'other'.")
    ] = 200
    control_host: Annotated[str, Meta(description="Address of the control API.")] = "127.0.0.1"
    control_port: Annotated[int | None, Meta(ge=0, le=65_535, description="Port of the control API; unset: off.")] = (
        None
    )
    control_token: Annotated[str | None, _secret("Bearer token of the control API (at least 16 characters).")] = None
    ready_file: Annotated[
        Path | None, Meta(description="Written once the ports are bound: JSON with pid and addresses.")
    ] = None
    ready_max_commit_age_seconds: Annotated[
        float, Meta(gt=0, le=600, description="Ready means that data was committed within this time.")
    ] = 30.0
    drain_timeout_seconds: Annotated[float, Meta(gt=0, le=60, description="SIGTERM: commit and close within.")] = 10.0
    memory_sample_interval_seconds: Annotated[float, Meta(gt=0, le=3600, description="Between memory samples.")] = 30.0
    memory_window_samples: Annotated[int, Meta(ge=10, le=2880, description="Samples that the leak score sees.")] = 120
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Meta(description="Least level logged.")] = "INFO"
    log_format: Annotated[Literal["json", "text"], Meta(description="One JSON object per line, or text.")] = "json"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the service is told, validated."""

    binance: BinanceSettings = BinanceSettings()
    kafka: KafkaSettings = KafkaSettings()
    service: ServiceSettings = ServiceSettings()
    kafka_options: Mapping[str, str] = {}

    @property
    def positions_topic(self) -> str:
        """The compacted topic of positions."""
        return self.kafka.positions_topic or f"{self.kafka.topic}.positions"

    @property
    def dead_letter_topic(self) -> str:
        """The topic of dead letters."""
        return self.kafka.dead_letter_topic or f"{self.kafka.topic}.dlq"

    @property
    def transactional_id(self) -> str:
        """The shard's one lock: fixed, shared by every colour and every restart."""
        return f"{self.kafka.transactional_id_prefix}-{self.kafka.topic}-{self.service.shard_index}"

    @property
    def connection_lifetime_seconds(self) -> float:
        """How long a connection lives at most, before jitter."""
        override = self.binance.connection_max_lifetime_seconds
        return override if override is not None else self.binance.connection_max_lifetime_hours * 3600.0


_PARTS: tuple[tuple[str, str, type[msgspec.Struct]], ...] = (
    ("binance", "K2_BINANCE_", BinanceSettings),
    ("kafka", "K2_KAFKA_", KafkaSettings),
    ("service", "K2_", ServiceSettings),
)


class Declared(msgspec.Struct, frozen=True):
    """One setting as declared, for the reference and for ``ingest check``."""

    name: str
    part: str
    field: str
    type: Any
    default: Any
    description: str
    secret: bool
    allowed: str


def declared() -> Iterator[Declared]:
    """Every setting, in the order of declaration."""
    for part, prefix, struct in _PARTS:
        hints = get_type_hints(struct, include_extras=True)
        for field in msgspec.structs.fields(struct):
            hint = hints[field.name]
            base, *metas = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            meta = metas[0] if metas else Meta()
            yield Declared(
                name=prefix + field.name.upper(),
                part=part,
                field=field.name,
                type=hint,
                default=field.default,
                description=meta.description or "",
                secret=bool(meta.extra and meta.extra.get("secret")),
                allowed=_allowed(base, meta),
            )


def _allowed(base: Any, meta: Meta) -> str:
    if get_origin(base) is Literal:
        return " or ".join(repr(choice) for choice in get_args(base))
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    inner = next((arg for arg in get_args(base) if arg in names), base)
    text = "a comma-separated list" if get_origin(base) is tuple else names.get(inner, "text")
    for bound, word in ((meta.ge, "at least"), (meta.gt, "more than"), (meta.le, "at most")):
        if bound is not None:
            text += f", {word} {bound:,}"
    if meta.pattern is not None:
        text += f" matching {meta.pattern}"
    if meta.min_length is not None:
        text += ", not empty"
    return text


def load(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises ``BadSettings`` with every problem at once, one line each: name, value, what is allowed. An unknown name that
    begins like ours is a problem too: a misspelt setting must not be silently ignored.
    """
    problems: list[str] = []
    values: dict[str, dict[str, Any]] = {part: {} for part, _, _ in _PARTS}
    known: set[str] = set()
    for setting in declared():
        known.update((setting.name, setting.name + "_FILE"))
        raw = _raw(setting.name, environment, problems)
        if raw is None:
            continue
        try:
            values[setting.part][setting.field] = _convert(raw, setting.type)
        except (msgspec.ValidationError, ValueError):
            shown = MASK if setting.secret else repr(raw)
            problems.append(f"{setting.name}={shown}: allowed is {setting.allowed}")
    unreadable = bool(problems)
    options = _kafka_options(environment, problems)
    problems.extend(
        f"{name}: unknown setting; `ingest check --list` shows those that exist"
        for name in sorted(environment)
        if name.startswith(("K2_BINANCE_", "K2_KAFKA_")) and name not in known and not _is_option(name)
    )
    for field in ("websocket", "rest"):
        # Another exchange address (a simulator, a testnet) must never fail over to the production one.
        if f"{field}_url" in values["binance"]:
            values["binance"].setdefault(f"{field}_fallback_urls", ())
    if unreadable:
        raise BadSettings(problems)
    settings = Settings(
        binance=BinanceSettings(**values["binance"]),
        kafka=KafkaSettings(**values["kafka"]),
        service=ServiceSettings(**values["service"]),
        kafka_options=options,
    )
    problems += _contradictions(settings)
    if problems:
        raise BadSettings(problems)
    return settings


def _raw(name: str, environment: Mapping[str, str], problems: list[str]) -> str | None:
    value = environment.get(name)
    path = environment.get(name + "_FILE")
    if path is None:
        return value if value else None
    if value:
        problems.append(f"{name} and {name}_FILE are both set: set one of them")
        return None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{name}_FILE={path!r}: cannot be read ({error})")
        return None


def _convert(raw: str, hint: Any) -> Any:
    base, *metas = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    if get_origin(base) is tuple:
        return tuple(part.strip() for part in raw.split(",") if part.strip())
    if Path in get_args(base):
        return Path(raw)
    if get_origin(base) is UnionType:
        # msgspec takes no bounds on an optional number; what is given here is never None.
        base = next(part for part in get_args(base) if part is not NoneType)
        hint = Annotated[base, *metas] if metas else base
    value = msgspec.convert(raw.strip() if base is not str else raw, hint, strict=False)
    if isinstance(value, float) and value != value:
        raise ValueError("not a number")
    return value


def _is_option(name: str) -> bool:
    return name.startswith(KAFKA_OPTION_PREFIX)


def _kafka_options(environment: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    names = {name.removesuffix("_FILE") for name in environment if _is_option(name)}
    for name in sorted(names):
        option = name.removeprefix(KAFKA_OPTION_PREFIX).lower().replace("_", ".")
        if option in FORBIDDEN_KAFKA_OPTIONS:
            problems.append(f"{name}: {option} is part of the exactly-once protocol and cannot be set")
            continue
        value = _raw(name, environment, problems)
        if value is not None:
            options[option] = value
    return options


def _contradictions(settings: Settings) -> Iterator[str]:
    binance, service, kafka = settings.binance, settings.service, settings.kafka
    urls = [("K2_BINANCE_WEBSOCKET_URL", url, ("ws", "wss")) for url in (binance.websocket_url,)]
    urls += [("K2_BINANCE_WEBSOCKET_FALLBACK_URLS", url, ("ws", "wss")) for url in binance.websocket_fallback_urls]
    urls += [("K2_BINANCE_REST_URL", binance.rest_url, ("http", "https"))]
    urls += [("K2_BINANCE_REST_FALLBACK_URLS", url, ("http", "https")) for url in binance.rest_fallback_urls]
    urls += [("K2_KAFKA_SCHEMA_REGISTRY_URL", kafka.schema_registry_url, ("http", "https"))]
    for name, url, schemes in urls:
        if not re.fullmatch(rf"({'|'.join(schemes)})://[^/\s?#@]+(/[^\s?#]*)?", url):
            yield f"{name}={url!r}: allowed is {' or '.join(f'{scheme}://host[:port]' for scheme in schemes)}"
    if not binance.ssl_verify and not binance.insecure_development:
        yield "K2_BINANCE_SSL_VERIFY=false: allowed only together with K2_BINANCE_INSECURE_DEVELOPMENT=true"
    if binance.custom_ca_bundle is not None and not binance.custom_ca_bundle.is_file():
        yield f"K2_BINANCE_CUSTOM_CA_BUNDLE={str(binance.custom_ca_bundle)!r}: no such file"
    if not binance.symbols:
        yield "K2_BINANCE_SYMBOLS='': allowed is a comma-separated list of symbols, or *"
    if "*" in binance.symbols and len(binance.symbols) > 1:
        yield f"K2_BINANCE_SYMBOLS={','.join(binance.symbols)!r}: * stands alone"
    for symbol in binance.symbols:
        if symbol != "*" and not binance.allow_non_ascii_symbols and not _SYMBOL.match(symbol):
            yield f"K2_BINANCE_SYMBOLS: {symbol!r} is no symbol; allowed is A-Z and 0-9, 2 to 20 (e.g. BTCUSDT)"
    for symbol in sorted({s for s in binance.symbols if binance.symbols.count(s) > 1}):
        yield f"K2_BINANCE_SYMBOLS: {symbol!r} is named twice"
    if service.shard_index >= service.shard_count:
        yield f"K2_SHARD_INDEX={service.shard_index}: allowed is 0 to K2_SHARD_COUNT - 1 = {service.shard_count - 1}"
    if service.control_port is not None and len(service.control_token or "") < 16:
        yield "K2_CONTROL_TOKEN: the control API needs a token of at least 16 characters (K2_CONTROL_TOKEN_FILE)"
    if binance.ping_timeout_seconds >= binance.ping_interval_seconds:
        yield (
            f"K2_BINANCE_PING_TIMEOUT_SECONDS={binance.ping_timeout_seconds:g}: allowed is less than "
            f"K2_BINANCE_PING_INTERVAL_SECONDS = {binance.ping_interval_seconds:g}"
        )
    if len({kafka.topic, settings.positions_topic, settings.dead_letter_topic}) < 3:
        yield "K2_KAFKA_TOPIC, K2_KAFKA_POSITIONS_TOPIC and K2_KAFKA_DEAD_LETTER_TOPIC must be three topics"


def shown(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """Each setting as (name, value with secrets masked, meaning); Kafka's options at the end, masked by their name."""
    for setting in declared():
        value = getattr(getattr(settings, setting.part), setting.field)
        yield setting.name, _display(value, masked=setting.secret), setting.description
    for option, value in sorted(settings.kafka_options.items()):
        name = KAFKA_OPTION_PREFIX + option.upper().replace(".", "_")
        yield name, _display(value, masked=is_secret_option(option)), f"librdkafka's {option}"


def default_text(setting: Declared) -> str:
    """A setting's default as one would write it; empty for none."""
    return _display(setting.default, masked=False)


def is_secret_option(option: str) -> bool:
    """Whether a client option's value must never be shown or logged."""
    words = ("password", "secret", "sasl.jaas", "ssl.key.pem", "oauthbearer.config", "token", "username")
    return any(word in option for word in words)


def secrets(settings: Settings) -> frozenset[str]:
    """The values that must appear in no log, metric, report or answer."""
    found = {getattr(getattr(settings, s.part), s.field) for s in declared() if s.secret}
    found |= {value for option, value in settings.kafka_options.items() if is_secret_option(option)}
    return frozenset(value for value in found if value)


def _display(value: object, *, masked: bool) -> str:
    if value is None:
        return ""
    if masked:
        return MASK
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
