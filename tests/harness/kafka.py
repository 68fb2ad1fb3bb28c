"""The real Apache Kafka (KRaft) on loopback, started with Java from jars that Maven fetches once.

Knows nothing of pytest. In the foreground: ``make kafka`` (``tests.harness.kafka_foreground``).
"""

import atexit
import base64
import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.harness import kafka_classes
from tests.harness.jars import Jars, Unavailable

ROOT = Path(__file__).resolve().parents[2]
POM = Path(__file__).with_name("kafka-pom.xml")
SUMS = Path(__file__).with_name("kafka-jars.sha256")
"""Of the release that the POM names; those of another release are noted when it is fetched."""


def stated_version() -> str:
    """The release that the POM names."""
    found = re.search(r"<kafka\.version>([^<]+)<", POM.read_text())
    assert found is not None
    return found[1]


VERSION = os.environ.get("K2_TEST_KAFKA_VERSION") or stated_version()
"""The release under test: that of the POM, or any other that Maven Central has (``make kafka-release``)."""
CACHE = Path(os.environ.get("K2_TEST_KAFKA_JARS", ROOT / ".cache" / f"kafka-{VERSION}"))
"""One folder for each release: a broker that runs keeps its jars."""
START_SECONDS = 240.0
"""Patience: a few seconds on a machine with nothing else to do."""


class KafkaUnavailable(Exception):
    """The real Kafka cannot run here; the text says what to install."""


def java() -> str:
    """Path of Java. Raises ``KafkaUnavailable``."""
    found = shutil.which("java")
    if found is None:
        raise KafkaUnavailable("no java: install a Java 17 runtime (Debian: apt-get install default-jre-headless)")
    return found


@cache
def jars() -> Path:
    """Folder of Kafka's jars, fetched by Maven on first use. Raises ``KafkaUnavailable``."""
    stated = stated_version() == VERSION
    wanted = Jars(f"Kafka {VERSION}'s jars", POM, CACHE, {"kafka.version": VERSION}, SUMS if stated else None)
    try:
        return wanted.fetched()
    except Unavailable as error:
        raise KafkaUnavailable(str(error)) from error


def free_ports(number: int) -> list[int]:
    """Loopback ports that were free a moment ago, and that the kernel gives to nobody who does not ask for them."""
    with contextlib.ExitStack() as stack:
        found: list[int] = []
        while len(found) < number:
            port = _random.randrange(*_OUR_PORTS)
            one = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # somebody has it
                one.bind(("127.0.0.1", port))
                if port not in _given:
                    found.append(port)
        _given.update(found)
        return found


def _our_ports() -> tuple[int, int]:
    """Below the ports that the kernel chooses for connections: one of those is soon taken between choice and use."""
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        lowest = 32_768
    return (10_000, lowest) if lowest >= 12_000 else (61_000, 65_535)


_OUR_PORTS = _our_ports()
_random = random.SystemRandom()
_given: set[int] = set()


