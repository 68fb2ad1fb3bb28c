"""``.env.example``: every setting of the service, and every variable of the compose file, with its meaning."""

from ingest.settings import declared, default_text

_USER_FILE = "File with the password of Kafka's user {} (from outside of the stack); `make secrets` sets it."
COMPOSE = (
    ("K2_VERSION", "dev", "Tag of the images, and the version shown in /status."),
    ("K2_REVISION", "", "Source revision shown in /status, e.g. of `git rev-parse --short HEAD`."),
    ("COMPOSE_PROFILES", "", "Profiles to use without naming them: live, sim, monitoring, airflow, archive, ..."),
    ("K2_MEMORY_LIMIT", "512m", "Memory limit of a slot. Alerts speak at 400 and 450 MB."),
    ("K2_CONTROL_TOKEN_SOURCE", "./deploy/control-off", "File with the control API's token; `make secrets` sets it."),
    ("K2_SECRETS", "./secrets", "Folder of the other secrets; `make secrets` fills it."),
    ("KAFKA_WRITER_PASSWORD_SOURCE", "./deploy/kafka/access-off", _USER_FILE.format("writer: ingest and its topics")),
    ("KAFKA_AUDITOR_PASSWORD_SOURCE", "./deploy/kafka/access-off", _USER_FILE.format("auditor")),
    ("KAFKA_READER_PASSWORD_SOURCE", "./deploy/kafka/access-off", _USER_FILE.format("reader")),
    ("K2_GREEN_START_MODE", "auto", "Start mode of the second slot."),
    ("TOPIC_PARTITIONS", "6", "Partitions of the trades topic where it is created."),
    ("KAFKA_RETENTION_HOURS", "168", "How long Kafka keeps trades."),
    ("KAFKA_HEAP", "-Xms512m -Xmx512m", "Memory of Kafka's Java."),
    ("KAFKA_CLUSTER_ID", "k2IngestComposeCluster", "Identity of the cluster; fixed once it has data."),
    ("SIMULATOR_SYMBOLS", "10", "How many symbols the simulator trades, or which (A,B)."),
    ("SIMULATOR_RATE", "100", "Trades per second of all its symbols."),
    ("SIMULATOR_SEED", "1", "Of its market. Another one, or other symbols, need `down --volumes` first."),
    ("SIMULATOR_MEMORY_LIMIT", "1g", "Its ledger of trades takes most of it."),
    ("SIMULATED_TOPIC", "simulated.crypto.trades.binance", "Where its trades go: never among the exchange's."),
    ("FLEET_TOPIC", "fleet.crypto.trades.binance", "Topic of the profile fleet, which trades on the simulator, too."),
    ("FLEET_SHARDS", "6", "Shards of the profile fleet. Another number needs other topics."),
    ("FLEET_MEMORY_LIMIT", "1g", "Memory limit of each instance of the profile fleet, which may hold all shards."),
    ("AUDIT_SECONDS", "21600", "Between two audits against the exchange (profile audit)."),
    (
        "AUDIT_HOURS",
        "14",
        "How far back each of them looks; more than twice AUDIT_SECONDS, so that one which fails leaves no hole.",
    ),
    ("SIMULATED_AUDIT_SECONDS", "300", "Between two audits against the simulator (profile sim)."),
    (
        "AUDIT_COMMAND",
        "python /opt/audit_of_feed.py --newest-hours=26 --expect-to-head",
        "Auditor's command line for daily reports and soaks, without --json.",
    ),
    (
        "DEPLOY_AUDIT_COMMAND",
        "python /opt/audit_of_feed.py --newest-hours=2 --expect-to-head",
        "The same for deployments; the time must reach back to before the deployment's hand-over.",
    ),
    (
        "REPORT_EXCHANGE_URL",
        "",
        "Daily reports compare each symbol with the exchange's own count here, e.g. https://api.binance.com.",
    ),
    ("PROMETHEUS_PUBLIC_URL", "http://localhost:9090", "Where readers of reports find Prometheus, for links."),
    ("GRAFANA_PUBLIC_URL", "http://localhost:3000", "The same of Grafana."),
    ("PROMETHEUS_RETENTION", "30d", "How long Prometheus keeps samples; the weekly report needs 8 days."),
    ("K2_NOTIFY_URL", "", "Where Airflow POSTs messages: failures, questions to a person, late runs."),
    (
        "K2_ARCHIVE_WAREHOUSE",
        "/var/lib/k2-archive/warehouse",
        "Where the archive's tables are: a folder of the volume archive-data, or s3://bucket/prefix.",
    ),
    ("K2_ARCHIVE_CATALOG_OPTIONS", "", "Options of the archive's catalog, e.g. s3.endpoint=http://minio:9000."),
    ("K2_ARCHIVE_FILES_URL", "https://data.binance.vision", "The exchange's daily files; empty: no comparison."),
    ("K2_ARCHIVE_WORKERS", "1", "Threads that write a day's files; each takes about 250 MB."),
    ("AIRFLOW_KEEP_DAYS", "90", "How long Airflow keeps runs and logs; those of `reconcile` are kept for a day."),
    ("REPORTS_KEEP_DAYS", "365", "How long reports, audit trails, soak records and the journal are kept; at least 35."),
    ("DOCKER_GROUP", "0", "Group id that may use the Docker socket: the agent runs with it."),
    ("INGEST_PORT", "9095", "Published on 127.0.0.1: metrics, health and status of the blue slot."),
    ("INGEST_GREEN_PORT", "9195", "The same of the green slot."),
    ("FLEET_1_PORT", "9291", "The same of the first instance of the profile fleet."),
    ("FLEET_2_PORT", "9292", "The same of the second one."),
    ("FLEET_3_PORT", "9293", "The same of the third one."),
    ("KAFKA_PORT", "29092", "Kafka for clients on this machine, with a user and a password."),
    ("SCHEMA_REGISTRY_PORT", "8081", "Schema registry; its Confluent API is below /apis/ccompat/v7."),
    ("PROMETHEUS_PORT", "9090", "Prometheus."),
    ("ALERTMANAGER_PORT", "9093", "Alertmanager."),
    ("GRAFANA_PORT", "3000", "Grafana; user admin, password in secrets/grafana_password."),
    ("AIRFLOW_PORT", "8080", "Airflow; user admin, password in secrets/airflow_password."),
)
"""Name, default, meaning."""

