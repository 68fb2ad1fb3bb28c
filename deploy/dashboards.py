"""The two dashboards: what is asked and how it is called."""

from deploy.dashboards_streams import OTHER_STREAMS, SLOT
from deploy.grafana_model import Dashboard, Panel
from deploy.records import FRESH_SECONDS


def _quantile(q: float, histogram: str) -> str:
    return f"histogram_quantile({q}, sum by (slot, le) (rate({histogram}_bucket{{{SLOT}}}[5m])))"


FEED = Dashboard(
    "k2-feed",
    "K2 Ingest: feed",
    (
        (
            "Now",
            (
                Panel(
                    title="Age of the last commit",
                    queries=(("max(ingest:commit_age:seconds)", "age"),),
                    description="As of the last scrape. An empty market commits a heartbeat each second.",
                    unit="s",
                    kind="stat",
                    width=4,
                    limit=FRESH_SECONDS,
                ),
                Panel(
                    title="Writers",
                    queries=(('sum(ingest_writer_active{job="ingest"})', "writers"),),
                    description="One, always.",
                    kind="stat",
                    width=4,
                ),
                Panel(
                    title="Trades committed",
                    queries=(("sum(ingest:trades_committed:rate1m)", "trades/s"),),
                    description="Per second over the last minute.",
                    unit="cps",
                    kind="stat",
                    width=4,
                ),
                Panel(
                    title="Open holes",
                    queries=((f"sum(ingest_gaps_open{{{SLOT}}})", "holes"),),
                    description="Missing ids that are being fetched from REST.",
                    kind="stat",
                    width=4,
                ),
                Panel(
                    title="Freshness budget left",
                    queries=(("1 - avg_over_time(ingest:stale:bool[30d]) / 0.001", "left"),),
                    description="Of 43 minutes in 30 days (99.9 %). Below zero: overdrawn.",
                    unit="percentunit",
                    kind="stat",
                    width=4,
                    limit=0,
                ),
                Panel(
                    title="Alerts firing",
                    queries=(
                        ('count(ALERTS{alertstate="firing",severity=~"page|ticket"}) or on() vector(0)', "alerts"),
                    ),
                    description="Pages and tickets.",
                    kind="stat",
                    width=4,
                    limit=1,
                ),
            ),
        ),
        (
            "Trades",
            (
                Panel(
                    title="Rate by symbol",
                    queries=((f"sum by (symbol) (rate(ingest_trades_committed_total{{{SLOT}}}[1m]))", "{{symbol}}"),),
                    description="Trades committed per second; symbols beyond the bound are `other`.",
                    unit="cps",
                ),
                Panel(
                    title="Received and committed",
                    queries=(
                        ("ingest:messages_received:rate1m", "received {{slot}}"),
                        ("ingest:trades_committed:rate1m", "committed {{slot}}"),
                    ),
                    description="A standby receives and commits nothing.",
                    unit="cps",
                ),
                Panel(
                    title="Exchange to commit",
                    queries=(
                        ("ingest:exchange_to_commit:p50", "p50 {{slot}}"),
                        ("ingest:exchange_to_commit:p95", "p95 {{slot}}"),
                        ("ingest:exchange_to_commit:p99", "p99 {{slot}}"),
                    ),
                    description="Of the oldest trade of each transaction, from its time at the exchange.",
                    unit="s",
                ),
                Panel(
                    title="Freshness",
                    queries=(
                        ("max(ingest:commit_age:seconds)", "age of the last commit"),
                        ("ingest:stale:ratio_1h * 100", "stale slots of the last hour, %"),
                    ),
                    description="A slot is stale if the last commit was older than ten seconds, or unknown.",
                    limit=FRESH_SECONDS,
                ),
                Panel(
                    title="Holes",
                    queries=(
                        (f"ingest_gaps_open{{{SLOT}}}", "open {{slot}}"),
                        (f"rate(ingest_gaps_found_total{{{SLOT}}}[5m]) * 60", "found a minute {{slot}}"),
                        (f"rate(ingest_gaps_filled_total{{{SLOT}}}[5m]) * 60", "filled a minute {{slot}}"),
                    ),
                    description="Missing trade ids: found, and closed from REST or by a late arrival.",
                ),
                Panel(
                    title="Age of the oldest hole",
                    queries=((f"ingest_gap_oldest_seconds{{{SLOT}}}", "{{slot}}"),),
                    description="A void is recorded after ten minutes of evidence.",
                    unit="s",
                    limit=900,
                ),
            ),
        ),
        OTHER_STREAMS,
        (
            "Connections",
            (
                Panel(
                    title="Age of connections",
                    queries=((f"binance_connection_age_seconds{{{SLOT}}}", "{{slot}} {{connection}}"),),
                    description="Replaced after four hours, make before break.",
                    unit="s",
                    limit=14_520,
                ),
                Panel(
                    title="Rotations",
                    queries=(
                        (
                            f"sum by (slot, reason) (increase(binance_connection_rotations_total{{{SLOT}}}[1h]))",
                            "{{slot}} {{reason}}",
                        ),
                    ),
                    description="Within the last hour, by reason.",
                ),
                Panel(
                    title="Unscheduled ends",
                    queries=(
                        (
                            f"sum by (slot, reason) (increase(binance_reconnects_total{{{SLOT}}}[1h]))",
                            "{{slot}} {{reason}}",
                        ),
                    ),
                    description="Within the last hour, by reason.",
                ),
                Panel(
                    title="Age of the last pong",
                    queries=(
                        (f"time() - (binance_last_pong_timestamp_seconds{{{SLOT}}} > 0)", "{{slot}} {{connection}}"),
                    ),
                    description="We ping every 180 s.",
                    unit="s",
                    limit=210,
                    quiet="no ping has been answered in the first three minutes",
                ),
                Panel(
                    title="REST",
                    queries=(
                        (
                            f"sum by (slot, status) (rate(binance_rest_requests_total{{{SLOT}}}[5m]))",
                            "{{slot}} {{status}}",
                        ),
                    ),
                    description="History requests per second, by answer.",
                    unit="reqps",
                ),
                Panel(
                    title="REST weight",
                    queries=(
                        (f"binance_rest_weight_used{{{SLOT}}}", "used {{slot}}"),
                        (f"binance_rest_weight_limit{{{SLOT}}}", "own limit {{slot}}"),
                    ),
                    description="Of this minute, as the exchange counts.",
                ),
            ),
        ),
        (
            "Commits",
            (
                Panel(
                    title="Commits",
                    queries=(
                        (f"rate(ingest_commits_total{{{SLOT}}}[1m])", "committed {{slot}}"),
                        (f"rate(ingest_aborts_total{{{SLOT}}}[1m])", "aborted {{slot}}"),
                    ),
                    description="Transactions per second.",
                    unit="ops",
                ),
                Panel(
                    title="Duration of a commit",
                    queries=(
                        (_quantile(0.5, "ingest_commit_seconds"), "p50 {{slot}}"),
                        (_quantile(0.99, "ingest_commit_seconds"), "p99 {{slot}}"),
                    ),
                    description="Above 300 ms the producer is recycled.",
                    unit="s",
                    limit=0.3,
                ),
                Panel(
                    title="Waiting in memory",
                    queries=(
                        (f"ingest_buffered_trades{{{SLOT}}}", "buffered {{slot}}"),
                        (f"ingest_held_trades{{{SLOT}}}", "behind a hole {{slot}}"),
                        (f"ingest_producer_queue_messages{{{SLOT}}}", "in the producer {{slot}}"),
                    ),
                    description="Bounded: beyond it live trades are shed and read again later.",
                ),
                Panel(
                    title="Producers replaced",
                    queries=(
                        (
                            f"sum by (slot, reason) (increase(ingest_producer_recycles_total{{{SLOT}}}[1h]))",
                            "{{slot}} {{reason}}",
                        ),
                    ),
                    description="Within the last hour, by reason.",
                ),
                Panel(
                    title="Memory",
                    queries=(
                        (f"process_resident_memory_bytes{{{SLOT}}}", "{{slot}}"),
                        ("ingest:rss_min:15m", "lows of 15 minutes {{slot}}"),
                    ),
                    description="Resident. The lows show a trend that a garbage collector's saw-tooth hides.",
                    unit="bytes",
                    limit=400 * 2**20,
                ),
                Panel(
                    title="Memory trend",
                    queries=(
                        ("deriv(ingest:rss_min:15m[6h]) * 86400", "bytes a day {{slot}}"),
                        (f"memory_leak_detection_score{{{SLOT}}}", "leak score {{slot}}"),
                    ),
                    description="Means something six hours after the start; a warm-up looks like growth.",
                    unit="bytes",
                    limit=50 * 2**20,
                ),
            ),
        ),
    ),
)

