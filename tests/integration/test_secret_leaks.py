"""Canaries in every secret setting, looked for in every way out of the real processes.

Which settings are secret is asked of their declarations, and of librdkafka's list of sensitive options. Secrets are
given as files: neither the arguments nor the environment of a process shows one.
"""

import base64
import json
import logging
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import KafkaException, Producer

from ingest.kafka import client
from ingest.logs import LineHandler, Redactor
from ingest.settings import declared, load, secrets, shown
from ingest.settings.display import SENSITIVE_OPTIONS
from tests.harness import loopback
from tests.harness.processes import ROOT, ServiceProcess, inherited
from tests.harness.registry import Registry
from tests.harness.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

LENGTH = 24
OPTION = "K2_KAFKA_OPTION_"
PLACES = (".location", ".file")
"""Options whose value is the name of a file, which is no secret."""


def canary(name: str) -> str:
    """A value that occurs nowhere else."""
    return f"canary{uuid4().hex[:LENGTH]}{name[-4:].lower()}"


class Planted:
    """Canaries by the name of their setting."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.values: dict[str, str] = {}

    def file(self, name: str, value: str) -> dict[str, str]:
        """The setting that names a file with the value."""
        path = self.folder / name.lower()
        path.write_text(value)
        return {f"{name}_FILE": str(path)}

    def settings(self) -> dict[str, str]:
        """Every setting that is declared secret, and the options with which a client of Kafka signs in."""
        found: dict[str, str] = {}
        for one in declared():
            if one.secret:
                self.values[one.name] = canary(one.name)
                address = f"http://proxyuser:{self.values[one.name]}@127.0.0.1:9"
                found |= self.file(one.name, address if one.field == "proxy" else self.values[one.name])
        for option in ("sasl.username", "sasl.password", "sasl.oauthbearer.client.secret", "ssl.key.password"):
            name = OPTION + option.upper().replace(".", "_")
            self.values[name] = canary(name)
            found |= self.file(name, self.values[name])
        return found

    def seen_in(self, place: str, text: str) -> list[str]:
        """Which canaries a text shows, as they are or in base64."""
        forms = {
            name: (value, base64.b64encode(value.encode()).decode().rstrip("=")) for name, value in self.values.items()
        }
        return [f"{name} in {place}" for name, (plain, coded) in forms.items() if plain in text or coded in text]


def fetched(url: str, token: str = "", method: str = "GET", body: bytes | None = None) -> str:
    """What an endpoint answers, headers and refusals included."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, data=body, method=method, headers=headers)  # noqa: S310 (loopback only)
    try:
        with loopback.urlopen(request, timeout=60) as answer:
            return f"{answer.headers}{answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.headers}{error.read().decode()}"


def ingest(environment: Mapping[str, str], *words: str) -> str:
    """Everything that a command says."""
    done = subprocess.run(
        [sys.executable, "-m", "ingest", *words], cwd=ROOT, env=inherited() | dict(environment), capture_output=True,
        text=True, check=False, timeout=300,
    )  # fmt: skip
    return done.stdout + done.stderr


def of_process(service: ServiceProcess) -> str:
    """What ``ps`` shows of a process: its arguments and its environment."""
    assert service.process is not None
    folder = Path(f"/proc/{service.process.pid}")
    return "".join((folder / name).read_bytes().decode(errors="replace") for name in ("cmdline", "environ"))


