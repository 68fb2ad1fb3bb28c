"""For each alert: series that make it fire, series that must not, and what it does otherwise.

From these ``test_rules.py`` also makes: the target is gone, the condition flaps, the process is restarted.

Series are promtool's: one value each 15 s (``step``), from the time 0 on; ``a+bxn`` is a, a+b, ... a+b*n: n+1 values.
"""

import math
from dataclasses import dataclass, replace

BLUE = 'job="ingest",instance="ingest-blue:9095",slot="blue"'
GREEN = 'job="ingest",instance="ingest-green:9095",slot="green"'
MB = 2**20


def series(metric: str, labels: str = BLUE, **more: str) -> str:
    """A series of the service's, with further labels."""
    return f"{metric}{{{labels}{''.join(f',{name}={value!r}' for name, value in more.items())}}}".replace("'", '"')


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is shown of one alert, judged at ``at``."""

    fires: dict[str, str]
    quiet: dict[str, str]
    at: str
    no_data_fires: bool = False
    """Whether the absence of all data is what it tells."""
    gone: tuple[str, ...] = ("IngestTargetAbsent",)
    """Alerts of which one must fire once the target does not answer any more, if this one does not go on itself."""
    flapping: dict[str, str] | None = None
    """The condition comes and goes; by default one sample of forty of the firing series is a good one."""
    flapping_at: str = ""
    """When that is judged, if not at ``at``."""
    flaps: bool = True
    """Whether it must go on firing while the condition flaps."""
    step: int = 15
    """Seconds between two values and two evaluations: windows of days are tried in longer slots."""


def _counter(metric: str, labels: str = BLUE, *, at: str = "16m", step: int = 1, **more: str) -> Case:
    """Fires on an increase within its window; not on a counter that stands still, whatever its value."""
    name = series(metric, labels, **more)
    return Case(fires={name: f"7+0x40 {7 + step}+0x80"}, quiet={name: "7+0x120"}, at=at)


def _fleet(name: str, shard: int | None = None, instance: str = "a") -> str:
    """A series of a fleet's supervisor."""
    of = "" if shard is None else f',shard="{shard}"'
    return f'ingest_fleet_{name}{{job="ingest-fleet",instance="{instance}",fleet="f"{of}}}'


AUDIT = 'job="audit",instance="auditor:9097"'
OPERATIONS = 'job="operations",instance="exporter:9098"'
AGENT = 'job="agent",instance="agent:9099"'
WATCHERS = ("MonitoringWatcherAbsent",)
AUDITOR = ("IngestAuditorAbsent",)
FOUND_AGAIN = "1 0 1 0 1x40"
"""Audits that find the same fault again after one that did not."""
VERDICT = f'ingest_audit_verdict{{{AUDIT},verdict="INCONCLUSIVE"}}'
REPORT = f'ingest_report_timestamp_seconds{{{OPERATIONS},folder="validation"}}'


def _gauge(
    metric: str,
    bad: float,
    good: float,
    labels: str = BLUE,
    *,
    at: str,
    gone: tuple[str, ...] = ("IngestTargetAbsent",),
    flapping: str = "",
    **more: str,
) -> Case:
    name = series(metric, labels, **more)
    return Case(
        fires={name: f"{bad}+0x400"},
        quiet={name: f"{good}+0x400"},
        at=at,
        gone=gone,
        flapping={name: flapping} if flapping else None,
    )


