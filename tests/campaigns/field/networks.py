"""Entries C and L, and security.md section 2: lists of addresses, proxies and authorities."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from functools import partial

from tests.campaigns.field import names
from tests.campaigns.field.environment import Environment, happens, ingest, logged, until
from tests.campaigns.field.example import NotPlayable, cases, clean, example, require
from tests.harness.preloaded import NoCompilerError
from tests.harness.processes import SimulatorProcess
from tests.harness.scripted_http import Answer

ONE_LIST = "one time-out, one budget or one memory for a list"
RACED = "the service writes within 30 s; the audit is clean"


@contextlib.contextmanager
def black_hole(host: str, port: int) -> Iterator[int]:
    """A port (0: any) whose queue of connections is full: further ones get no answer at all. Yields the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        try:
            for _ in range(4):
                filler = socket.socket(family)
                filler.setblocking(False)
                filler.connect_ex((host, port))
                fillers.append(filler)
            time.sleep(0.2)
            yield port
        finally:
            for filler in fillers:
                filler.close()


def _hosts(environment: Environment, table: dict[str, list[str]]) -> dict[str, str]:
    try:
        return names.environment(table)
    except NoCompilerError as error:
        raise NotPlayable(str(error)) from error


def _dead_first(environment: Environment, which: str, dead: str = "127.0.0.2", transport: str = "websockets") -> str:
    hosts = _hosts(environment, {"exchange.test": [dead, "127.0.0.1"]})
    with environment.stack("dead-address") as stack:
        ready = stack.simulator.ready
        ports = {name: int(str(ready[f"{name}_url"]).rpartition(":")[2]) for name in ("ws", "rest")}
        url = {
            "ws": {
                "K2_BINANCE_WEBSOCKET_URL": f"ws://exchange.test:{ports['ws']}",
                "K2_BINANCE_WEBSOCKET_FALLBACK_URLS": "",
            },
            "rest": {
                "K2_BINANCE_REST_URL": f"http://exchange.test:{ports['rest']}",
                "K2_BINANCE_REST_FALLBACK_URLS": "",
            },
        }[which]
        with black_hole(dead, ports[which]):
            stack.service(start=True, **hosts, **url, K2_BINANCE_TRANSPORT=transport)
            seconds = until(lambda: stack.writing() and len(stack.committed()) == 4, "the service to write", 30)
            time.sleep(2)  # a position may be there before the first trade
            return f"writes after {seconds:.0f} s; {clean(stack)}"


cases(
    "C.", ONE_LIST, RACED,
    (
        partial(_dead_first, which="ws"),
        partial(_dead_first, which="ws", transport="picows"),
        partial(_dead_first, which="rest"),
        partial(_dead_first, which="ws", dead="::1"),
    ),
)  # fmt: skip


@example("C.5", ONE_LIST, RACED + " (the first address of the broker's name drops packets)")
def dead_broker_address(environment: Environment) -> str:
    """The name of the bootstrap server has a dead address first."""
    hosts = _hosts(environment, {"kafka.test": ["127.0.0.2", "127.0.0.1"]})
    port = int(environment.bootstrap_servers.rpartition(":")[2])
    with black_hole("127.0.0.2", port), environment.stack("dead-broker") as stack:
        stack.service(start=True, **hosts, K2_KAFKA_BOOTSTRAP_SERVERS=f"kafka.test:{port}")
        seconds = until(stack.writing, "the service to write", 60)
        time.sleep(2)
        return f"writes after {seconds:.0f} s; {clean(stack)}"


@example("C.6", ONE_LIST, RACED + " (the first address of the registry's name drops packets)")
def dead_registry_address(environment: Environment) -> str:
    """The name of the registry has a dead address first."""
    hosts = _hosts(environment, {"registry.test": ["127.0.0.2", "127.0.0.1"]})
    port = int(environment.registry.url.rpartition(":")[2])
    with black_hole("127.0.0.2", port), environment.stack("dead-registry") as stack:
        stack.service(start=True, **hosts, K2_KAFKA_SCHEMA_REGISTRY_URL=f"http://registry.test:{port}")
        seconds = until(stack.writing, "the service to write", 40)
        time.sleep(2)
        return f"writes after {seconds:.0f} s; {clean(stack)}"


# --- security.md, section 2 ---

SILENCED = "one member's word silences the others"


