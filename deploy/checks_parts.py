"""Alerts about the parts: the process, the exchange, Kafka, deployments, and what monitors."""

from deploy.alert_model import MIB, Alert, absent_targets, counted, each_hour, grew, mostly, mostly_true, overdue
from deploy.records import JOB, WATCHERS

MEMORY = (
    Alert(
        name="BinanceMemoryCritical",
        group="memory",
        severity="page",
        expr=mostly(f"process_resident_memory_bytes{{{JOB}}}", "2m", f"450 * {MIB}"),
        keep="5m",
        summary="{{ $labels.slot }} uses {{ $value | humanize1024 }}B",
        description="More than 450 MB. At the container's limit (512 MB) the kernel kills it.",
    ),
    Alert(
        name="BinanceMemoryHigh",
        group="memory",
        severity="ticket",
        expr=mostly(f"process_resident_memory_bytes{{{JOB}}}", "10m", f"400 * {MIB}"),
        keep="10m",
        summary="{{ $labels.slot }} uses {{ $value | humanize1024 }}B",
        description="More than 400 MB of resident memory for most of ten minutes.",
    ),
    Alert(
        name="BinanceMemoryLeakDetected",
        group="memory",
        severity="ticket",
        # A leak in large steps does not look steady within an hour: growth in each of four hours is found, too.
        expr=f"({mostly(f'memory_leak_detection_score{{{JOB}}}', '15m', '0.8')}) or on (slot, instance) "
        f"({each_hour(25)})",
        keep="15m",
        summary="Memory of {{ $labels.slot }} grows like a leak",
        description="The score of the last hour is above 0.8, or the memory grew by 25 MB in each of four hours.",
    ),
    Alert(
        name="BinanceMemoryTrend",
        group="memory",
        severity="ticket",
        # The same hours of two days: a daily wave is compared with itself.
        expr="ingest:rss_min:6h - ingest:rss_min:6h offset 1d > 50 * " + f"{MIB} and on (slot, instance)"
        # A scrape that fails takes nothing away: all three look at windows.
        f" time() - max_over_time(process_start_time_seconds{{{JOB}}}[10m]) > 113400",
        keep="1h",
        summary="Memory of {{ $labels.slot }} has grown by {{ $value | humanize1024 }}B in a day",
        description="The low of six hours lies more than 50 MB above that of the same hours a day before.",
    ),
)
"""Memory."""

EXCHANGE = (
    Alert(
        name="BinanceRotationOverdue",
        group="exchange",
        severity="ticket",
        # The gauge is a duration itself.
        expr=f"max by (slot) (binance_connection_age_seconds{{{JOB}}}) > 14820",
        keep="5m",
        summary="A connection of {{ $labels.slot }} is {{ $value | humanizeDuration }} old",
        description="It should have been replaced after four hours. The exchange cuts it after 24.",
    ),
    Alert(
        name="BinanceRotationFailing",
        group="exchange",
        severity="ticket",
        expr=grew("binance_rotation_failures_total", "1h", 3),
        summary="{{ $value | humanize }} rotations of {{ $labels.slot }} failed within an hour",
        description="The successor of a connection does not open; the old one is kept and goes on.",
    ),
    Alert(
        name="BinancePongStale",
        group="exchange",
        severity="ticket",
        # A connection that has just been opened has had no pong yet: its timestamp is 0.
        expr=f"time() - binance_last_pong_timestamp_seconds{{{JOB}}} > 270"
        f" and on (slot, instance, connection) binance_connection_age_seconds{{{JOB}}} > 270"
        f" and on (slot, instance, connection) binance_connection_status{{{JOB}}} == 1",
        keep="5m",
        summary="{{ $labels.connection }} of {{ $labels.slot }}: no pong for {{ $value | humanizeDuration }}",
        description="We ping every 180 s and wait 10 s: a live connection without a pong for longer is not asked.",
    ),
    Alert(
        name="BinanceNoMessages",
        group="exchange",
        severity="page",
        expr=f"sum by (shard) (increase(ingest_messages_received_total{{{JOB}}}[10m])) < 10"
        f" and sum by (shard) (count_over_time(ingest_messages_received_total{{{JOB}}}[10m])) >= 8"
        f" and sum by (shard) (increase(ingest_messages_received_total{{{JOB}}}[1d])) > 10000",
        keep="5m",
        summary="Hardly a message{{ with $labels.shard }} of shard {{ . }}{{ end }} in ten minutes",
        description="The last day had more than 10,000. Connections may be open and heartbeats committed meanwhile.",
    ),
    Alert(
        name="BinanceForcedReplacement",
        group="exchange",
        severity="ticket",
        # All reasons together, and a slow drip as well as a burst.
        expr=" or ".join(
            grew("binance_connection_rotations_total", window, more, "slot", 'reason=~"stalled|pong_timeout"')
            for window, more in (("15m", 3), ("1h", 5))
        ),
        keep="15m",
        summary="{{ $labels.slot }}: {{ $value | humanize }} connections replaced",
        description="Connections that stalled or did not answer pings were replaced again and again: more than three"
        " within 15 minutes, or more than five within an hour.",
    ),
    Alert(
        name="BinanceUnscheduledReconnect",
        group="exchange",
        severity="ticket",
        expr=grew("binance_reconnects_total", "15m", by="slot, reason"),
        summary="{{ $labels.slot }}: connections ended or did not open ({{ $labels.reason }})",
        description="Not asked for by us. Trades of the pause are back-filled; the reason tells where to look.",
    ),
    Alert(
        name="BinanceRestRefused",
        group="exchange",
        severity="ticket",
        expr=grew("binance_rest_requests_total", "15m", by="slot, status", matchers='status=~"403|418|429"'),
        summary="REST answers {{ $labels.status }} to {{ $labels.slot }}",
        description="Too much weight, a ban, or a region that is not served. Back-filling waits; the stream goes on.",
    ),
)
"""The exchange's side."""

