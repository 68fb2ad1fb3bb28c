"""Peers that turn hostile: exchange, registry, a writer of junk; and commands that are replayed or forged."""

import asyncio
import contextlib
import http.client
import itertools
import json
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from confluent_kafka import Producer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from ingest.command import exit_codes
from tests.campaigns.attack.watch import Watch
from tests.campaigns.drills.environment import MB, DrillEnvironment
from tests.harness.processes import ServiceProcess

RSS_LIMIT = 300 * MB
RECOVERY_SECONDS = 120.0
FAULTS: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in ("huge_frame", "deflate_bomb", "unknown_event", "error_object", "array", "binary")},
    "text": {"text": "\x1b[2J{{{"},
    **{kind: {} for kind in ("rest_garbage", "rest_truncate", "rest_5xx", "server_shutdown")},
}
"""Kinds of the simulator, one after another."""

Row = dict[str, Any]


def outcome(checks: dict[str, bool]) -> str:
    """``held``, or what did not."""
    failed = [name for name, good in checks.items() if not good]
    return f"failed: {', '.join(failed)}" if failed else "held"


def row(name: str, checks: dict[str, bool], strikes: int, watch: Watch | None = None) -> Row:
    """One line of the table."""
    found: Row = {"attack": name, "outcome": outcome({**checks, "struck": strikes > 0}), "strikes": strikes}
    if watch is not None:
        seen = watch.observed
        found |= {
            "rss_mb": round(seen.rss / MB),
            "live": f"{seen.live.good}/{seen.live.asked}",
            "ready": f"{seen.ready.good}/{seen.ready.asked}",
            "operator": f"{seen.operator.good}/{seen.operator.asked}",
            "slow": f"{seen.slow.good}/{seen.slow.asked}",
            "slowest_answer_s": round(max(seen.live.longest, seen.ready.longest, seen.operator.longest), 2),
        }
    return found


def hostile_exchange(env: DrillEnvironment, service: ServiceProcess, seconds: float) -> Row:
    """Frames, answers and closings that no exchange should send; afterwards nothing is missing."""
    watch = Watch.of(service, token_of(env))
    watch.start()
    end, done = time.monotonic() + seconds, 0
    for kind, options in itertools.cycle(FAULTS.items()):
        if time.monotonic() > end:
            break
        env.stack.simulator.fault(kind, **options)
        done += 1
        time.sleep(0.3)
    env.stack.simulator.fault("clear")
    seen = watch.close()
    before = env.consumer.count
    recovered = True
    try:
        env.stack.wait(service.healthy, "readiness after a hostile exchange", seconds=RECOVERY_SECONDS)
    except TimeoutError:
        recovered = False
    checks = {
        "alive": service.alive,
        "live": seen.live.all_good,
        "operator": seen.operator.all_good,
        "memory": 0 < seen.rss < RSS_LIMIT,
        "recovered": recovered and env.consumer.wait_new(before, RECOVERY_SECONDS),
    }
    return row("hostile_exchange", checks, done, watch)


class FloodingExchange:
    """A stream server that sends trades of symbols that were never asked for, and pings, and reads nothing."""

    def __init__(self) -> None:
        self.sent = 0
        self.url = ""
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        async with serve(self._flood, "127.0.0.1", 0, ping_interval=None) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            self._ready.set()
            await self._stop.wait()

    async def _flood(self, client: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):
            for number in itertools.count():
                name = uuid.uuid4().hex[:12].upper()
                data = {
                    "e": "trade", "E": 1_723_161_254_123_456, "s": name, "t": number, "p": "1.0", "q": "1.0",
                    "T": time.time_ns() // 1000, "m": True, "M": True,
                }  # fmt: skip
                await client.send(json.dumps({"stream": f"{name.lower()}@trade", "data": data}))
                if number % 20 == 0:
                    _ = await client.ping()  # its pong is not waited for
                self.sent += 1

    def __enter__(self) -> "FloodingExchange":
        self._thread.start()
        self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        if self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


def flooding_exchange(env: DrillEnvironment, _service: ServiceProcess, seconds: float) -> Row:
    """A standby whose streams are an exchange that floods it: it stays small, alive, and at its operator's orders."""
    with FloodingExchange() as exchange:
        standby = env.stack.service(
            "flooded", K2_START_MODE="standby", K2_BINANCE_WEBSOCKET_URL=exchange.url, K2_METRICS_PORT="0"
        )
        watch = Watch.of(standby, token_of(env))
        watch.start()
        time.sleep(2 * seconds)
        seen = watch.close()
        alive = standby.alive
        standby.terminate()
    del env.stack.services["flooded"]
    checks = {
        "alive": alive,
        "live": seen.live.all_good,
        "operator": seen.operator.all_good,
        "memory": 0 < seen.rss < RSS_LIMIT,
        "flooded": exchange.sent > 1000,
    }
    return row("flooding_exchange", checks, exchange.sent, watch)


ANSWERS = (
    b"[[[[[[]]]]]]", b'{"id": -1}', b'{"id": 4294967296, "schema": "{}"}', b'{"id": 1, "schema": "{{{"}',
    b"[" * 200_000,
    b'{"id": 1, "schema": "' + b"x" * 2_000_000 + b'"}', b"\x1b[2J\xff\xfe", b"",
    json.dumps({"id": 1, "schema": json.dumps({"type": "record", "name": "T", "fields": [
        {"name": "symbol", "type": "string"}]})}).encode(),
)  # fmt: skip