def test_no_secret_leaves_the_service_or_its_commands(kafka: str, tmp_path: Path) -> None:
    planted = Planted(tmp_path)
    own = planted.settings()
    talkative = {
        "K2_LOG_LEVEL": "DEBUG", f"{OPTION}DEBUG": "all", "NO_PROXY": "127.0.0.1",
        "K2_KAFKA_SCHEMA_REGISTRY_USER": "feed",
    }  # fmt: skip
    password = planted.values["K2_KAFKA_SCHEMA_REGISTRY_PASSWORD"]
    with (
        Registry(user="feed", password=password) as registry,
        Stack(
            tmp_path / "stack", bootstrap_servers=kafka, registry_url=registry.url, topic=f"t-{uuid4().hex[:8]}",
            simulator=("--symbols", "BTC/USDT"),
        ) as stack,
    ):  # fmt: skip
        settings = {**stack.settings(), **own, **talkative}
        settings.pop("K2_CONTROL_TOKEN")
        service = ServiceProcess(stack.directory, settings, instance="blue").start()
        try:
            stack.services["blue"] = service
            stack.wait(lambda: stack.writing() and service.healthy(), "a writer")
            found = planted.seen_in("arguments or environment", of_process(service))
            status, control = str(service.ready["metrics_url"]), service.control_url
            for path in ("/status", "/metrics", "/health/live", "/health/ready", "/nothing"):
                found += planted.seen_in(path, fetched(status + path))
            for token in (planted.values["K2_CONTROL_TOKEN"], planted.values["K2_CONTROL_READ_TOKEN"], "wrong", ""):
                for method, body in (("GET", None), ("POST", b"{{{")):
                    answer = fetched(f"{control}/control/status", token, method, body)
                    found += planted.seen_in(
                        "the control API", answer + fetched(f"{control}/control/promote", token, "POST", b"[")
                    )
            found += planted.seen_in("the ready file", service.ready_file.read_text())
        finally:
            service.terminate()
        # Troubles with each secret: wrong at the registry, at the proxy, and settings that are refused.
        refused = {**settings, **planted.file("K2_KAFKA_SCHEMA_REGISTRY_PASSWORD", f"{password}-wrong")}
        for environment, *words in (
            (settings, "check"),
            (settings, "check", "--connect"),
            (settings, "check", "--connect", "--json"),
            (refused, "check", "--connect"),
            (refused | {"K2_METRICS_PORT": "0"}, "run"),
            ({**settings, "NO_PROXY": ""}, "check", "--connect"),
            ({**settings, "K2_SHARD_INDEX": "7", "K2_BINANCE_PROXY_FILE": own["K2_CONTROL_TOKEN_FILE"]}, "check"),
            (settings, "positions", "show"),
        ):
            found += planted.seen_in(f"ingest {' '.join(words)}", ingest(environment, *words))
        log = service.log.read_text()
        found += planted.seen_in("the log", log)
    assert found == []
    assert '"level":"DEBUG"' in log
    assert "ingest.kafka.librdkafka" in log, "librdkafka's own debug lines are among it"


@pytest.mark.parametrize("option", sorted(one for one in SENSITIVE_OPTIONS if not one.endswith(PLACES)))
def test_no_sensitive_option_of_librdkafka_is_shown_or_logged(option: str) -> None:
    value = canary(option)
    environment = {OPTION + option.upper().replace(".", "_"): value, f"{OPTION}DEBUG": "all"}
    if option.startswith("sasl."):
        environment |= {f"{OPTION}SECURITY_PROTOCOL": "SASL_PLAINTEXT"}
    settings = load({"K2_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", **environment})
    assert value in secrets(settings)
    assert value not in json.dumps([*shown(settings)])
    written: list[str] = []

    class Stream:
        def write(self, text: str) -> None:
            written.append(text)

        def flush(self) -> None:
            pass

    handler = LineHandler(Stream(), Redactor(secrets(settings)), "json")  # type: ignore[arg-type]
    logger = logging.getLogger("ingest.kafka.librdkafka")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        producer = Producer(client.producer(settings, transactional=False))
        producer.poll(0.5)
        producer.purge()
    except KafkaException as error:
        logger.exception("Kafka client", exc_info=error)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert written
    assert value not in "".join(written)


def test_no_secret_of_a_deployment_leaves_its_commands(tmp_path: Path) -> None:
    planted = Planted(tmp_path)
    for name in ("K2_AGENT_TOKEN", "K2_CONTROL_TOKEN", "prometheus", "journal"):
        planted.values[name] = canary(name)
    files = planted.file("K2_AGENT_TOKEN", planted.values["K2_AGENT_TOKEN"])
    files |= planted.file("K2_CONTROL_TOKEN", planted.values["K2_CONTROL_TOKEN"])
    environment = {
        **files,
        "K2_DEPLOY_AGENT_URL": "http://127.0.0.1:9",
        "K2_DEPLOY_REPORTS": str(tmp_path / "reports"),
        "K2_DEPLOY_PROMETHEUS_URL": f"http://user:{planted.values['prometheus']}@127.0.0.1:9",
        "K2_DEPLOY_JOURNAL_URL": f"sqlite:///{tmp_path}/journal.db",
        "PYTHONPATH": "plugins",
    }
    broken = {"K2_DEPLOY_JOURNAL_URL": f"postgresql+psycopg2://k2:{planted.values['journal']}@127.0.0.1:9/none"}
    worse = {"K2_DEPLOY_PROMETHEUS_URL": f"htp://user:{planted.values['prometheus']}@["}
    found = []
    for changed, commands in (
        ({}, [("deploy", "v2"), ("roll-back",), ("validate",)]),
        (broken, [("deploy", "v2"), ("status",)]),
        (worse, [("deploy", "v2"), ("exporter",)]),
    ):
        for words in commands:
            done = subprocess.run(
                [sys.executable, "-m", "ingest_ops", *words], cwd=ROOT, env=inherited() | environment | changed,
                capture_output=True, text=True, check=False, timeout=300,
            )  # fmt: skip
            assert "Traceback" not in done.stderr, done.stderr
            found += planted.seen_in(f"ingest_ops {words[0]}", done.stdout + done.stderr)
    for path in (tmp_path / "reports").rglob("*"):
        if path.is_file():
            found += planted.seen_in(str(path.name), path.read_bytes().decode(errors="replace"))
    assert found == []