BY_COMPOSE = frozenset(
    {
        "K2_CONTROL_HOST", "K2_CONTROL_TOKEN", "K2_INSTANCE_ID", "K2_METRICS_HOST", "K2_METRICS_PORT", "K2_SLOT",
        "K2_READY_FILE", "K2_VERSION", "K2_REVISION", "K2_START_MODE", "K2_PEERS",
    }
)  # fmt: skip
"""Settings that the compose file gives each slot itself."""

HEAD = """\
# Generated by deploy/generate.py. Copy to .env and uncomment what shall differ; the values are the defaults.
# Compose reads .env for the variables of docker-compose.yaml, and hands it to the service for its settings.
# Secrets do not belong here: `make secrets` makes files. For Kafka's own options see docs/reference/settings.md:
# K2_KAFKA_OPTION_SASL_PASSWORD_FILE=/run/secrets/... and so on.
"""


def example() -> str:
    """The file."""
    lines = [HEAD, "# --- compose ---"]
    lines += [f"\n# {meaning}\n# {name}={default}" for name, default, meaning in COMPOSE]
    for part, title in (("binance", "the exchange"), ("kafka", "Kafka"), ("service", "the process")):
        lines.append(f"\n# --- {title} ---")
        for setting in declared():
            if setting.part != part or setting.name in BY_COMPOSE:
                continue
            lines.append(f"\n# {setting.description} Allowed: {setting.allowed}.")
            lines.append(f"# {setting.name}{'_FILE' if setting.secret else ''}={default_text(setting)}")
    return "\n".join(lines) + "\n"