DOWN_FOR_95_PERCENT = " ".join(["0x18 1"] * 14)
"""285 s of each 300 s."""
AUDITED = f"ingest_audit_last_timestamp_seconds{{{AUDIT}}}"
COMMIT = series("ingest_last_commit_timestamp_seconds")
FRESH = series("ingest_data_fresh_timestamp_seconds")
CASES: dict[str, Case] = {
    "IngestNoWriter": Case(
        fires={series("ingest_writer_active"): "0x40", series("ingest_writer_active", GREEN): "0x40"},
        quiet={series("ingest_writer_active"): "0x10 1x30", series("ingest_writer_active", GREEN): "1x8 0x32"},
        at="5m",
    ),
    "IngestSplitBrain": Case(
        fires={series("ingest_writer_active"): "1x40", series("ingest_writer_active", GREEN): "1x40"},
        # A hand-over between two scrapes: both seem to write for 30 s.
        quiet={series("ingest_writer_active"): "1x10 0x30", series("ingest_writer_active", GREEN): "0x8 1x32"},
        at="3m",
    ),
    "IngestTargetAbsent": Case(
        fires={series("up"): "1x4 0x40", series("up", GREEN): "0x44"},
        quiet={series("up"): "1x44", series("up", GREEN): "0x44"},
        at="8m",
        no_data_fires=True,
        flapping={series("up"): f"1x4 {DOWN_FOR_95_PERCENT}", series("up", GREEN): "0x300"},
    ),
    "IngestCrashLoop": Case(
        fires={series("process_start_time_seconds"): "0x8 120 _ 150 _ 180 _ 210 _ 240 240x40"},
        quiet={series("process_start_time_seconds"): "0x20 300x20 600x40"},
        at="6m",
        flapping_at="35m",
        # Scrapes answer between the restarts, five minutes after each.
        flapping={series("process_start_time_seconds"): " ".join(f"{300 * n}x18 _" for n in range(8))},
    ),
    "IngestFleetShardUnwritten": Case(
        fires={_fleet("shards"): "2x40", _fleet("shard_writing", 0): "1x40", _fleet("shard_writing", 1): "0x40"},
        # A change from three shards to two; a move between two scrapes, and two instances, each with one of the shards.
        quiet={
            _fleet("shards"): "3x4 2x35",
            _fleet("shard_writing", 2): "1x4 stale",
            _fleet("shard_writing", 0): "1x40",
            _fleet("shard_writing", 1): "1x10 0x30",
            _fleet("shard_writing", 1, "b"): "0x11 1x29",
        },
        at="5m",
        gone=("IngestFleetShardUnwritten",),
        flapping={
            _fleet("shards"): "2x40",
            _fleet("shard_writing", 0): "1x40",
            _fleet("shard_writing", 1): "0x17 1 0x22",
        },
    ),
    "IngestSlotUnreachable": Case(
        fires={series("up"): "0x60", 'ingest_container_running{job="agent",instance="agent:9099",slot="blue"}': "1x60"},
        # Retired: nobody expects an answer.
        quiet={series("up"): "0x60", 'ingest_container_running{job="agent",instance="agent:9099",slot="blue"}': "0x60"},
        at="10m",
        gone=WATCHERS,
    ),
    "IngestDataOverdue": Case(
        fires={series("ingest_data_overdue_seconds"): "0x8 15+15x40", series("ingest_writer_active"): "1x60"},
        # A standby may be cut off from the exchange; and a reconnect takes seconds.
        quiet={
            series("ingest_data_overdue_seconds"): "0x8 15x2 0x60",
            series("ingest_writer_active"): "1x60",
            series("ingest_data_overdue_seconds", GREEN): "15+15x60",
            series("ingest_writer_active", GREEN): "0x60",
        },
        at="6m",
    ),
    "IngestNotReady": _gauge("ingest_healthy", 0, 1, at="10m"),
    "IngestDataLoss": _gauge("ingest_audit_missing_trades", 1, 0, AUDIT, at="1m", gone=AUDITOR, flapping=FOUND_AGAIN),
    "IngestDuplicate": _gauge(
        "ingest_audit_duplicated_trades", 1, 0, AUDIT, at="1m", gone=AUDITOR, flapping=FOUND_AGAIN
    ),
    "IngestAuditFault": _gauge("ingest_audit_other_faults", 1, 0, AUDIT, at="1m", gone=AUDITOR, flapping=FOUND_AGAIN),
    "IngestAuditorAbsent": Case(
        fires={f"up{{{AUDIT}}}": "1x8 0x60"},
        # Never there: a stack without an auditor.
        quiet={f"up{{{AUDIT}}}": "0x68"},
        at="12m",
        gone=AUDITOR,
        flapping={f"up{{{AUDIT}}}": f"1x8 {DOWN_FOR_95_PERCENT}"},
    ),
    "IngestAuditOverdue": Case(
        fires={f"up{{{AUDIT}}}": "1x7000", AUDITED: "100+0x7000"},
        # Not yet one verdict, 25 hours after the auditor was started.
        quiet={f"up{{{AUDIT}}}": "0x60 1x7000"},
        at="27h",
        step=120,
        gone=AUDITOR,
        # Its first audit ends after two minutes, is restarted then, and none ends any more.
        flapping={f"up{{{AUDIT}}}": "1x200 0 1x200 0 1x400", AUDITED: "120 stale"},
    ),
    "IngestAuditInconclusive": Case(
        fires={VERDICT: "1x3200"},
        # One that could judge, and an auditor that has been there for ten hours.
        quiet={
            VERDICT: "1x175 0x2 1x300",
            VERDICT.replace("INCONCLUSIVE", "PASS"): "0x175 1x2 0x300",
            VERDICT.replace("auditor", "other"): "_x89 1x400",
        },
        at="13h",
        step=120,
        # Restarts do not judge.
        flapping={VERDICT: "1x100 0 1x100 0 1x300"},
        gone=AUDITOR,
    ),
    "IngestFreshnessBurnFast": Case(
        fires={FRESH: "0+15x200 3000x40"},
        quiet={FRESH: "0+15x200 3000x2 3060+15x36"},  # 45 s in an hour
        at="60m",
    ),
    "IngestFreshnessBurnMedium": Case(
        fires={FRESH: "0+15x1400 stale"},  # it vanished: missing is bad
        quiet={FRESH: "0+15x1200 18000x20 18330+15x218"},  # five minutes, but not lately
        flapping={FRESH: "0+15x1400 stale _x16 21285 stale _x40"},
        at="6h",
    ),
    "IngestFreshnessBurnSlow": Case(
        fires={FRESH: "0+300x280 84000x10"},  # the last 40 minutes
        quiet={FRESH: "0+300x200 60000x2 61200+300x90"},  # a quarter of an hour, but not lately
        at="24h",
        step=300,
    ),
    "IngestFreshnessBurnDrip": Case(
        fires={FRESH: "0+300x850 255000x20"},  # the last hour and more
        quiet={FRESH: "0+300x600 180000x3 181500+300x270"},  # twenty minutes, but not lately
        at="72h",
        step=300,
    ),
    "BinanceMemoryCritical": _gauge("process_resident_memory_bytes", 451 * MB, 449 * MB, at="5m"),
    "BinanceMemoryHigh": _gauge("process_resident_memory_bytes", 401 * MB, 399 * MB, at="15m"),
    "BinanceMemoryLeakDetected": _gauge("memory_leak_detection_score", 0.81, 0.79, at="20m"),
    "BinanceMemoryTrend": Case(
        fires={
            series("process_resident_memory_bytes"): f"{100 * MB}+{100 * MB // 288}x600",
            series("process_start_time_seconds"): "0x600",
        },
        # A daily wave of 60 MB, and 25 MB a day.
        quiet={
            series("process_resident_memory_bytes"): " ".join(
                str(int((100 + 25 * n / 288 + 30 * math.sin(n * math.tau / 288)) * MB)) for n in range(600)
            ),
            series("process_start_time_seconds"): "0x600",
        },
        at="38h",
        step=300,
        # Memory that falls back to its level again and again is no leak.
        flaps=False,
    ),
    "BinanceRotationOverdue": _gauge("binance_connection_age_seconds", 14_900, 14_600, at="10m", connection="a"),
    "BinanceRotationFailing": _counter("binance_rotation_failures_total", step=5),
    "BinancePongStale": Case(
        fires={
            series("binance_last_pong_timestamp_seconds", connection="a"): "0x60",
            series("binance_connection_age_seconds", connection="a"): "0+15x60",
            series("binance_connection_status", connection="a"): "1x60",
        },
        quiet={
            # Gone: its last pong gets old for ever.
            series("binance_last_pong_timestamp_seconds", connection="a"): "0x60",
            series("binance_connection_age_seconds", connection="a"): "0x60",
            series("binance_connection_status", connection="a"): "0x60",
            # Just opened: nobody has asked it yet.
            series("binance_last_pong_timestamp_seconds", connection="b"): "0x60",
            series("binance_connection_age_seconds", connection="b"): "0x30 0+5x30",
            series("binance_connection_status", connection="b"): "1x60",
        },
        at="10m",
    ),
    "BinanceNoMessages": Case(
        fires={series("ingest_messages_received_total"): "0+600x40 24000+0x120"},
        quiet={series("ingest_messages_received_total"): "0+600x160"},
        at="25m",
        # A message each two minutes.
        flapping={
            series("ingest_messages_received_total"): "0+600x40 " + " ".join(f"{24000 + n}x7" for n in range(15))
        },
    ),
    "BinanceForcedReplacement": replace(
        _counter("binance_connection_rotations_total", step=5, reason="stalled"),
        # One for each of two reasons each twelve minutes.
        flapping={
            series("binance_connection_rotations_total", reason="stalled"): " ".join(f"{n}x47" for n in range(8)),
            series("binance_connection_rotations_total", reason="pong_timeout"): "0x23 "
            + " ".join(f"{n}x47" for n in range(1, 8)),
        },
        flapping_at="80m",
    ),
    "BinanceUnscheduledReconnect": _counter("binance_reconnects_total", reason="dns"),
    "BinanceRestRefused": _counter("binance_rest_requests_total", status="429"),
    "IngestGapOld": _gauge("ingest_gap_oldest_seconds", 901, 899, at="5m"),
    "IngestSymbolFrozen": _gauge("ingest_symbols_frozen", 1, 0, at="5m"),
    "IngestVoidRecorded": _counter("ingest_voids_total", reason="exchange_hole"),
    "IngestRejected": _counter("ingest_rejected_total", reason="bad_decimal"),
    "IngestDeadLettersDropped": _counter("ingest_dead_letters_dropped_total"),
    "IngestTradesShed": _counter("ingest_trades_shed_total"),
    "IngestStreamHalted": _gauge("ingest_stream_symbols_halted", 1, 0, at="5m", stream="depth"),
    "IngestBooksOutOfSync": Case(
        fires={
            series("ingest_books_recorded"): "20+0x400",
            series("ingest_books_in_sync"): "19+0x400",
            series("ingest_writer_active"): "1+0x400",
        },
        # All of the writer's are in sync; what a standby says of its own does not count.
        quiet={
            series("ingest_books_recorded"): "20+0x400",
            series("ingest_books_in_sync"): "20+0x400",
            series("ingest_writer_active"): "1+0x400",
            series("ingest_books_recorded", GREEN): "20+0x400",
            series("ingest_books_in_sync", GREEN): "0+0x400",
            series("ingest_writer_active", GREEN): "0+0x400",
        },
        at="35m",
        gone=("IngestTargetAbsent",),
    ),
    "IngestStreamShed": _counter("ingest_stream_events_total", stream="bookTicker", event="shed"),
    "IngestStreamDisagrees": _counter("ingest_stream_events_total", stream="aggTrade", event="disagreement"),
    "IngestTransactionsStalled": Case(
        fires={COMMIT: "0+15x20 300x20", series("ingest_writer_active"): "1x40"},
        # A standby commits nothing, and that is right.
        quiet={COMMIT: "0x40", series("ingest_writer_active"): "0x40"},
        at="8m",
    ),
    "IngestReadersBlocked": Case(
        fires={series("ingest_stable_offset_stuck_seconds", partition="trades-3"): "0+15x40"},
        # A transaction of a writer that died stays open until the broker gives it up.
        quiet={series("ingest_stable_offset_stuck_seconds", partition="trades-3"): "0 15 30 45 0x40"},
        at="5m",
    ),
    "IngestTopicLosesData": Case(
        fires={series("ingest_topic_problems", topic="trades", problem="cleanup.policy"): "_x4 2x40"},
        quiet={series("ingest_topic_problems", topic="trades.dlq", problem="cleanup.policy"): "1x40"},
        flapping={series("ingest_topic_problems", topic="trades", problem="cleanup.policy"): "2x18 0 2x40"},
        at="5m",
    ),
    "IngestTopicProblem": Case(
        fires={series("ingest_topic_problems", topic="trades.voids", problem="missing"): "1x60"},
        # It has the other one.
        quiet={series("ingest_topic_problems", topic="trades", problem="cleanup.policy"): "2x60"},
        flapping={series("ingest_topic_problems", topic="trades.voids", problem="missing"): "1x38 0 1x60"},
        at="10m",
    ),
    "IngestProducerErrors": Case(
        fires={series("ingest_producer_errors_total"): "0+1x80"},
        quiet={series("ingest_producer_errors_total"): "0x20 9x60"},  # a broker's restart
        at="15m",
    ),
    "IngestProducerRecycled": _counter("ingest_producer_recycles_total", reason="slow_commit", step=12),
    "IngestEventLoopSlow": _gauge("ingest_event_loop_lag_seconds", 1.5, 0.01, at="10m"),
    "IngestClockWrong": _gauge("ingest_clock_ahead_seconds", -7200, 4.9, at="10m"),
    "IngestErrorsLogged": _counter("ingest_log_events_total", level="ERROR"),
    "IngestDeploymentStuck": Case(
        fires={
            'ingest_deployment_updated_timestamp_seconds{job="operations",instance="exporter:9098"}': "0x300",
            'ingest_deployment_open{job="operations",instance="exporter:9098"}': "1x300",
            'ingest_deployment_state{job="operations",instance="exporter:9098",state="APPROVAL"}': "0x300",
        },
        # It waits for a person, which is allowed to take its time.
        quiet={
            'ingest_deployment_updated_timestamp_seconds{job="operations",instance="exporter:9098"}': "0x300",
            'ingest_deployment_open{job="operations",instance="exporter:9098"}': "1x300",
            'ingest_deployment_state{job="operations",instance="exporter:9098",state="APPROVAL"}': "1x300",
        },
        at="70m",
        gone=WATCHERS,
    ),
    "IngestDeploymentManual": _gauge(
        "ingest_deployment_state", 1, 0, OPERATIONS, at="1m", gone=WATCHERS, flapping="1 0 1 0 1x40", state="MANUAL"
    ),
    "IngestReportMissing": Case(
        fires={f"up{{{OPERATIONS}}}": "1x7000", REPORT: "0x7000"},
        quiet={f"up{{{OPERATIONS}}}": "1x7000", REPORT: "7200+0x7000"},
        at="27h",
        step=120,
        gone=WATCHERS,
        # The folder was emptied, the exporter restarted.
        flapping={f"up{{{OPERATIONS}}}": "1x200 0 1x200 0 1x400", REPORT: "0x20 stale"},
    ),
    "IngestArchiveDayNotCertified": _gauge(
        "ingest_archive_days_not_certified", 1, 0, OPERATIONS, at="1m", gone=WATCHERS, flapping="1 0 1 0 1x40"
    ),
    "MonitoringWatcherAbsent": Case(
        fires={f"up{{{AGENT}}}": "1x8 0x60"},
        quiet={f"up{{{AGENT}}}": "1x68", f"up{{{OPERATIONS}}}": "0x68"},
        at="12m",
        gone=WATCHERS,
        flapping={f"up{{{AGENT}}}": f"1x8 {DOWN_FOR_95_PERCENT}"},
    ),
    "MonitoringWatcherRestarts": Case(
        # An auditor that ends six minutes after each start.
        fires={f"process_start_time_seconds{{{AUDIT}}}": " ".join(f"{360 * n}x22 _" for n in range(12))},
        quiet={f"process_start_time_seconds{{{AUDIT}}}": "0x100 1500x100 3000x400"},
        at="60m",
        gone=AUDITOR,
    ),
    "MonitoringWatcherNeverSeen": Case(
        fires={f"up{{{AUDIT}}}": "0x400"},
        # Answered once: expected from then on, and another alert's business.
        quiet={f"up{{{AUDIT}}}": "0x20 1 0x380", f"up{{{OPERATIONS}}}": "1x400", f"up{{{AGENT}}}": "0x100 1x300"},
        at="70m",
        gone=WATCHERS,
        flapping={f"up{{{AUDIT}}}": "0x200 1 0x199"},
        flaps=False,
    ),
    "MonitoringRuleEvaluationFailed": _counter(
        "prometheus_rule_evaluation_failures_total", 'job="prometheus"', at="11m", rule_group="x"
    ),
    "MonitoringNotificationsFailing": Case(
        fires={'prometheus_notifications_errors_total{job="prometheus",alertmanager="x"}': "0+1x80"},
        quiet={'prometheus_notifications_errors_total{job="prometheus",alertmanager="x"}': "0x20 9x60"},
        at="15m",
    ),
    "Watchdog": Case(fires={}, quiet={}, at="1m", no_data_fires=True),
}
"""By name. Watchdog has no quiet case: it always fires."""
