"""Section 2: other clients on the simulator; and what an auto-creating broker gets from us."""

import base64
import json
import os
import socket
import urllib.error
from functools import partial
from typing import Any

from confluent_kafka.admin import AdminClient

from tests.campaigns.field.environment import Environment, begin, ingest
from tests.campaigns.field.example import cases, example, require
from tests.harness import loopback
from tests.harness.kafka import KafkaBroker
from tests.harness.processes import SimulatorProcess

CLIENTS = "a client that the exchange serves and the simulator refuses"


def _upgrade(url: str, path: str) -> int:
    """The status of an opening handshake."""
    host, _, port = url.removeprefix("ws://").rpartition(":")
    key = base64.b64encode(os.urandom(16)).decode()
    with socket.create_connection((host, int(port)), 10) as client:
        client.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        return int(client.recv(4096).split(b" ", 2)[1])


PATHS = (
    "/ws/0", "/ws/17", "/ws/any-name", "/stream?streams=0", "/ws/btcusdt@trade", "/ws", "/stream", "/ws/", "/ws/0/1",
)  # fmt: skip


def _path(environment: Environment, path: str) -> str:
    with SimulatorProcess(environment.folder("paths"), "--symbols", "2", "--rate", "10") as simulator:
        status = _upgrade(simulator.ws_url, path)
        require(status == 101, f"{path}: HTTP {status}")
        return f"{path}: HTTP 101"


cases(
    "2.1.", CLIENTS, "the exchange accepts any name in the path: 101",
    [
        partial(_path, path=path)
        for path in PATHS
    ],
    quick=True,
)  # fmt: skip


def _get(simulator: SimulatorProcess, path: str) -> tuple[int, Any]:
    try:
        with loopback.urlopen(simulator.rest_url + path, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"null")


@example(
    "2.8", CLIENTS, "klines by REST agree with the trades, in every interval; bad ones get -1120 or -1121", quick=True
)
def klines(environment: Environment) -> str:
    """Most clients ask for klines at their start."""
    import time

    with SimulatorProcess(environment.folder("klines"), "--symbols", "BTCUSDT", "--rate", "200") as simulator:
        time.sleep(2)
        simulator.market("stop")
        time.sleep(0.5)
        for interval in ("1s", "1m", "5m", "1h", "1d", "1M"):
            status, bars = _get(simulator, f"/api/v3/klines?symbol=BTCUSDT&interval={interval}&limit=1000")
            require(status == 200, f"interval {interval}: HTTP {status}: {bars}")
            state = simulator.state()["symbols"]["BTCUSDT"]
            made = state["last_id"] - state["first_id"] + 1 - sum(b - a + 1 for a, b in state["voids"])
            counted = sum(bar[8] for bar in bars)
            require(counted == made, f"interval {interval}: {counted} trades of {made}")
            require(all(len(bar) == 12 for bar in bars), "a bar has not twelve fields")
        for query, code in (
            ("symbol=BTCUSDT&interval=7m", -1120),
            ("symbol=NOPE&interval=1m", -1121),
            ("interval=1m", -1102),
        ):
            status, answer = _get(simulator, f"/api/v3/klines?{query}")
            require(status == 400 and answer.get("code") == code, f"{query}: HTTP {status} {answer}")
        return "agree with the trades"


@example("2.9", CLIENTS, "`simulate --tls-dir` keeps its authority from start to start", quick=True)
def same_authority(environment: Environment) -> str:
    """A client that trusts the authority connects after a restart of the simulator, too."""
    folder = environment.folder("authority")
    seen = []
    for _ in range(2):
        with SimulatorProcess(folder, "--symbols", "1", "--tls", "--tls-dir", str(folder / "tls")) as simulator:
            from pathlib import Path

            seen.append(Path(str(simulator.ready["ca_file"])).read_bytes())
    require(seen[0] == seen[1], "a new authority at every start")
    return "the same"


@example("3.8", "requests of ours that create topics", "a broker that creates topics by itself gets none from us")
def no_topic_by_metadata(environment: Environment) -> str:
    """The broker creates every topic that a client asks about."""
    market = ("--symbols", "2", "--rate", "50")
    with (
        KafkaBroker(environment.folder("auto-kafka"), properties={"auto.create.topics.enable": "true"}) as broker,
        environment.stack("auto", *market, bootstrap_servers=broker.bootstrap_servers) as stack,
    ):
        service = begin(stack)
        stack.simulator.market("stop")
        stack.wait(stack.caught_up, "the last trade in Kafka", seconds=60)
        stack.audit()
        service.terminate()
        admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers, "log_level": 0})
        found = set(admin.list_topics(timeout=10).topics)
        extra = {one for one in found if not one.startswith(("__", stack.topic))}
        require(not extra, f"created: {sorted(extra)}")
        settings = {**stack.settings(), "K2_KAFKA_TOPIC": "never.created", "K2_METRICS_PORT": "0"}
        done = ingest("run", settings=settings, seconds=60)
        require(done.returncode == 3, f"a missing topic: exit {done.returncode}")
        found = set(admin.list_topics(timeout=10).topics)
        require("never.created" not in found, "`ingest run` created the topic by asking about it")
        return "none created"