def new_cluster_id(draw: Callable[[], uuid.UUID] = uuid.uuid4) -> str:
    """A cluster's id as Kafka writes it; never with a hyphen first, which its tool would take for an option."""
    while (made := base64.urlsafe_b64encode(draw().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return made


class KafkaBroker:
    """One node, broker and controller in one. Ports and data survive ``stop`` and ``kill``."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        port: int | None = None,
        node_id: int = 1,
        voters: Mapping[int, int] | None = None,
        cluster_id: str | None = None,
        replication: int = 1,
        properties: Mapping[str, str] | None = None,
        proxied: int | None = None,
        heap: str = "512m",
        jvm: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        log_levels: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory if directory is not None else Path(tempfile.mkdtemp(prefix="k2-kafka-"))
        self._temporary = directory is None
        self.directory.mkdir(parents=True, exist_ok=True)
        self.node_id = node_id
        ports = free_ports(2)
        self.port = port if port is not None else ports[0]
        self._voters = dict(voters or {node_id: ports[1]})
        self._cluster_id = cluster_id or new_cluster_id()
        self._replication = replication
        self._properties = dict(properties or {})
        self.proxied_port = free_ports(1)[0] if proxied is not None else None
        """Behind a proxy on port ``proxied``: whoever connects there is told to come back there."""
        if proxied is not None:
            self._properties = {**self._listeners(proxied), **self._properties}
        self._heap = heap
        self._jvm = jvm
        self._log_levels = dict(log_levels or {})
        self._environment = {**os.environ, **(environment or {})}
        self.log = self.directory / "kafka.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._formatted = False
        atexit.register(self._at_exit)

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    def _listeners(self, proxied: int) -> dict[str, str]:
        own, controller = f"PLAINTEXT://127.0.0.1:{self.port}", f"127.0.0.1:{self._voters[self.node_id]}"
        return {
            "listeners": f"{own},PROXIED://127.0.0.1:{self.proxied_port},CONTROLLER://{controller}",
            "advertised.listeners": f"{own},PROXIED://127.0.0.1:{proxied}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT",
        }

    def _configuration(self) -> dict[str, str]:
        few = str(self._replication)
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.node_id),
            "controller.quorum.voters": ",".join(f"{n}@127.0.0.1:{p}" for n, p in self._voters.items()),
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self._voters[self.node_id]}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self.directory / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": few,
            "offsets.topic.num.partitions": "3",
            "transaction.state.log.replication.factor": few,
            "transaction.state.log.min.isr": str(max(1, self._replication - 1)),
            "transaction.state.log.num.partitions": "3",
            "group.initial.rebalance.delay.ms": "0",
            # A killed node registers again only after it; on a busy machine a shorter one takes living nodes for dead.
            "broker.session.timeout.ms": "6000",
            "broker.heartbeat.interval.ms": "500",
            "log.cleaner.dedupe.buffer.size": "4194304",
            **self._properties,
        }

    def _java(self, main: str, *arguments: str, jvm: Sequence[str] = ()) -> list[str]:
        return [
            java(), f"-Xmx{self._heap}", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Djava.awt.headless=true",
            *(jvm or kafka_classes.options(java(), jars())),
            f"-Dlog4j2.configurationFile={self._logging()}", "-cp", f"{jars()}/*", main, *arguments,
        ]  # fmt: skip

    def _logging(self) -> Path:
        path = self.directory / "log4j2.properties"
        path.write_text(
            "rootLogger.level=WARN\nrootLogger.appenderRef.c.ref=C\nappender.c.type=Console\nappender.c.name=C\n"
            "appender.c.layout.type=PatternLayout\nappender.c.layout.pattern=%d{ISO8601} %p %c: %m%n\n"
            + "".join(
                f"logger.l{n}.name={name}\nlogger.l{n}.level={level}\n"
                for n, (name, level) in enumerate(self._log_levels.items())
            )
        )
        return path

    def _format(self, properties: Path) -> None:
        if not self._formatted:
            command = self._java(
                "kafka.tools.StorageTool", "format", "-t", self._cluster_id, "-c", str(properties), "--ignore-formatted"
            )
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_SECONDS)
            if done.returncode:
                raise KafkaUnavailable(f"kafka could not format its storage:\n{done.stdout}{done.stderr}")
            self._formatted = True

    def start(self, *, wait: bool = True) -> Self:
        """Start (again) on the same ports and data. Raises ``KafkaUnavailable``."""
        properties = self.directory / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._configuration().items()))
        self._format(properties)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._java("kafka.Kafka", str(properties), jvm=self._jvm),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._environment, start_new_session=True,
            )  # fmt: skip
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + seconds
        while True:
            if self.process is None or self.process.poll() is not None:
                raise KafkaUnavailable(f"kafka ended at once; see {self.log}:\n{self.tail()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.5):
                break
            if time.monotonic() > deadline:
                raise KafkaUnavailable(f"kafka did not listen within {seconds:g} s; see {self.log}:\n{self.tail()}")
            time.sleep(0.05)
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        while True:
            with contextlib.suppress(KafkaException):
                if self.node_id in admin.list_topics(timeout=2).brokers:
                    return
            if time.monotonic() > deadline:
                raise KafkaUnavailable(f"kafka did not answer within {seconds:g} s; see {self.log}:\n{self.tail()}")

    def tail(self, lines: int = 20) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) if self.log.exists() else ""

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def _signal(self, number: int) -> None:
        if self.alive and self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def stop(self, seconds: float = 60.0) -> None:
        """SIGTERM, and SIGKILL if it does not listen."""
        if self.process is None:
            return
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(60)

    def pause(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def _at_exit(self) -> None:
        self._signal(signal.SIGKILL)
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self if self.alive else self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._at_exit()
        if self.process is not None:
            self.process.wait(60)


class KafkaCluster:
    """Three nodes, each broker and controller, replication 3."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        properties: Mapping[str, str] | None = None,
        heap: str = "400m",
    ) -> None:
        """``port`` is the first node's for clients (default: a free one)."""
        ports = free_ports(6)
        ports[0] = port or ports[0]
        voters = {n: ports[3 + n - 1] for n in (1, 2, 3)}
        cluster_id = new_cluster_id()
        self.brokers = [
            KafkaBroker(
                directory / f"node-{n}",
                port=ports[n - 1], node_id=n, voters=voters, cluster_id=cluster_id, replication=3,
                properties={"min.insync.replicas": "2", **(properties or {})}, heap=heap,
            )
            for n in (1, 2, 3)
        ]  # fmt: skip

    @property
    def bootstrap_servers(self) -> str:
        """Where clients connect."""
        return ",".join(broker.bootstrap_servers for broker in self.brokers)

    def __enter__(self) -> Self:
        for broker in self.brokers:
            broker.start(wait=False)
        for broker in self.brokers:
            broker.wait_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for broker in self.brokers:
            broker.__exit__(kind, error, trace)