@contextlib.contextmanager
def hostile_answers() -> Iterator[tuple[str, list[int]]]:
    """A registry that gives each of the answers in turn, with 200; its address, and how often it was asked."""
    answers, asked = itertools.cycle(ANSWERS), [0]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked[0] += 1
            body = next(answers)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
        server.shutdown()


def hostile_registry(env: DrillEnvironment, _service: ServiceProcess, seconds: float) -> Row:
    """Starts with a registry that lies: each waits or ends with a message, and writes nothing."""
    before, codes = env.consumer.count, set()
    with hostile_answers() as (url, asked):
        victim = env.stack.service("misled", start=False, K2_KAFKA_SCHEMA_REGISTRY_URL=url, K2_START_MODE="auto")
        end = time.monotonic() + max(60.0, 4 * seconds)
        while time.monotonic() < end and asked[0] < 2 * len(ANSWERS):
            if not victim.alive:
                victim.start(wait=False)
            time.sleep(0.2)
            codes.add(victim.returncode)
        text = victim.log.read_text(errors="replace")
        victim.terminate()
    del env.stack.services["misled"]
    checks = {
        "asked": asked[0] >= len(ANSWERS),
        "no traceback": "Traceback" not in text,
        f"exit codes {codes}": codes <= {None, exit_codes.CANNOT_WORK, exit_codes.TRY_AGAIN},
        "the writer goes on": env.consumer.wait_new(before, RECOVERY_SECONDS),
        "no escape sequence": "\x1b" not in text,
    }
    return row("hostile_registry", checks, asked[0])


def junk_positions(env: DrillEnvironment, service: ServiceProcess, seconds: float) -> Row:
    """30,000 records in the positions topic that the service did not write; then it is killed and started."""
    del seconds
    topic = f"{env.stack.topic}.positions"
    producer = Producer({"bootstrap.servers": env.stack.bootstrap_servers, "log_level": 0})
    good = b'{"first_id":1,"last_id":9,"count":9,"v":1}'
    junk = [
        (b"hello", b"env"), (b"position:BTCUSDT", b'{"first_id":1,"last_id":1e30,"count":-10}'), (b"hello", None),
        (b"position:" + b"X" * 5000, good), (b"writer", b'{"generation":1e30}'), (b"handover:x", b"[" * 5000),
        (b"symbols", b"\xff\xfe"), (b"\xff", b"{}"), (b"", b"{}"), (b"void:BTCUSDT:1", b"{{{"),
    ]  # fmt: skip
    refused: list[object] = []
    for number in range(30_000):
        key, value = junk[number % 30] if number % 30 < len(junk) else (b"position:JUNK%d" % number, good)
        producer.produce(topic, value, key, partition=0, on_delivery=lambda error, _: refused.append(error))
        producer.poll(0)
    producer.flush(60)
    before = env.consumer.count
    lives_on = env.consumer.wait_new(before, RECOVERY_SECONDS) and service.alive
    service.kill()
    service.start()
    recovered = True
    try:
        env.stack.wait(lambda: env.stack.writing() and service.healthy(), "a writer", seconds=RECOVERY_SECONDS)
    except TimeoutError:
        recovered = False
    before = env.consumer.count
    checks = {
        "delivered": refused.count(None) == 30_000,
        "goes on": lives_on,
        "starts again": recovered,
        "writes": env.consumer.wait_new(before, RECOVERY_SECONDS),
        "memory": 0 < service.rss() < RSS_LIMIT,
        "says so": "skipped records that are not positions" in service.log.read_text(errors="replace"),
    }
    return row("junk_positions", checks, 30_000) | {"rss_mb": round(service.rss() / MB)}


def token_of(env: DrillEnvironment) -> str:
    """The token with every right."""
    return env.stack.settings()["K2_CONTROL_TOKEN"]


def status_of(url: str, path: str, headers: dict[str, str], body: bytes = b"{}") -> int:
    """The status of one POST."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def forged_commands(url: str, path: str, token: str, body: bytes, good: int) -> Row:
    """Commands without a right, without id or time, too old, repeated, and from another site."""
    now = time.time_ns() / 1e9
    own = {"Authorization": f"Bearer {token}", "X-Command-Id": uuid.uuid4().hex, "X-Command-Time": f"{now:.3f}"}

    def changed(**changes: str | None) -> int:
        headers = {**own, "X-Command-Id": uuid.uuid4().hex}
        for name, value in changes.items():
            headers.pop(name.replace("_", "-"), None)
            if value is not None:
                headers[name.replace("_", "-")] = value
        return status_of(url, path, headers, body)

    expected = {
        "no token": (changed(Authorization=None), 401),
        "a wrong token": (changed(Authorization="Bearer guess"), 401),
        "no id": (changed(X_Command_Id=None), 400),
        "no time": (changed(X_Command_Time=None), 400),
        "an odd time": (changed(X_Command_Time="nan"), 400),
        "too old": (changed(X_Command_Time=f"{now - 3600:.3f}"), 409),
        "from the future": (changed(X_Command_Time=f"{now + 3600:.3f}"), 409),
        "another site": (changed(Origin="http://evil.example"), 403),
        "another host": (changed(Host="evil.example"), 421),
        "no origin at all": (changed(Origin="http://["), 403),
        "the real one": (status_of(url, path, own, body), good),
        "replayed": (status_of(url, path, own, body), 409),
    }
    # An address that has guessed before is answered with 429 for every wrong token, which is as good.
    checks = {
        f"{name}: {found} instead of {wanted}": found == wanted or (wanted == 401 and found == 429)
        for name, (found, wanted) in expected.items()
    }
    return row(f"forged {path}", checks, len(expected))
