"""What must hold of the running stack. Each check returns one line for the log, or raises ``Failed``."""

import json
from itertools import chain, combinations, islice
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from deploy.checks import ALERTS
from deploy.dashboards import DASHBOARDS
from deploy.records import RECORDS
from ingest.reader import ReaderError, Trade, read
from tests.campaigns.stack.compose import PROFILES, VERSION, Failed, Project
from tests.campaigns.stack.stand_ins import named, run

IMAGE = f"k2-ingest:{VERSION}"
MB = 10**6
OURS = ("ingest-sim", "simulator", "sim-auditor", "alert-log")
HARMLESS = {
    "IngestTransactionsStalled", "IngestNoWriter", "IngestFreshnessBurnFast", "IngestFreshnessBurnMedium",
    "IngestFreshnessBurnSlow", "IngestFreshnessBurnDrip",
    "IngestProducerErrors", "IngestProducerRecycled", "IngestNotReady", "IngestAuditInconclusive", "Watchdog",
}  # fmt: skip
"""What may fire because Kafka is away for a minute or two. Anything else means that something else is wrong."""


def must(condition: object, otherwise: str) -> None:
    """Raise ``Failed``."""
    if not condition:
        raise Failed(otherwise)


def image() -> str:
    """Small, without root, without what builds or downloads."""
    sizes = [int(run("docker", "image", "inspect", "-f", "{{.Size}}", name)) for name in (IMAGE, named()["python"])]
    added = (sizes[0] - sizes[1]) / MB
    must(added < 200, f"the image has {added:.0f} MB over its base")
    config = json.loads(run("docker", "image", "inspect", IMAGE))[0]["Config"]
    must(config["User"] == "10001:10001", f"user {config['User']!r}")
    must(config["StopSignal"] == "SIGTERM", "no stop signal")
    must(config["Labels"]["org.opencontainers.image.version"] == VERSION, "no version among the labels")
    hardened = ("docker", "run", "--rm", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
    tools = "import shutil; print([t for t in ('gcc', 'cc', 'curl', 'wget', 'pip', 'git', 'make') if shutil.which(t)])"
    found = run(*hardened, "--network=none", "--entrypoint=python", IMAGE, "-c", tools).strip()
    # pip is part of the official Python image; it cannot be reached from our environment's interpreter.
    must(found in ("[]", "['pip']"), f"in the image: {found}")
    has_pip = "import importlib.util as u; print(u.find_spec('pip'))"
    must(run(*hardened, "--entrypoint=python", IMAGE, "-c", has_pip).strip() == "None", "pip can be imported")
    return f"{added:.0f} MB over its base, user {config['User']}, tools {found}"


def profiles(project: Project) -> str:
    """Every combination of profiles is a valid file."""
    chosen = list(chain.from_iterable(combinations(PROFILES, size) for size in range(len(PROFILES) + 1)))
    for some in chosen:
        project.compose("config", "--quiet", profiles=some)
    return f"{len(chosen)} combinations of {len(PROFILES)} profiles are valid"


def hardening(project: Project) -> str:
    """Every container of ours runs without capabilities, privileges, or a root file system that can be written."""
    for service in OURS:
        host = project.inspect(service)["HostConfig"]
        must(host["ReadonlyRootfs"], f"{service}: root file system can be written")
        must(host["Memory"] and host["PidsLimit"], f"{service}: no limits")
        _, status = project.execute(service, "cat", "/proc/1/status")
        lines = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        must(int(lines["CapEff"], 16) == int(lines["CapBnd"], 16) == 0, f"{service}: capabilities {lines['CapEff']}")
        must(lines["NoNewPrivs"] == "1", f"{service}: may gain privileges")
        must("0" not in lines["Uid"].split(), f"{service}: runs as root")
        code, _ = project.execute(service, "python", "-c", "open('/opt/x', 'w')")
        must(code != 0, f"{service}: could write to /opt")
    for service, container in project.states().items():
        for published in container.get("Publishers") or []:
            must(published["URL"] in ("127.0.0.1", ""), f"{service} is published on {published['URL']}")
    return (
        f"{', '.join(OURS)}: no capabilities, no new privileges, read-only, limited, not root; ports on loopback only"
    )


def prometheus(project: Project) -> str:
    """Targets are scraped, rules loaded and evaluated without error."""
    targets = json.loads(project.fetch("PROMETHEUS_PORT", "/api/v1/targets"))["data"]["activeTargets"]
    up = {(t["labels"]["job"], t["labels"].get("slot", "")) for t in targets if t["health"] == "up"}
    for wanted in (("ingest", "blue"), ("audit", ""), ("prometheus", ""), ("alertmanager", "")):
        must(wanted in up, f"{wanted} is not scraped: {sorted(up)}")
    groups = json.loads(project.fetch("PROMETHEUS_PORT", "/api/v1/rules"))["data"]["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    wanted_names = {alert.name for alert in ALERTS} | {record.name for record in RECORDS}
    must(wanted_names == set(rules), f"rules differ: {sorted(wanted_names ^ set(rules))}")
    broken = {name: rule["lastError"] for name, rule in rules.items() if rule["health"] != "ok"}
    must(not broken, f"rules do not work: {broken}")
    return f"{len(up)} targets up, {len(rules)} rules evaluated"


def dashboards(project: Project) -> str:
    """Every query of every panel has data, but for those that say why not."""
    empty = []
    count = 0
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            for query, _ in panel.queries:
                count += 1
                if not project.query(query.replace("$slot", ".*")) and not panel.quiet:
                    empty.append(f"{dashboard.title}: {panel.title}: {query}")
    must(not empty, "empty panels:\n" + "\n".join(empty))
    return f"{count} queries of {sum(len(list(d.panels)) for d in DASHBOARDS)} panels, none empty"


def audit(project: Project) -> str:
    """The topic holds every trade exactly once."""
    report = project.compose(
        "run", "--rm", "--no-deps", "-T", "sim-auditor", "audit", "--bootstrap-servers=kafka:9092",
        "--schema-registry-url=http://schema-registry:8080/apis/ccompat/v7",
        "--topic=simulated.crypto.trades.binance", "--ledger=http://simulator:9444",
    )  # fmt: skip
    must("PASS" in report.splitlines()[-1], report)
    return report.splitlines()[-1]


def outside(project: Project) -> str:
    """From this machine Kafka asks for a password; the reader reads committed trades, and cannot write."""
    address, topic = f"127.0.0.1:{project.ports['KAFKA_PORT']}", "simulated.crypto.trades.binance"
    registry = f"http://127.0.0.1:{project.ports['SCHEMA_REGISTRY_PORT']}/apis/ccompat/v7"
    options = {
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "reader",
        "sasl.password": project.secret("kafka_reader_password"),
    }  # fmt: skip
    found = read(topic, bootstrap_servers=address, schema_registry_url=registry, options=options, timeout=30.0)
    trades = sum(isinstance(one, Trade) for one in islice(found, 100))
    must(trades > 0, "the reader read no trade")
    for given in ({}, options | {"sasl.password": "wrong"}):
        try:
            list(islice(read(topic, bootstrap_servers=address, schema_registry_url=registry, options=given), 1))
        except ReaderError:
            continue
        must(condition=False, otherwise="Kafka let a client in without the right password")
    denied: list[str] = []
    producer = Producer({"bootstrap.servers": address, "log_level": 0, **options})
    producer.produce(f"{topic}.positions", b"junk", b"junk", on_delivery=lambda error, _: denied.append(str(error)))
    producer.flush(30)
    must("authoriz" in "".join(denied).lower(), f"the reader wrote to the positions topic: {denied}")
    return f"{address}: {trades} trades as user reader, none without a password, no right to write"


def secrets(project: Project, slot: str = "INGEST_PORT") -> str:
    """No secret in any log, metric, status or file of reports. ``slot``: the port of the slot that runs."""
    texts = {"logs": project.compose("logs", "--no-color")}
    for name, port, path in (
        ("metrics", slot, "/metrics"),
        ("status", slot, "/status"),
        ("Prometheus", "PROMETHEUS_PORT", "/metrics"),
        ("targets", "PROMETHEUS_PORT", "/api/v1/targets"),
    ):
        texts[name] = project.fetch(port, path)
    known = project.secrets()
    if "airflow-scheduler" in project.states():
        # Reports, the journal, the logs of every task; 1 is grep's word for nothing found.
        patterns = [part for one in known for part in ("-e", one)]
        code, files = project.execute("airflow-scheduler", "grep", "-rlaF", *patterns, "/var/lib/k2")
        must(code == 1, f"secrets in Airflow's files: {files}")
    found = [name for name, text in texts.items() if any(one in text for one in known)]
    must(not found, f"secrets in {', '.join(found)}")
    return f"none of {len(known)} secrets in {sum(map(len, texts.values())):,} characters of logs, metrics and status"


OWN_PASSWORD = ("postgres", "grafana")
"""Their images put their own password into their environment, which its user and root can read."""


def processes(project: Project) -> str:
    """What `ps` shows of every process of the stack has no secret, and none of them can leave a core dump."""
    known = [one.encode() for one in project.secrets()]
    count = 0
    for service, container in project.states().items():
        if container["State"] != "running":
            continue
        for pid in run("docker", "top", container["ID"], "-eo", "pid").split()[1:]:
            folder = Path("/proc") / pid
            try:
                shown = (folder / "cmdline").read_bytes()
                if service not in OWN_PASSWORD:
                    shown += (folder / "environ").read_bytes()
                limits = (folder / "limits").read_text()
            except (FileNotFoundError, ProcessLookupError):  # a health check that is over
                continue
            must(not any(one in shown for one in known), f"{service}: a secret in arguments or environment")
            soft, hard = next(line.split()[4:6] for line in limits.splitlines() if line.startswith("Max core file"))
            must((soft, hard) == ("1", "1"), f"{service}: core dumps of {soft} and {hard} bytes")
            count += 1
    return f"{count} processes: no secret in arguments or environment, no core dumps"


STAY = ("ingest-sim", "simulator")
"""What an upgrade leaves alone: the live slot, and the exchange, whose market would be another one."""


def before_upgrade(project: Project) -> dict[str, dict[str, Any]]:
    """The containers that an upgrade leaves alone."""
    return {name: project.inspect(name) for name in STAY}


def upgraded(project: Project, before: dict[str, dict[str, Any]]) -> str:
    """These containers are those of before, and never stopped; all else is of the new version."""
    for name, old in before.items():
        now = project.inspect(name)
        same = ("Id", "Image", "RestartCount")
        must([now[key] for key in same] == [old[key] for key in same], f"{name} was made anew")
        must(now["State"]["StartedAt"] == old["State"]["StartedAt"], f"{name} was started anew")
    renewed = {name for name in ("sim-auditor", "alert-log") if _tag(project.inspect(name)) == VERSION}
    must(len(renewed) == 2, f"of the new version are {sorted(renewed)} alone")
    slot, exchange = (_tag(before[name]) for name in STAY)
    return f"the live slot and the exchange go on as {slot} and {exchange}; {', '.join(sorted(renewed))} are {VERSION}"


def _tag(container: dict[str, Any]) -> str:
    return str(container["Config"]["Image"].rpartition(":")[2])
