"""Every series the service exposes, declared once and typed.

Children of labelled series with a known set of values exist from the start: a counter whose child is born at 1 hides
its first increment from ``increase()``. Hot-path counts are kept in plain integers and moved here once a second.
"""

import math
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

RECONNECT_REASONS = (
    "closed_by_exchange",
    "connection_lost",
    "handshake_refused",
    "dns",
    "refused",
    "timeout",
    "tls",
    "frame_too_large",
    "protocol_error",
)
"""Why a connection ended that we did not mean to end, or could not be opened."""

ROTATION_REASONS = ("scheduled", "server_shutdown", "stalled", "pong_timeout", "operator")
"""Why a connection was replaced on purpose, make before break."""

REJECT_REASONS = (
    "malformed_json",
    "not_an_event",
    "missing_field",
    "wrong_type",
    "bad_decimal",
    "implausible_time",
    "unknown_symbol",
    "content_mismatch",
    "out_of_sequence",
    "too_large",
    "implausible_range",
)
"""Why bytes went to the dead-letter topic."""

HALT_REASONS = ("id_reset", "giant_jump", "content", "voids", "position_lost", "position_ahead", "records_unknown")
"""Why a symbol was halted, see ``core.symbol_sequence``."""

RECYCLE_REASONS = (
    "slow_commit", "timeout", "abort", "disconnect", "fatal", "delivery_failed", "fenced", "refused",
    "too_large",
)  # fmt: skip
"""Why a producer was destroyed and its successor initialised."""

ROLES = ("standby", "shadow", "taking_over", "active", "fenced", "draining", "stopped")
"""The states of this instance; exactly one series of ``ingest_role`` is 1."""

TAKE_OVER_STAGES = ("positions", "fence", "positions_after", "generation", "positions_own", "records")
"""Of a take-over, in order: read the positions, fence the predecessor, read where it stopped, commit the own
generation, read once more what was committed before that, compare the positions with the newest records."""

COMMIT_BUCKETS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LATENCY_BUCKETS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0)