def _bad_rest(environment: Environment, status: int, retry_after: str) -> str:
    def answer(_: object) -> Answer:
        return Answer(b"{}", status, {"Retry-After": retry_after})

    with names.http_server(answer) as bad, environment.stack("bad-rest") as stack:
        good = stack.simulator.rest_url
        service = stack.service(K2_BINANCE_REST_URL=bad.url, K2_BINANCE_REST_FALLBACK_URLS=good)
        seconds = until(lambda: stack.writing() and len(stack.committed()) == 4, "the service to write", 40)
        stack.simulator.fault("gap", count=20)
        verdict = clean(stack)
        require(len(bad.requests) < 60, f"the bad address had {len(bad.requests)} requests")
        require(logged(service, str(status), least="INFO"), f"HTTP {status} is not in the log")
        return f"writes after {seconds:.0f} s, {len(bad.requests)} requests to the bad address; {verdict}"


cases(
    "S2.", SILENCED, "the other address is asked: the service writes within 40 s and holes are filled",
    (
        partial(_bad_rest, status=503, retry_after="86400"),
        partial(_bad_rest, status=503, retry_after="1000000000"),
        partial(_bad_rest, status=429, retry_after="99999999999999999999"),
        partial(_bad_rest, status=418, retry_after="86400"),
        partial(_bad_rest, status=500, retry_after="nonsense"),
        partial(_bad_rest, status=403, retry_after="-5"),
    ),
)  # fmt: skip


def _bad_websocket(environment: Environment, status: int, retry_after: str) -> str:
    def answer(_: object) -> Answer:
        return Answer(b"", status, {"Retry-After": retry_after})

    with names.http_server(answer) as bad, environment.stack("bad-websocket") as stack:
        stack.service(
            K2_BINANCE_WEBSOCKET_URL=bad.url.replace("http", "ws"),
            K2_BINANCE_WEBSOCKET_FALLBACK_URLS=stack.simulator.ws_url,
        )
        seconds = until(lambda: stack.writing() and len(stack.committed()) == 4, "the service to write", 40)
        return f"writes after {seconds:.0f} s; {clean(stack)}"


cases(
    "S2.ws.", SILENCED, "the other WebSocket address is used within 40 s",
    (
        partial(_bad_websocket, status=503, retry_after="86400"),
        partial(_bad_websocket, status=429, retry_after="1000000000"),
    ),
)  # fmt: skip


@example(
    "S2.info", SILENCED, "an address whose exchangeInfo lacks a symbol does not end the service; the symbol is recorded"
)
def other_exchange_info(environment: Environment) -> str:
    """The first REST address does not list one of the configured symbols."""
    names_ = "BTCUSDT,ETHUSDT"
    folder = environment.folder("small-exchange")
    market = ("--symbols", names_, "--rate", "100")
    with (
        SimulatorProcess(folder, "--symbols", "BTCUSDT", "--rate", "10") as small,
        environment.stack("two-lists", *market, symbols=names_) as stack,
    ):
        service = stack.service(
            start=False, K2_BINANCE_REST_URL=small.rest_url, K2_BINANCE_REST_FALLBACK_URLS=stack.simulator.rest_url
        )
        service.start(wait=False)
        require(service.wait(10) is None, f"the service ends with {service.returncode}")
        require(happens(lambda: "BTCUSDT" in stack.committed(), 40), "BTCUSDT is not recorded")
        if not happens(lambda: "ETHUSDT" in stack.committed(), 30):
            require(logged(service, "ETHUSDT"), "ETHUSDT is neither recorded nor named in a warning")
            return "BTCUSDT is recorded, a warning names ETHUSDT"
        return "both symbols are recorded"


# --- L ---

CLIENTS = "two clients, two rules"


