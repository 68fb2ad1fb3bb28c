"""Every alert, declared once. Rules, dashboards and the list in docs/reference are made from here.

Severities: ``page`` needs an immediate response, ``ticket`` can wait for working hours, ``none`` is for machines. No
expression says ``or vector(0)``: missing data counts as bad (freshness) or fires an alert of its own
(``IngestTargetAbsent``, ``IngestAuditorAbsent``, ``MonitoringWatcherAbsent``). A condition that must last is a share of
a window, not a bare ``for``: one good sample must not reset it. ``tests/integration/deploy`` shows of each alert that
it fires, that it does not, and what it does if its target is gone, flaps, or is restarted.
"""

from dataclasses import dataclass
from itertools import pairwise

from deploy.records import BUDGET, JOB, WATCHERS

MIB = "1048576"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alert rule. ``hold`` is Prometheus's ``for``, ``keep`` its ``keep_firing_for``."""

    name: str
    group: str
    severity: str
    expr: str
    summary: str
    description: str
    hold: str = "0s"
    keep: str = "0s"

    @property
    def anchor(self) -> str:
        """Of its section in the runbook."""
        return self.name.lower()


def _burn(factor: float, long: str, short: str) -> str:
    limit = f"{factor * BUDGET:.4f}"
    return f"ingest:stale:ratio_{long} > {limit} and ingest:stale:ratio_{short} > {limit}"


def _more(metric: str, window: str, more_than: int = 0, by: str = "slot", matchers: str = "") -> str:
    selector = f"{{{JOB}{',' + matchers if matchers else ''}}}"
    return f"sum by ({by}) (increase({metric}{selector}[{window}])) > {more_than}"


def _share(condition: str, window: str, share: float) -> str:
    """The condition (0 or 1) held for more than this share of the window."""
    return f"avg_over_time(({condition})[{window}:15s]) > {share:g}"


def _covered(series: str, window: str) -> str:
    """Both halves of a window have samples, however many scrapes failed or however rare they are."""
    half = {"2m": "1m", "5m": "150s", "10m": "5m", "15m": "450s"}[window]
    return f"count_over_time({series}[{half}]) > 0 and count_over_time({series}[{half}] offset {half}) > 0"


def _mostly(series: str, window: str, more_than: str) -> str:
    """All but a fifth of the samples of a window lie above a limit, and both its halves have some."""
    return f"quantile_over_time(0.2, {series}[{window}]) > {more_than} and {_covered(series, window)}"


def _absent(job: str) -> str:
    """Expected targets of these jobs that do not answer."""
    answers = f"group by (job, instance) (up{{{job}}} == 1)"
    return f"ingest:expected_watcher:info{{{job}}} unless on (job, instance) {answers}"


def _each_hour(megabytes: int, hours: int = 4) -> str:
    """The low of a quarter of an hour rose by so much in each of so many hours."""
    lows = ["ingest:rss_min:15m", *(f"ingest:rss_min:15m offset {hour}h" for hour in range(1, hours + 1))]
    return " and ".join(f"{later} - {earlier} > {megabytes} * {MIB}" for later, earlier in pairwise(lows))


