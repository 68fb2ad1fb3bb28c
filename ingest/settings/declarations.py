"""All settings, each declared once, with its type, bounds, default and meaning."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from ingest.core.errors import BadSettings
from ingest.core.streams import STREAMS, TRADE, Stream

_SECRET = {"secret": True}
MOST_PEERS = 8
"""Other instances of one shard: each costs a connection."""


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
        tuple[str, ...],
        Meta(description="Symbols to record, comma separated; * for all of exchangeInfo, whatever their status."),
    ] = ("BTCUSDT", "ETHUSDT")
    streams: Annotated[
        tuple[str, ...],
        Meta(
            description="Streams to record, comma separated: trade (always), aggTrade, blockTrade, kline_<interval>, "
            "bookTicker, depth. Each has a topic of its own."
        ),
    ] = ("trade",)
    book_snapshot_minutes: Annotated[
        float,
        Meta(ge=1, le=10_080, description="Each recorded order book gets a full snapshot this often, minutes."),
    ] = 120.0
    allow_non_ascii_symbols: Annotated[
        bool, Meta(description="Record symbols beyond A-Z and 0-9, too (some exist); false leaves them out.")
    ] = True
    symbol_refresh_seconds: Annotated[
        float, Meta(ge=1, description="How often exchangeInfo is read again for listings and status changes.")
    ] = 900.0
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
    rest_weight_catch_up_fraction: Annotated[
        float, Meta(gt=0, le=1, description="The share while trades are missing (never less than the one above).")
    ] = 0.9
    proxy: Annotated[
        str | None,
        _secret("Proxy for streams and REST: http:// or socks5://[user:password@]host:port. NO_PROXY is respected."),
    ] = None
    gap_grace_seconds: Annotated[
        float, Meta(ge=0, le=60, description="How long a missing id may still arrive before REST is requested.")
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
    schema_registry_url: Annotated[
        str, Meta(description="Confluent-compatible schema registry; several addresses, comma separated.")
    ] = "http://localhost:8081"
    schema_registry_user: Annotated[str | None, Meta(description="Basic authentication: user.")] = None
    schema_registry_password: Annotated[str | None, _secret("Basic authentication: password.")] = None
    schema_auto_register: Annotated[
        bool, Meta(description="Register the schema where it is new; false uses the subject's latest version.")
    ] = True
    topic: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._-]{1,200}$", description="Topic of the trades.")] = (
        "market.crypto.trades.binance"
    )
    partitions: Annotated[
        int | None,
        Meta(
            ge=1,
            description="Partitions that the trades topic must have; unset: those that its records were written to.",
        ),
    ] = None
    minimum_retention_hours: Annotated[
        float, Meta(ge=0, description="A trades topic that keeps records for less is refused; audits need this long.")
    ] = 48.0
    positions_topic: Annotated[
        str | None,
        Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$", description="Compacted topic of positions (<topic>.positions)."),
    ] = None
    dead_letter_topic: Annotated[
        str | None, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$", description="Topic of dead letters (<topic>.dlq).")
    ] = None
    voids_topic: Annotated[
        str | None, Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$", description="Compacted topic of voids (<topic>.voids).")
    ] = None
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
    shard_index: Annotated[
        int | Literal["auto"],
        Meta(ge=0, description="This process's shard; auto: Kafka assigns shards, one child process for each."),
    ] = 0
    shard_count: Annotated[int, Meta(ge=1, le=1000, description="Shards in all; a symbol belongs to one.")] = 1
    standby_warm: Annotated[
        int,
        Meta(ge=0, le=1, description="With auto: standby children for each shard, on instances that do not own it."),
    ] = 0
    fleet_group: Annotated[
        str | None,
        Meta(pattern=r"^[A-Za-z0-9._-]{1,249}$", description="With auto: consumer group (<id prefix>-<topic>-fleet)."),
    ] = None
    fleet_group_protocol: Annotated[
        Literal["classic", "consumer"],
        Meta(description="With auto: consumer is KIP-848's protocol, whose session time-out the broker sets."),
    ] = "classic"
    fleet_session_timeout_seconds: Annotated[
        float, Meta(ge=6, le=60, description="With auto: an instance silent for this long loses its shards (classic).")
    ] = 6.0
    fleet_address: Annotated[
        str | None,
        Meta(
            pattern=r"^[A-Za-z0-9._-]{1,253}$",
            description="With auto: the outgoing address; instances that name the same one share its limits "
            "(the host's name).",
        ),
    ] = None
    fleet_leave_timeout_seconds: Annotated[
        float,
        Meta(ge=0, le=300, description="With auto, SIGTERM: write on until successors have taken over, this long."),
    ] = 20.0
    start_mode: Annotated[
        Literal["auto", "standby", "shadow"],
        Meta(description="auto takes over when no instance writes; standby and shadow wait to be promoted."),
    ] = "auto"
    takeover_after_seconds: Annotated[
        float, Meta(ge=2, le=3600, description="A standby (auto) takes over when no commit was seen for this long.")
    ] = 10.0
    peers: Annotated[
        tuple[str, ...],
        Meta(
            description="Status addresses of the other instances of this shard: a standby takes over at once when the "
            "writer's process ends.",
        ),
    ] = ()
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
    control_token: Annotated[
        str | None, _secret("Bearer token of the control API with every right (at least 16 characters).")
    ] = None
    control_operate_token: Annotated[
        str | None, _secret("Bearer token that may drain, rotate, change symbols and thaw (at least 16 characters).")
    ] = None
    control_read_token: Annotated[
        str | None, _secret("Bearer token that may read /control/status only (at least 16 characters).")
    ] = None
    http_allowed_hosts: Annotated[
        tuple[str, ...],
        Meta(description="Names with a dot that the Host header may have; addresses and names without one always may."),
    ] = ()
    ready_file: Annotated[
        Path | None, Meta(description="A regular file, written once the ports are bound: JSON with pid and addresses.")
    ] = None
    ready_max_commit_age_seconds: Annotated[
        float, Meta(gt=0, le=600, description="Ready means that a transaction was committed within this time.")
    ] = 30.0
    ready_max_data_overdue_seconds: Annotated[
        float, Meta(gt=0, le=600, description="And that no trade is overdue for longer (see docs/reference/health.md).")
    ] = 30.0
    drain_timeout_seconds: Annotated[float, Meta(gt=0, le=60, description="SIGTERM: commit and close within.")] = 10.0
    memory_sample_interval_seconds: Annotated[float, Meta(gt=0, le=3600, description="Between memory samples.")] = 30.0
    memory_window_samples: Annotated[int, Meta(ge=10, le=2880, description="Samples that the leak score sees.")] = 120
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Meta(description="Least level logged.")] = "INFO"
    log_format: Annotated[Literal["json", "text"], Meta(description="One JSON object per line, or text.")] = "json"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of the service, validated."""

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
    def voids_topic(self) -> str:
        """The compacted topic of voids, in Avro."""
        return self.kafka.voids_topic or f"{self.kafka.topic}.voids"

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The recorded streams besides the trades."""
        return tuple(STREAMS[name] for name in self.binance.streams if name != TRADE.name)

    @property
    def stream_topics(self) -> dict[str, str]:
        """Stream -> topic, of the streams besides the trades: the trades' topic with another kind in its name."""
        parts = self.kafka.topic.split(".")
        place = parts.index(TRADE.kind) if TRADE.kind in parts else len(parts)
        return {one.name: ".".join([*parts[:place], one.kind, *parts[place + 1 :]]) for one in self.streams}

    @property
    def shard(self) -> int:
        """The shard of this process. Raises ``BadSettings`` where Kafka assigns shards."""
        index = self.service.shard_index
        if index == "auto":
            raise BadSettings(
                ["K2_SHARD_INDEX='auto': for `ingest run` alone; allowed here is the number of one shard"]
            )
        return index

    def of_shard(self, index: int) -> "Settings":
        """These settings with a fixed shard."""
        return replace(self, service=replace(self.service, shard_index=index))

    @property
    def transactional_id(self) -> str:
        """The shard's one lock: fixed, shared by every colour and every restart."""
        return f"{self.kafka.transactional_id_prefix}-{self.kafka.topic}-{self.shard}"

    @property
    def fleet_group(self) -> str:
        """The consumer group that assigns shards to instances."""
        return self.service.fleet_group or f"{self.kafka.transactional_id_prefix}-{self.kafka.topic}-fleet"

    @property
    def reshard_transactional_id(self) -> str:
        """The lock of ``ingest reshard``."""
        return f"{self.kafka.transactional_id_prefix}-{self.kafka.topic}-reshard"

    @property
    def connection_lifetime_seconds(self) -> float:
        """How long a connection lives at most, before jitter."""
        override = self.binance.connection_max_lifetime_seconds
        return override if override is not None else self.binance.connection_max_lifetime_hours * 3600.0


PARTS: tuple[tuple[str, str, type[msgspec.Struct]], ...] = (
    ("binance", "K2_BINANCE_", BinanceSettings),
    ("kafka", "K2_KAFKA_", KafkaSettings),
    ("service", "K2_", ServiceSettings),
)