class TunnelProxy:
    """An HTTP proxy that knows CONNECT and GET, with an optional password."""

    def __init__(self) -> None:
        self.tunnels: list[str] = []
        self.authorizations: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            part = client.recv(65536)
            if not part:
                return
            head += part
        top, _, rest = head.partition(b"\r\n\r\n")
        request, *headers = top.decode("latin1").split("\r\n")
        method, target, _ = request.split(" ", 2)
        self.tunnels.append(target)
        self.authorizations += [line for line in headers if line.lower().startswith("proxy-authorization")]
        if method == "CONNECT":
            host, _, port = target.rpartition(":")
            server = socket.create_connection((host, int(port)), 10)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            server.sendall(rest)
        else:
            authority, _, path = target.removeprefix("http://").partition("/")
            host, _, port = authority.rpartition(":")
            server = socket.create_connection((host, int(port)), 10)
            kept = [line for line in headers if not line.lower().startswith("proxy-")]
            server.sendall("\r\n".join([f"{method} /{path} HTTP/1.1", *kept, "", ""]).encode("latin1") + rest)
        for one, other in ((client, server), (server, client)):
            threading.Thread(target=self._pump, args=(one, other), daemon=True).start()

    @staticmethod
    def _pump(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Accept no more."""
        self._socket.close()


def _proxied(environment: Environment, transport: str) -> str:
    proxy = TunnelProxy()
    try:
        with environment.stack("proxy") as stack:
            service = stack.service(
                K2_BINANCE_PROXY=f"http://user:pass-word-1@127.0.0.1:{proxy.port}",
                K2_BINANCE_TRANSPORT=transport,
                NO_PROXY="",
            )
            until(lambda: stack.writing() and len(stack.committed()) == 4, "the service to write", 40)
            verdict = clean(stack)
            ws = stack.simulator.ws_url.removeprefix("ws://")
            rest = stack.simulator.rest_url.removeprefix("http://")
            require(any(ws in one for one in proxy.tunnels), "the WebSocket did not go through the proxy")
            require(any(rest in one for one in proxy.tunnels), "REST did not go through the proxy")
            require(proxy.authorizations, "the proxy saw no credentials")
            require("pass-word-1" not in service.log.read_text(errors="replace"), "the password is in the log")
            shown = ingest(
                "check", settings={**stack.settings(), "K2_BINANCE_PROXY": "http://user:pass-word-1@127.0.0.1:1"}
            )
            require("pass-word-1" not in shown.stdout + shown.stderr, "`ingest check` shows the proxy's password")
            return f"{len(proxy.tunnels)} requests through the proxy; {verdict}"
    finally:
        proxy.close()


cases(
    "L.1.", CLIENTS, "K2_BINANCE_PROXY with credentials serves REST and WebSocket; the password is masked",
    (partial(_proxied, transport="websockets"), partial(_proxied, transport="picows")),
)  # fmt: skip


@example("L.2", CLIENTS, "NO_PROXY is respected: the exchange on it is reached without the proxy")
def no_proxy(environment: Environment) -> str:
    """The proxy is dead; NO_PROXY names the exchange."""
    with environment.stack("no-proxy") as stack:
        stack.service(K2_BINANCE_PROXY="http://127.0.0.1:9", NO_PROXY="127.0.0.1,localhost")
        seconds = until(lambda: stack.writing() and len(stack.committed()) == 4, "the service to write", 40)
        return f"writes after {seconds:.0f} s"


@example("L.3", CLIENTS, "`ingest audit --ledger-rest` trusts K2_BINANCE_CUSTOM_CA_BUNDLE, as `run` does")
def audit_with_authority(environment: Environment) -> str:
    """The exchange's certificate is signed by a private authority."""
    with environment.stack("private-ca", "--symbols", "2", "--rate", "100", "--tls") as stack:
        authority = str(stack.simulator.ready["ca_file"])
        service = stack.service(K2_BINANCE_CUSTOM_CA_BUNDLE=authority)
        stack.wait(lambda: stack.writing() and len(stack.committed()) == 2, "both symbols in Kafka", seconds=60)
        stack.simulator.market("stop")
        stack.wait(stack.caught_up, "the last trade in Kafka", seconds=60)
        service.terminate()
        done = ingest(
            "audit", "--bootstrap-servers", stack.bootstrap_servers, "--schema-registry-url", stack.registry_url,
            "--topic", stack.topic, "--ledger-rest", stack.simulator.rest_url, "--timeout", "20",
            settings={"K2_BINANCE_CUSTOM_CA_BUNDLE": authority},
        )  # fmt: skip
        require(done.returncode == 0, f"exit {done.returncode}: {(done.stdout + done.stderr)[-200:]}")
        return "audit PASS over TLS"


@example("L.4", CLIENTS, "HTTPS_PROXY that is not used for the exchange is mentioned", quick=True)
def unused_proxy(environment: Environment) -> str:
    """The environment has HTTPS_PROXY; the service has no proxy of its own."""
    done = ingest("check", settings={"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": ""})
    require("HTTPS_PROXY" in done.stdout + done.stderr, "`ingest check` does not mention HTTPS_PROXY")
    return "mentioned"