ALERTS = (
    # --- who writes ---
    Alert(
        name="IngestNoWriter",
        group="writer",
        severity="page",
        expr=_share(f"sum by (shard) (ingest_writer_active{{{JOB}}}) == bool 0", "2m", 0.6)
        + f" and sum by (shard) (count_over_time(ingest_writer_active{{{JOB}}}[2m])) >= 2",
        keep="2m",
        summary="No instance{{ with $labels.shard }} of shard {{ . }}{{ end }} writes",
        description="Instances answer, but none of them is the writer. Trades wait in memory and in REST history.",
    ),
    Alert(
        name="IngestSplitBrain",
        group="writer",
        severity="page",
        expr=_share(f"sum by (shard) (ingest_writer_active{{{JOB}}}) > bool 1", "2m", 0.6),
        keep="2m",
        summary="More than one instance reports itself as the writer",
        description="Kafka fences all but one, so nothing is written twice; one of them has not noticed it yet.",
    ),
    Alert(
        name="IngestTargetAbsent",
        group="writer",
        severity="page",
        # Each expected shard; and none at all, which has no shard.
        expr=f"ingest:expected_shard:info unless on (shard) (group by (shard) (up{{{JOB}}} == 1))"
        f" or on () absent(up{{{JOB}}} == 1)",
        hold="2m",
        keep="2m",
        summary="No instance{{ with $labels.shard }} of shard {{ . }}{{ end }} answers Prometheus",
        description="No slot of the shard could be scraped for two minutes: not running, hung, or cut off.",
    ),
    Alert(
        name="IngestCrashLoop",
        group="writer",
        severity="page",
        expr=f"changes(process_start_time_seconds{{{JOB}}}[10m]) >= 3",
        keep="5m",
        summary="{{ $labels.slot }} was restarted {{ $value }} times within ten minutes",
        description="The process ends soon after its start, again and again. Its log says why.",
    ),
    Alert(
        name="IngestSlotUnreachable",
        group="writer",
        severity="ticket",
        expr=f"avg_over_time(up{{{JOB}}}[5m]) < 0.2 and {_covered(f'up{{{JOB}}}', '5m')}"
        " and on (slot) ingest_container_running == 1",
        summary="Slot {{ $labels.slot }} runs but cannot be scraped",
        description="The deploy agent says that its container runs, Prometheus gets no answer from it.",
    ),
    Alert(
        name="IngestNotReady",
        group="writer",
        severity="ticket",
        expr=f"avg_over_time(ingest_healthy{{{JOB}}}[5m]) < 0.2 and {_covered(f'ingest_healthy{{{JOB}}}', '5m')}",
        summary="Slot {{ $labels.slot }} is not ready",
        description="Its /health/ready has answered 503 for most of five minutes.",
    ),
    Alert(
        name="IngestDataOverdue",
        group="writer",
        severity="page",
        expr=f"max by (shard, slot) (ingest_data_overdue_seconds{{{JOB}}}"
        f" and on (slot, instance) ingest_writer_active{{{JOB}}} == 1) > 60",
        # The gauge is a duration itself.
        keep="5m",
        summary="No trade has arrived at {{ $labels.slot }} for {{ $value | humanizeDuration }} though trades are due",
        description="No connection of a group is live, or connections are silent and trades are expected.",
    ),
    # --- nothing lost, nothing twice: by the independent auditor ---
    Alert(
        name="IngestDataLoss",
        group="audit",
        severity="page",
        # Neither an auditor that ends or starts again nor an audit of later hours resolves what was found.
        expr="ingest:audit_missing_trades:open > 0",
        summary="The audit misses {{ $value }} trades",
        description="Trades of the exchange are neither in the topic nor accounted for. The budget is zero.",
    ),
    Alert(
        name="IngestDuplicate",
        group="audit",
        severity="page",
        # Neither an auditor that ends or starts again nor an audit of later hours resolves what was found.
        expr="ingest:audit_duplicated_trades:open > 0",
        summary="The audit found {{ $value }} trades twice",
        description="Committed twice as a read_committed consumer sees it. The budget is zero.",
    ),
    Alert(
        name="IngestAuditFault",
        group="audit",
        severity="page",
        # Neither an auditor that ends or starts again nor an audit of later hours resolves what was found.
        expr="ingest:audit_other_faults:open > 0",
        summary="The audit found {{ $value }} altered or misplaced records",
        description="Altered, out of order, in a wrong partition, or recorded as void although the exchange has them.",
    ),
    Alert(
        name="IngestAuditorAbsent",
        group="audit",
        severity="page",
        expr=_absent('job="audit"'),
        hold="5m",
        keep="5m",
        summary="The auditor {{ $labels.instance }} does not answer",
        description="Losses and duplicates are not looked for while no auditor runs.",
    ),
    Alert(
        name="IngestAuditOverdue",
        group="audit",
        severity="ticket",
        expr="time() - ingest_audit_last_timestamp_seconds > 93600 and ingest_audit_last_timestamp_seconds > 0",
        summary="No audit could judge for {{ $value | humanizeDuration }}",
        description="The auditor runs but has not come to a verdict for more than 26 hours.",
    ),
    Alert(
        name="IngestAuditInconclusive",
        group="audit",
        severity="ticket",
        # One audit with a verdict ends it: that is no dip.
        expr='min_over_time(ingest_audit_verdict{verdict="INCONCLUSIVE"}[12h]) == 1'
        ' and count_over_time(ingest_audit_verdict{verdict="INCONCLUSIVE"}[1h] offset 11h) > 0',
        summary="Audits cannot judge",
        description="The last audits ended without a verdict; the log of the auditor says why.",
    ),
    # --- freshness: 99.9 % of slots, burnt at two speeds that wake and two that do not ---
    Alert(
        name="IngestFreshnessBurnFast",
        group="freshness",
        severity="page",
        expr=_burn(14.4, "1h", "5m"),
        summary="{{ $value | humanizePercentage }} of the last hour was stale",
        description="At this speed (14.4 times) the budget of 30 days is gone in two days.",
    ),
    Alert(
        name="IngestFreshnessBurnMedium",
        group="freshness",
        severity="page",
        expr=_burn(6, "6h", "30m"),
        summary="{{ $value | humanizePercentage }} of the last six hours was stale",
        description="At this speed (6 times) the budget of 30 days is gone in five days.",
    ),
    Alert(
        name="IngestFreshnessBurnSlow",
        group="freshness",
        severity="ticket",
        expr=_burn(3, "1d", "2h"),
        summary="{{ $value | humanizePercentage }} of the last day was stale",
        description="At this speed (3 times) the budget of 30 days is gone in ten days.",
    ),
    Alert(
        name="IngestFreshnessBurnDrip",
        group="freshness",
        severity="ticket",
        expr=_burn(1, "3d", "6h"),
        summary="{{ $value | humanizePercentage }} of the last three days was stale",
        description="The budget of 30 days is being used up as fast as it grows.",
    ),
    # --- memory ---
    Alert(
        name="BinanceMemoryCritical",
        group="memory",
        severity="page",
        expr=_mostly(f"process_resident_memory_bytes{{{JOB}}}", "2m", f"450 * {MIB}"),
        keep="5m",
        summary="{{ $labels.slot }} uses {{ $value | humanize1024 }}B",
        description="More than 450 MB. At the container's limit (512 MB) the kernel kills it.",
    ),
    Alert(
        name="BinanceMemoryHigh",
        group="memory",
        severity="ticket",
        expr=_mostly(f"process_resident_memory_bytes{{{JOB}}}", "10m", f"400 * {MIB}"),
        keep="10m",
        summary="{{ $labels.slot }} uses {{ $value | humanize1024 }}B",
        description="More than 400 MB of resident memory for most of ten minutes.",
    ),
    Alert(
        name="BinanceMemoryLeakDetected",
        group="memory",
        severity="ticket",
        # A leak in large steps does not look steady within an hour: growth in each of four hours is found, too.
        expr=f"({_mostly(f'memory_leak_detection_score{{{JOB}}}', '15m', '0.8')}) or on (slot, instance) "
        f"({_each_hour(25)})",
        keep="15m",
        summary="Memory of {{ $labels.slot }} grows like a leak",
        description="The score of the last hour is above 0.8, or the memory grew by 25 MB in each of four hours.",
    ),
    Alert(
        name="BinanceMemoryTrend",
        group="memory",
        severity="ticket",
        # The same hours of two days: a daily wave is compared with itself.
        expr="ingest:rss_min:6h - ingest:rss_min:6h offset 1d > 50 * "
        + f"{MIB} and on (slot, instance) time() - process_start_time_seconds{{{JOB}}} > 111600",
        hold="30m",
        keep="1h",
        summary="Memory of {{ $labels.slot }} has grown by {{ $value | humanize1024 }}B in a day",
        description="The low of six hours lies more than 50 MB above that of the same hours a day before.",
    ),
    # --- the exchange's side ---
    Alert(
        name="BinanceRotationOverdue",
        group="exchange",
        severity="ticket",
        expr=f"max by (slot) (binance_connection_age_seconds{{{JOB}}}) > 14520",
        hold="5m",
        keep="5m",
        summary="A connection of {{ $labels.slot }} is {{ $value | humanizeDuration }} old",
        description="It should have been replaced after four hours. The exchange cuts it after 24.",
    ),
    Alert(
        name="BinanceRotationFailing",
        group="exchange",
        severity="ticket",
        expr=_more("binance_rotation_failures_total", "1h", 3),
        summary="{{ $value | humanize }} rotations of {{ $labels.slot }} failed within an hour",
        description="The successor of a connection does not open; the old one is kept and goes on.",
    ),
    Alert(
        name="BinancePongStale",
        group="exchange",
        severity="ticket",
        # A connection that has just been opened has had no pong yet: its timestamp is 0.
        expr=f"time() - binance_last_pong_timestamp_seconds{{{JOB}}} > 210"
        f" and on (slot, instance, connection) binance_connection_age_seconds{{{JOB}}} > 210"
        f" and on (slot, instance, connection) binance_connection_status{{{JOB}}} == 1",
        hold="1m",
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
        expr=_more("binance_connection_rotations_total", "15m", 3, "slot, reason", 'reason=~"stalled|pong_timeout"'),
        keep="15m",
        summary="{{ $labels.slot }}: {{ $value | humanize }} connections replaced ({{ $labels.reason }})",
        description="Connections that stalled or did not answer pings were replaced again and again within 15 minutes.",
    ),
    Alert(
        name="BinanceUnscheduledReconnect",
        group="exchange",
        severity="ticket",
        expr=_more("binance_reconnects_total", "15m", by="slot, reason"),
        summary="{{ $labels.slot }}: connections ended or did not open ({{ $labels.reason }})",
        description="Not asked for by us. Trades of the pause are back-filled; the reason tells where to look.",
    ),
    Alert(
        name="BinanceRestRefused",
        group="exchange",
        severity="ticket",
        expr=_more("binance_rest_requests_total", "15m", by="slot, status", matchers='status=~"403|418|429"'),
        summary="REST answers {{ $labels.status }} to {{ $labels.slot }}",
        description="Too much weight, a ban, or a region that is not served. Back-filling waits; the stream goes on.",
    ),
    # --- completeness, as the service itself sees it ---
    Alert(
        name="IngestGapOld",
        group="completeness",
        severity="ticket",
        expr=f"ingest_gap_oldest_seconds{{{JOB}}} > 900",
        hold="1m",
        keep="5m",
        summary="A hole of {{ $labels.slot }} is open for {{ $value | humanizeDuration }}",
        description="Neither filled from REST nor shown to be a void (which takes ten minutes). Its symbol waits.",
    ),
    Alert(
        name="IngestSymbolFrozen",
        group="completeness",
        severity="page",
        expr=f"ingest_symbols_frozen{{{JOB}}} > 0",
        hold="1m",
        keep="5m",
        summary="{{ $value }} symbols of {{ $labels.slot }} are frozen",
        description="Nothing of them is written until history confirms their ids or an operator decides; see /status.",
    ),
    Alert(
        name="IngestVoidRecorded",
        group="completeness",
        severity="ticket",
        expr=_more("ingest_voids_total", "1h", by="slot, reason", matchers='reason!="operator"'),
        summary="Ids were recorded as void ({{ $labels.reason }})",
        description="The exchange does not have them, or they cannot be written. Rare: worth a look at each.",
    ),
    Alert(
        name="IngestRejected",
        group="completeness",
        severity="ticket",
        expr=_more("ingest_rejected_total", "15m", by="slot, reason"),
        summary="Messages were rejected ({{ $labels.reason }})",
        description="Their bytes are in the dead-letter topic. A new reason usually means a change of the exchange's.",
    ),
    Alert(
        name="IngestDeadLettersDropped",
        group="completeness",
        severity="ticket",
        expr=_more("ingest_dead_letters_dropped_total", "15m"),
        summary="{{ $labels.slot }} dropped dead letters",
        description="More than the bound for a minute: evidence is lost, trades are not.",
    ),
    Alert(
        name="IngestTradesShed",
        group="completeness",
        severity="ticket",
        expr=_more("ingest_trades_shed_total", "10m"),
        summary="{{ $labels.slot }} drops live trades to keep its memory bounded",
        description="They are read again from REST by their ids once Kafka takes data. Kafka is slow or away.",
    ),
    # --- Kafka's side ---
    Alert(
        name="IngestTransactionsStalled",
        group="kafka",
        severity="ticket",
        expr=f"(timestamp(ingest_last_commit_timestamp_seconds{{{JOB}}})"
        f" - ingest_last_commit_timestamp_seconds{{{JOB}}}) > 30"
        f" and on (slot, instance) ingest_writer_active{{{JOB}}} == 1",
        hold="30s",
        keep="5m",
        summary="{{ $labels.slot }} has committed nothing for {{ $value | humanizeDuration }}",
        description="Even an empty market commits a heartbeat each second: Kafka does not take transactions.",
    ),
    Alert(
        name="IngestReadersBlocked",
        group="kafka",
        severity="page",
        expr=f"max by (shard, slot, partition) (ingest_stable_offset_stuck_seconds{{{JOB}}}) > 60",
        hold="30s",
        keep="5m",
        summary="Readers of committed records stand still in {{ $labels.partition }}",
        description="The last stable offset has not moved for {{ $value | humanizeDuration }} though there is more"
        " behind it: a transaction hangs. The writer commits on and does not feel it.",
    ),
    Alert(
        name="IngestTopicLosesData",
        group="kafka",
        severity="page",
        expr=f"max by (slot, topic, problem) (ingest_topic_problems{{{JOB}}}) > 1",
        hold="30s",
        keep="5m",
        summary="Topic {{ $labels.topic }} loses data: {{ $labels.problem }}",
        description="Another program or person has changed, deleted or created the topic; the log names the command"
        " that corrects it.",
    ),
    Alert(
        name="IngestTopicProblem",
        group="kafka",
        severity="ticket",
        expr=f"max by (slot, topic, problem) (ingest_topic_problems{{{JOB}}}) == 1",
        hold="5m",
        keep="5m",
        summary="Topic {{ $labels.topic }} is not as it should be: {{ $labels.problem }}",
        description="Trades are not in danger; the log says what is, and which command corrects it.",
    ),
    Alert(
        name="IngestProducerErrors",
        group="kafka",
        severity="ticket",
        expr=_more("ingest_producer_errors_total", "5m"),
        hold="5m",
        summary="The producer of {{ $labels.slot }} keeps meeting errors",
        description="Errors in every five minutes for five minutes: more than a broker's restart.",
    ),
    Alert(
        name="IngestProducerRecycled",
        group="kafka",
        severity="ticket",
        expr=_more("ingest_producer_recycles_total", "1h", 10),
        summary="{{ $labels.slot }} replaced its producer {{ $value | humanize }} times within an hour",
        description="Slow or unknown commits. Each costs about a tenth of a second; so many mean a slow broker.",
    ),
    # --- the process ---
    Alert(
        name="IngestEventLoopSlow",
        group="process",
        severity="ticket",
        expr=_mostly(f"ingest_event_loop_lag_seconds{{{JOB}}}", "5m", "1"),
        keep="5m",
        summary="The event loop of {{ $labels.slot }} is {{ $value | humanizeDuration }} late",
        description="The machine is overloaded, or something blocks the loop.",
    ),
    Alert(
        name="IngestErrorsLogged",
        group="process",
        severity="ticket",
        expr=_more("ingest_log_events_total", "15m", by="slot, level", matchers='level=~"ERROR|CRITICAL"'),
        summary="{{ $labels.slot }} logged {{ $value | humanize }} times {{ $labels.level }}",
        description="What can be handled is logged as a warning: an error wants to be read.",
    ),
    # --- operations ---
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
        expr='time() - ingest_report_timestamp_seconds{folder="validation"} > 93600',
        keep="5m",
        summary="The last daily report is {{ $value | humanizeDuration }} old",
        description="The daily validation has not written its report for more than 26 hours.",
    ),
    # --- what monitors ---
    Alert(
        name="MonitoringWatcherAbsent",
        group="monitoring",
        severity="ticket",
        expr=_absent('job=~"agent|operations|alertmanager"'),
        hold="5m",
        keep="5m",
        summary="{{ $labels.job }} ({{ $labels.instance }}) does not answer",
        description="It has answered before and is still configured. Alerts that read its metrics are blind meanwhile.",
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
        expr="sum by (alertmanager) (increase(prometheus_notifications_errors_total[5m])) > 0",
        hold="5m",
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