NO_AIRFLOW = "there is nothing without the profile airflow"

OPERATIONS = Dashboard(
    "k2-operations",
    "K2 Ingest: operations",
    (
        (
            "Slots",
            (
                Panel(
                    title="Role",
                    queries=((f"ingest_role{{{SLOT}}} == 1", "{{slot}} {{role}}"),),
                    description="What each instance is at present.",
                ),
                Panel(
                    title="Ready",
                    queries=((f"ingest_healthy{{{SLOT}}}", "{{slot}}"),),
                    description="1 while /health/ready answers 200.",
                ),
                Panel(
                    title="Generation",
                    queries=((f"ingest_generation{{{SLOT}}}", "{{slot}}"),),
                    description="Rises with each hand-over.",
                ),
                Panel(
                    title="Versions",
                    queries=((f"ingest_build_info{{{SLOT}}}", "{{slot}} {{version}} {{revision}}"),),
                    description="What runs where.",
                ),
                Panel(
                    title="Take-overs",
                    queries=(
                        (f"ingest_handover_seconds{{{SLOT}}}", "duration {{slot}}"),
                        (f"ingest_handover_gap_seconds{{{SLOT}}}", "visible gap {{slot}}"),
                    ),
                    description="Of the last take-over by each instance.",
                    unit="s",
                    limit=10,
                ),
                Panel(
                    title="Shadow comparison",
                    queries=(
                        (f"ingest_shadow_compared_total{{{SLOT}}}", "compared {{slot}}"),
                        (f"ingest_shadow_mismatch_total{{{SLOT}}}", "different {{slot}}"),
                    ),
                    description="Records of a candidate held against the writer's.",
                ),
            ),
        ),
        (
            "Verdicts",
            (
                Panel(
                    title="Audit",
                    queries=(
                        ("ingest_audit_missing_trades", "missing"),
                        ("ingest_audit_duplicated_trades", "twice"),
                        ("ingest_audit_other_faults", "other faults"),
                    ),
                    description="By the independent auditor, over the whole topic.",
                    limit=1,
                    quiet="no auditor runs without the profile audit or sim",
                ),
                Panel(
                    title="Verified trades",
                    queries=(("ingest_audit_verified_trades", "verified"),),
                    description="Held one by one against the exchange's own books.",
                    quiet="no auditor runs without the profile audit or sim",
                ),
                Panel(
                    title="Verdict of the newest report",
                    queries=(("ingest_report_verdict == 1", "{{folder}}: {{verdict}}"),),
                    description="Validation, soak, deployments, chaos and others.",
                    quiet=NO_AIRFLOW,
                ),
                Panel(
                    title="Age of the newest report",
                    queries=(("time() - ingest_report_timestamp_seconds", "{{folder}}"),),
                    description="The daily validation is late after 26 hours.",
                    unit="s",
                    limit=93_600,
                    quiet=NO_AIRFLOW,
                ),
                Panel(
                    title="Deployment",
                    queries=(("ingest_deployment_state == 1", "{{state}}"),),
                    description="State of the newest deployment.",
                    quiet=NO_AIRFLOW,
                ),
                Panel(
                    title="Containers",
                    queries=(
                        ("ingest_container_running", "running {{slot}}"),
                        ("ingest_container_restarts", "restarts {{slot}}"),
                    ),
                    description="As the deploy agent sees them.",
                    quiet=NO_AIRFLOW,
                ),
            ),
        ),
        (
            "Process",
            (
                Panel(
                    title="CPU",
                    queries=((f"rate(process_cpu_seconds_total{{{SLOT}}}[5m])", "{{slot}}"),),
                    description="Cores used.",
                ),
                Panel(
                    title="Event loop",
                    queries=((f"ingest_event_loop_lag_seconds{{{SLOT}}}", "{{slot}}"),),
                    description="How late the loop's beat was.",
                    unit="s",
                    limit=1,
                ),
                Panel(
                    title="Log records",
                    queries=(
                        (
                            f'sum by (slot, level) (increase(ingest_log_events_total{{{SLOT},level!="DEBUG"}}[5m]))',
                            "{{slot}} {{level}}",
                        ),
                    ),
                    description="Within five minutes, by level.",
                ),
            ),
        ),
    ),
)

DASHBOARDS = (FEED, OPERATIONS)