class Metrics:
    """All series of one process, on a registry of its own."""

    def __init__(self, *, symbols: Iterable[str] = (), max_symbols: int = 200, process: bool = True) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # a quarter of the samples, and read by nothing
        self.registry = CollectorRegistry()
        if process:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)
        self._max_symbols = max_symbols
        self._symbol_labels: dict[str, str] = {}
        self._feed()
        self._completeness()
        self._writer()
        self._streams()
        self._process()
        for symbol in symbols:
            self.symbol_label(symbol)

    def symbol_label(self, symbol: str) -> str:
        """The label for a symbol: itself while there is room, else ``other``. Creates the children on first sight."""
        label = self._symbol_labels.get(symbol)
        if label is None:
            label = symbol if len(self._symbol_labels) < self._max_symbols else "other"
            self._symbol_labels[symbol] = label
            self.messages_received.labels(label)
            self.trades_committed.labels(label)
        return label

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = (), values: Iterable[str] = ()) -> Counter:
        counter = Counter(name, text, labels, registry=self.registry)
        for value in values:
            counter.labels(value)
        return counter

    def _gauge(self, name: str, text: str, labels: tuple[str, ...] = (), values: Iterable[str] = ()) -> Gauge:
        gauge = Gauge(name, text, labels, registry=self.registry)
        for value in values:
            gauge.labels(value)
        return gauge

    def _feed(self) -> None:
        self.messages_received = self._counter(
            "binance_messages_received_total", "Trade frames received, duplicates included.", ("symbol",)
        )
        self.received = self._counter("ingest_messages_received_total", "Frames received on all connections.")
        self.bytes_received = self._counter("ingest_bytes_received_total", "Payload bytes received.")
        self.reconnects = self._counter(
            "binance_reconnects_total",
            "Connections that ended unasked or did not open.",
            ("reason",),
            RECONNECT_REASONS,
        )
        self.rotations = self._counter(
            "binance_connection_rotations_total", "Connections replaced on purpose.", ("reason",), ROTATION_REASONS
        )
        self.rotation_failures = self._counter(
            "binance_rotation_failures_total", "Rotations whose successor did not open; the old socket was kept."
        )
        self.connection_attempts = self._counter("binance_connection_attempts_total", "Opening handshakes begun.")
        self.connection_status = self._gauge(
            "binance_connection_status", "1 while the connection is live.", ("connection",)
        )
        self.connections_live = self._gauge("binance_connections_live", "Connections that deliver.")
        self.connection_age = self._gauge(
            "binance_connection_age_seconds", "Age of the connection now.", ("connection",)
        )
        self.connection_lifetime = Histogram(
            "binance_connection_lifetime_seconds",
            "Age of connections when they ended.",
            buckets=(1, 10, 60, 300, 900, 1800, 3600, 7200, 10_800, 14_400, 18_000, 43_200, 86_400),
            registry=self.registry,
        )
        self.symbols_left_out = self._gauge(
            "ingest_symbols_left_out",
            "Symbols that the settings, or the records of the topic, promise and that are not recorded.",
            ("reason",),
            ("not_listed", "non_ascii", "unusable_name", "unusable_entry", "forgotten"),
        )
        self.streams = self._gauge("binance_streams", "Streams subscribed.")
        self.last_pong = self._gauge(
            "binance_last_pong_timestamp_seconds", "When the last pong to our ping arrived.", ("connection",)
        )
        self.pongs = self._counter("binance_pongs_total", "Pongs to our pings.")
        self.pong_timeouts = self._counter("binance_pong_timeouts_total", "Pings without a pong in time.")
        self.pong_seconds = Histogram(
            "binance_pong_seconds",
            "From our ping to its pong.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            registry=self.registry,
        )
        self.server_ping_answer_seconds = Histogram(
            "binance_server_ping_answer_seconds",
            "From reading the exchange's ping to writing the pong.",
            buckets=(0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0),
            registry=self.registry,
        )
        self.stalls = self._counter("binance_stalls_total", "Symbols or connections found stalled.", ("scope",))
        for scope in ("connection", "symbol"):
            self.stalls.labels(scope)
        self.data_overdue = self._gauge(
            "ingest_data_overdue_seconds",
            "Since when trades are due and do not arrive; 0 while they do, or none is due.",
        )
        self.unrequested_trades = self._counter(
            "binance_unrequested_trades_total", "Trades of symbols that the connection is not subscribed to: dropped."
        )
        self.unknown_events = self._counter("binance_unknown_events_total", "Frames that are no trade: ignored.")

    def _completeness(self) -> None:
        self.duplicates = self._counter("ingest_duplicates_dropped_total", "Trades that had arrived before.")
        self.content_mismatches = self._counter(
            "ingest_content_mismatches_total", "Two deliveries of one trade id that differ."
        )
        self.gaps_found = self._counter("ingest_gaps_found_total", "Holes in a symbol's trade ids.")
        self.gaps_filled = self._counter("ingest_gaps_filled_total", "Holes closed, by REST or by a late arrival.")
        self.gaps_open = self._gauge("ingest_gaps_open", "Holes open now.")
        self.gap_oldest = self._gauge("ingest_gap_oldest_seconds", "Age of the oldest open hole.")
        self.gap_seconds = Histogram(
            "ingest_gap_seconds",
            "How long a hole was open.",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
            registry=self.registry,
        )
        self.trades_backfilled = self._counter("ingest_trades_backfilled_total", "Trades read from REST history.")
        self.voids = self._counter("ingest_voids_total", "Trade ids recorded as void.", ("reason",))
        for reason in ("exchange_hole", "unrepresentable", "too_large", "operator"):
            self.voids.labels(reason)
        self.voids_unpublished = self._gauge(
            "ingest_voids_unpublished", "Voids that the topic of voids lacks; the positions topic holds them."
        )
        self.rejected = self._counter("ingest_rejected_total", "Messages rejected.", ("reason",), REJECT_REASONS)
        self.dead_letters_dropped = self._counter("ingest_dead_letters_dropped_total", "Dead letters over the bound.")
        self.symbol_halts = self._counter(
            "ingest_symbol_halts_total", "Times a symbol was halted.", ("reason",), HALT_REASONS
        )
        self.symbols_frozen = self._gauge(
            "ingest_symbols_frozen",
            "Symbols that are halted; /status says why.",
        )
        self.positions_unchecked = self._gauge(
            "ingest_positions_unchecked",
            "Positions that the last take-over could not compare with a record, none being near the end of its topic.",
        )
        self.positions_comparing = self._gauge(
            "ingest_positions_comparing",
            "Positions that are being compared with records or voids: nothing is written for their symbols meanwhile.",
        )
        self.layouts_restored = self._counter(
            "ingest_layouts_restored_total",
            "Forged records of the number of shards in the positions topic that the writer has replaced.",
        )
        self.trades_shed = self._counter(
            "ingest_trades_shed_total", "Live trades dropped for room, re-read by id later."
        )
        self.rest_requests = self._counter("binance_rest_requests_total", "REST calls by answer.", ("status",))
        for status in ("2xx", "403", "418", "429", "4xx", "5xx", "error"):
            self.rest_requests.labels(status)
        self.rest_weight = self._counter("binance_rest_weight_total", "Request weight spent.")
        self.rest_weight_used = self._gauge(
            "binance_rest_weight_used", "Weight used in this minute, as the exchange says."
        )
        self.rest_weight_limit = self._gauge("binance_rest_weight_limit", "Weight per minute that we allow ourselves.")

    def _writer(self) -> None:
        self.trades_committed = self._counter(
            "ingest_trades_committed_total", "Trades committed to Kafka.", ("symbol",)
        )
        self.commits = self._counter("ingest_commits_total", "Transactions committed.")
        self.aborts = self._counter("ingest_aborts_total", "Transactions aborted.")
        self.recycles = self._counter(
            "ingest_producer_recycles_total", "Producers replaced.", ("reason",), RECYCLE_REASONS
        )
        self.commit_seconds = Histogram(
            "ingest_commit_seconds", "Duration of commit_transaction.", buckets=COMMIT_BUCKETS, registry=self.registry
        )
        self.transaction_seconds = Histogram(
            "ingest_transaction_seconds", "From begin to committed.", buckets=COMMIT_BUCKETS, registry=self.registry
        )
        self.transaction_limit = self._gauge(
            "ingest_transaction_limit_bytes", "A batch beyond this is split into several transactions; 0: no limit."
        )
        self.latency = Histogram(
            "ingest_exchange_to_commit_seconds",
            "From the exchange's trade time to the commit; the oldest trade of each transaction.",
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.last_commit = self._gauge(
            "ingest_last_commit_timestamp_seconds", "When the last transaction was committed."
        )
        self.data_fresh = self._gauge(
            "ingest_data_fresh_timestamp_seconds",
            "Up to when the exchange's trades are recorded: the last commit, or since when data is overdue;"
            " 0 while another instance writes.",
        )
        self.stable_offset_stuck = self._gauge(
            "ingest_stable_offset_stuck_seconds",
            "How long readers of committed records have stood at one offset of the partition though there is more.",
            ("partition",),
        )
        self.stable_offset_checks = self._counter(
            "ingest_stable_offset_checks_total", "Times that was asked and answered."
        )
        self.topic_problems = self._gauge(
            "ingest_topic_problems",
            "For each wrong property of a topic (policy, partitions, deletion, schema): 2 if it loses data, else 1.",
            ("topic", "problem"),
        )
        self.clock_ahead = self._gauge(
            "ingest_clock_ahead_seconds",
            "By how much this machine's clock is ahead of the exchange's (negative: behind), as of the last comparison"
            " (every five minutes, and when it is set); NaN before the first answer.",
        )
        self.clock_ahead.set(math.nan)
        self.writer_active = self._gauge("ingest_writer_active", "1 while this instance may write.")
        self.generation = self._gauge("ingest_generation", "Generation of the last hand-over known here.")
        self.role = self._gauge("ingest_role", "1 for the state this instance is in.", ("role",), ROLES)
        self.handover_seconds = self._gauge(
            "ingest_handover_seconds", "Duration of the last take-over by this instance."
        )
        self.handover_stage_seconds = self._gauge(
            "ingest_handover_stage_seconds",
            "Duration of the last take-over by stage, in this order. From the fence on there is no writer.",
            ("stage",),
            TAKE_OVER_STAGES,
        )
        self.handover_gap_seconds = self._gauge(
            "ingest_handover_gap_seconds",
            "Visible gap of the last take-over: the predecessor's last commit to our first.",
        )
        self.handovers = self._counter("ingest_handovers_total", "Take-overs completed by this instance.")
        self.peers_connected = self._gauge(
            "ingest_peers_connected", "Other instances whose process is watched, so that its end is seen at once."
        )
        self.fenced = self._counter("ingest_fenced_total", "Times another writer fenced this one.")
        self.producer_errors = self._counter("ingest_producer_errors_total", "Errors of the producer, retried or not.")
        self.buffered_trades = self._gauge("ingest_buffered_trades", "Trades in memory, not yet committed.")
        self.held_trades = self._gauge("ingest_held_trades", "Trades in memory behind a hole.")
        self.queue_depth = self._gauge("ingest_producer_queue_messages", "Messages in librdkafka's queue.")
        self.serializer_cache_size = self._gauge("serializer_cache_size", "Serializers in the cache.")
        self.serializer_cache_evictions = self._counter("serializer_cache_evictions_total", "Serializers evicted.")
        self.shadow_compared = self._counter("ingest_shadow_compared_total", "Records compared with the writer's.")
        self.shadow_mismatch = self._counter("ingest_shadow_mismatch_total", "Records that differ from the writer's.")
        self.shadow_never_received = self._counter(
            "ingest_shadow_never_received_total",
            "Records of the writer that this shadow did not receive (10 s; 30 s if behind).",
        )
        self.shadow_never_committed = self._counter(
            "ingest_shadow_never_committed_total",
            "Trades of this shadow that the writer did not commit (10 s; 30 s if behind).",
        )
        self.shadow_unreadable = self._counter(
            "ingest_shadow_unreadable_total", "Records of the writer that are no trade record."
        )

    def _streams(self) -> None:
        """Of the streams besides the trades; their children exist once a stream is recorded."""
        self.stream_received = self._counter(
            "ingest_stream_messages_received_total", "Messages received, duplicates included.", ("stream",)
        )
        self.stream_committed = self._counter(
            "ingest_stream_records_committed_total", "Records committed, breaks and snapshots included.", ("stream",)
        )
        self.stream_events = self._counter(
            "ingest_stream_events_total", "What was noticed about a stream, by kind of event.", ("stream", "event")
        )
        self.stream_subscribed = self._gauge("ingest_stream_subscribed", "Symbols received now.", ("stream",))
        self.stream_held = self._gauge(
            "ingest_stream_held", "Events in memory that wait for earlier ones or for a snapshot.", ("stream",)
        )
        self.stream_gaps_open = self._gauge(
            "ingest_stream_gaps_open", "Symbols whose next number is missing.", ("stream",)
        )
        self.stream_halted = self._gauge("ingest_stream_symbols_halted", "Symbols halted, as for trades.", ("stream",))
        self.stream_queued_bytes = self._gauge(
            "ingest_stream_queued_bytes", "Memory of quotes and book events on their way to Kafka."
        )
        self.books_in_sync = self._gauge(
            "ingest_books_in_sync", "Order books with a snapshot since their beginning or last break."
        )
        self.books_recorded = self._gauge("ingest_books_recorded", "Order books that are recorded.")

    def _process(self) -> None:
        self.build = Info("ingest_build", "Version and revision.", registry=self.registry)
        self.healthy = self._gauge("ingest_healthy", "1 while /health/ready answers 200.")
        self.loop_lag = self._gauge("ingest_event_loop_lag_seconds", "How late the event loop's last beat was.")
        self.tasks = self._gauge("ingest_tasks", "asyncio tasks alive.")
        self.descriptors = self._gauge("ingest_open_descriptors", "Open file descriptors.")
        self.heap = self._gauge("ingest_heap_objects", "Objects tracked by the garbage collector.")
        self.rss = self._gauge("process_memory_rss_bytes", "Resident memory.")
        self.vms = self._gauge("process_memory_vms_bytes", "Virtual memory.")
        self.leak_score = self._gauge("memory_leak_detection_score", "0 no trend, 0.5 about 10 MB/h, 1 about 50 MB/h.")
        self.observer_failures = self._counter(
            "ingest_observer_failures_total",
            "Failures of what only observes: it is logged once, and the recording goes on.",
            ("observer",),
            ("memory", "ready_file", "peers"),
        )
        self.log_events = self._counter(
            "ingest_log_events_total",
            "Log records by level.",
            ("level",),
            ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
        )


STREAM_EVENTS = (
    "rejected", "duplicate", "mismatch", "gap_found", "gap_filled", "backfilled", "shed", "void", "halt", "break",
    "snapshot", "snapshot_refused", "crossed", "one_sided", "overlapping", "disagreement",
)  # fmt: skip
"""Values of the label ``event`` of ``ingest_stream_events_total``."""