KAFKA = (
    Alert(
        name="IngestTransactionsStalled",
        group="kafka",
        severity="ticket",
        expr=f"(timestamp(ingest_last_commit_timestamp_seconds{{{JOB}}})"
        f" - ingest_last_commit_timestamp_seconds{{{JOB}}}) > 60"
        f" and on (slot, instance) ingest_writer_active{{{JOB}}} == 1",
        keep="5m",
        summary="{{ $labels.slot }} has committed nothing for {{ $value | humanizeDuration }}",
        description="Even an empty market commits a heartbeat each second: Kafka does not take transactions.",
    ),
    Alert(
        name="IngestReadersBlocked",
        group="kafka",
        severity="page",
        expr=f"max by (shard, slot, partition) (ingest_stable_offset_stuck_seconds{{{JOB}}}) > 90",
        keep="5m",
        summary="Readers of committed records stand still in {{ $labels.partition }}",
        description="The last stable offset has not moved for {{ $value | humanizeDuration }} though there is more"
        " behind it: a transaction hangs. The writer commits on and does not feel it.",
    ),
    Alert(
        name="IngestTopicLosesData",
        group="kafka",
        severity="page",
        expr=mostly_true(f"max by (slot, topic, problem) (ingest_topic_problems{{{JOB}}}) > bool 1", "1m", 0.6),
        keep="5m",
        summary="Topic {{ $labels.topic }} loses data: {{ $labels.problem }}",
        description="Another program or person has changed, deleted or created the topic; the log names the command"
        " that corrects it.",
    ),
    Alert(
        name="IngestTopicProblem",
        group="kafka",
        severity="ticket",
        expr=counted(f"max by (slot, topic, problem) (ingest_topic_problems{{{JOB}}}) == 1", 5),
        keep="5m",
        summary="Topic {{ $labels.topic }} is not as it should be: {{ $labels.problem }}",
        description="Trades are not in danger; the log says what is, and which command corrects it.",
    ),
    Alert(
        name="IngestProducerErrors",
        group="kafka",
        severity="ticket",
        expr=grew("ingest_producer_errors_total", "5m")
        + f" and sum by (slot) (increase(ingest_producer_errors_total{{{JOB}}}[5m] offset 5m)) > 0",
        summary="The producer of {{ $labels.slot }} keeps meeting errors",
        description="Errors in each of two times five minutes: more than a broker's restart.",
    ),
    Alert(
        name="IngestProducerRecycled",
        group="kafka",
        severity="ticket",
        expr=grew("ingest_producer_recycles_total", "1h", 10),
        summary="{{ $labels.slot }} replaced its producer {{ $value | humanize }} times within an hour",
        description="Slow or unknown commits. Each costs about a tenth of a second; so many mean a slow broker.",
    ),
)
"""Kafka's side."""

PROCESS = (
    Alert(
        name="IngestEventLoopSlow",
        group="process",
        severity="ticket",
        expr=mostly(f"ingest_event_loop_lag_seconds{{{JOB}}}", "5m", "1"),
        keep="5m",
        summary="The event loop of {{ $labels.slot }} is {{ $value | humanizeDuration }} late",
        description="The machine is overloaded, or something blocks the loop.",
    ),
    Alert(
        name="IngestClockWrong",
        group="process",
        severity="ticket",
        expr=counted(f"abs(ingest_clock_ahead_seconds{{{JOB}}}) > 5", 5),
        keep="5m",
        summary="The clock of {{ $labels.slot }} is wrong by more than five seconds",
        description="Records carry a wrong time of ingestion. Trades are complete.",
    ),
    Alert(
        name="IngestErrorsLogged",
        group="process",
        severity="ticket",
        expr=grew("ingest_log_events_total", "15m", by="slot, level", matchers='level=~"ERROR|CRITICAL"'),
        summary="{{ $labels.slot }} logged {{ $value | humanize }} times {{ $labels.level }}",
        description="What can be handled is logged as a warning: an error wants to be read.",
    ),
)
"""The process."""

OPERATIONS = (
    Alert(
        name="IngestDeploymentStuck",
        group="operations",
        severity="ticket",
        expr="time() - ingest_deployment_updated_timestamp_seconds > 3600 and on () ingest_deployment_open == 1"
        ' unless on () ingest_deployment_state{state="APPROVAL"} == 1',
        keep="5m",
        summary="A deployment has made no progress for {{ $value | humanizeDuration }}",
        description="It is open, waits for no approval, and its journal has not changed for an hour.",
    ),
    Alert(
        name="IngestDeploymentManual",
        group="operations",
        severity="page",
        expr='ingest_deployment_state{state="MANUAL"} == 1',
        summary="A deployment could go neither on nor back",
        description="A person must look which slot writes and decide.",
    ),
    Alert(
        name="IngestReportMissing",
        group="operations",
        severity="ticket",
        expr=overdue("operations", 'ingest_report_timestamp_seconds{folder="validation"}'),
        keep="5m",
        summary="No daily report for 26 hours",
        description="The daily validation has not written its report for more than 26 hours: never, not lately, or"
        " the folder of reports is empty.",
    ),
    Alert(
        name="IngestArchiveDayNotCertified",
        group="operations",
        severity="ticket",
        expr="ingest_archive_days_not_certified > 0",
        keep="5m",
        summary="{{ $value }} days of the archive are not certified",
        description="Twelve hours after their end in UTC they have no certificate with PASS: the DAG daily_archive"
        " does not run, or a day is FAIL or INCONCLUSIVE.",
    ),
)
"""Deployments, reports and the archive."""

MONITORING = (
    Alert(
        name="MonitoringWatcherAbsent",
        group="monitoring",
        severity="ticket",
        expr=absent_targets('job=~"agent|operations|alertmanager"', 5),
        keep="5m",
        summary="{{ $labels.job }} ({{ $labels.instance }}) does not answer",
        description="It has answered before and is still configured. Alerts that read its metrics are blind meanwhile.",
    ),
    Alert(
        name="MonitoringWatcherRestarts",
        group="monitoring",
        severity="ticket",
        expr=f'changes(process_start_time_seconds{{job=~"{WATCHERS}"}}[1h]) >= 5',
        keep="15m",
        summary="{{ $labels.job }} ({{ $labels.instance }}) was restarted {{ $value }} times within an hour",
        description="It answers between its restarts and does hardly any work: an audit that is restarted each few"
        " minutes never ends.",
    ),
    Alert(
        name="MonitoringWatcherNeverSeen",
        group="monitoring",
        severity="ticket",
        # What is configured is expected: a stack without one of them takes it out of prometheus.yaml.
        expr=f'max_over_time(up{{job=~"{WATCHERS}"}}[1h]) == 0'
        f' and count_over_time(up{{job=~"{WATCHERS}"}}[5m] offset 50m) > 0'
        " unless on (job, instance) ingest:expected_watcher:info",
        keep="15m",
        summary="{{ $labels.job }} ({{ $labels.instance }}) is configured and has never answered",
        description="What it watches is not watched: losses by the auditor, pages by Alertmanager. Start it, or take"
        " its target out of prometheus.yaml.",
    ),
    Alert(
        name="MonitoringRuleEvaluationFailed",
        group="monitoring",
        severity="ticket",
        expr="sum by (rule_group) (increase(prometheus_rule_evaluation_failures_total[5m])) > 0",
        summary="Rules of {{ $labels.rule_group }} could not be evaluated",
        description="Alerts of that group may stay silent.",
    ),
    Alert(
        name="MonitoringNotificationsFailing",
        group="monitoring",
        severity="ticket",
        expr="sum by (alertmanager) (increase(prometheus_notifications_errors_total[5m])) > 0"
        " and sum by (alertmanager) (increase(prometheus_notifications_errors_total[5m] offset 5m)) > 0",
        summary="Prometheus cannot reach {{ $labels.alertmanager }}",
        description="Alerts fire but are not delivered.",
    ),
    Alert(
        name="Watchdog",
        group="monitoring",
        severity="none",
        expr="vector(1)",
        summary="Alerting works",
        description="Fires always. Its receiver raises the alarm when it stops.",
    ),
)
"""What monitors."""
