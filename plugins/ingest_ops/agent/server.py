"""The agent's HTTP door.

``GET /metrics`` and ``GET /health`` are for anybody who can reach it; the verbs are for the holder of the token::

    POST /builds/<version>           begin to build; at most one at a time
    GET  /builds/<version>           {"state": "none|running|done|failed", "detail": ...}
    GET  /slots/<slot>               how it stands
    POST /slots/<slot>/start         {"version": ...}
    POST /slots/<slot>/stop
"""

import hmac
import json
import logging
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec

from ingest.core.limiter import RollingWindow
from ingest_ops.agent.slots import SLOTS, AgentRefusal, AgentTrouble, Slots, check_version

log = logging.getLogger(__name__)

MIN_TOKEN = 16
MAX_BODY = 4096
REQUEST_SECONDS = 10.0
FAILURES = 10
FAILURE_SECONDS = 60.0
"""After this many wrong tokens in this many seconds nobody's token is looked at until they have passed."""


class _Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str


class HttpError(Exception):
    """An answer that is no 200."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


class Builds:
    """Runs one build at a time and remembers how each ended."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        self._states: dict[str, dict[str, str]] = {}
        self._running: str | None = None

    def begin(self, version: str) -> dict[str, str]:
        """Start to build, unless it is being built or is built. Raises ``AgentRefusal`` while another is running."""
        check_version(version)
        with self._lock:
            state = self._states.get(version)
            if state is not None and state["state"] in ("running", "done"):
                return state
            if self._running is not None:
                raise AgentRefusal(f"version {self._running} is being built: wait for it")
            self._running = version
            self._states[version] = {"state": "running", "detail": ""}
        threading.Thread(target=self._build, args=(version,), name=f"build {version}", daemon=True).start()
        return self.state(version)

    def state(self, version: str) -> dict[str, str]:
        """How a build stands."""
        with self._lock:
            return self._states.get(check_version(version), {"state": "none", "detail": ""})

    def _build(self, version: str) -> None:
        outcome = {"state": "failed", "detail": "the agent crashed while building: see its log"}
        try:
            outcome = {"state": "done", "detail": self._slots.build(version)}
        except (AgentRefusal, AgentTrouble) as error:
            outcome = {"state": "failed", "detail": str(error)}
        finally:
            log.info("build of %s: %s %s", version, outcome["state"], outcome["detail"])
            with self._lock:
                self._states[version] = outcome
                self._running = None


class AgentServer:
    """Serves while the context is open. Raises ``ValueError`` for a token that is too short."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        slots: Slots,
        token: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if len(token) < MIN_TOKEN:
            raise ValueError(f"the agent's token must have at least {MIN_TOKEN} characters")
        self._slots = slots
        self._token = token.encode()
        self._monotonic = monotonic
        self._guesses = RollingWindow(limit=FAILURES, window=FAILURE_SECONDS)
        self._guess_lock = threading.Lock()
        self._builds = Builds(slots)
        self._server = _Server((host, port), self.answer)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="agent", daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return f"http://{host if isinstance(host, str) else host.decode()}:{port}"

    def __enter__(self) -> "AgentServer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, authorization: str, body: bytes) -> tuple[str, bytes]:
        """Content type and body of the answer. Raises ``HttpError``."""
        if method == "GET" and path == "/metrics":
            return "text/plain; version=0.0.4; charset=utf-8", self._metrics().encode()
        if method == "GET" and path == "/health":
            return "application/json", b'{"ok": true}'
        self._authenticate(authorization)
        try:
            found = self._verb(method, path.strip("/").split("/"), body)
        except msgspec.MsgspecError as error:
            raise HttpError(HTTPStatus.BAD_REQUEST, str(error)) from error
        except AgentRefusal as error:
            raise HttpError(HTTPStatus.CONFLICT, str(error)) from error
        except AgentTrouble as error:
            raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        return "application/json", msgspec.json.encode(found)

    def _verb(self, method: str, path: list[str], body: bytes) -> Any:
        match method, path:
            case "GET", ["slots"]:
                return [self._slots.status(slot) for slot in SLOTS]
            case "GET", ["slots", slot]:
                return self._slots.status(slot)
            case "POST", ["slots", slot, "start"]:
                version = msgspec.json.decode(body, type=_Start).version
                log.info("start %s with %s", slot[:32], version[:80])
                return self._slots.start(slot, check_version(version))
            case "POST", ["slots", slot, "stop"]:
                log.info("stop %s", slot[:32])
                return self._slots.stop(slot)
            case "POST", ["builds", version]:
                return self._builds.begin(version)
            case "GET", ["builds", version]:
                return self._builds.state(version)
            case _:
                raise HttpError(HTTPStatus.NOT_FOUND, "there are /builds/<version>, /slots/<slot> and its start, stop")

    def _authenticate(self, authorization: str) -> None:
        scheme, _, given = authorization.partition(" ")
        with self._guess_lock:
            if self._guesses.wait(self._monotonic()) > 0:
                raise HttpError(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens: wait a minute")
            if scheme.lower() == "bearer" and hmac.compare_digest(
                given.strip().encode("latin-1", "replace"), self._token
            ):
                return
            if given:
                self._guesses.note(self._monotonic())
        raise HttpError(HTTPStatus.UNAUTHORIZED, "send Authorization: Bearer <agent token>")

    def _metrics(self) -> str:
        lines = [
            "# HELP ingest_container_running 1 while the slot's container or process runs.",
            "# TYPE ingest_container_running gauge",
        ]
        restarts = [
            "# HELP ingest_container_restarts Restarts by the container's runtime since it was created.",
            "# TYPE ingest_container_restarts gauge",
        ]
        for slot in SLOTS:
            try:
                status = self._slots.status(slot)
            except AgentTrouble as error:
                log.warning("status of %s: %s", slot, error)
                continue  # no sample is not a 0: the gates see that data is missing
            lines.append(f'ingest_container_running{{slot="{slot}"}} {int(status.running)}')
            restarts.append(f'ingest_container_restarts{{slot="{slot}"}} {status.restarts}')
        return "\n".join([*lines, *restarts]) + "\n"


_Answer = Callable[[str, str, str, bytes], tuple[str, bytes]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], answer: _Answer) -> None:
        self.answer = answer
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = REQUEST_SECONDS
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        status, kind = HTTPStatus.INTERNAL_SERVER_ERROR, "application/json"
        content = b'{"error": "internal error: see the log of the agent"}'
        try:
            body = self._body()
            path = self.path.partition("?")[0]
            kind, content = self.server.answer(self.command, path, self.headers.get("Authorization", ""), body)
            status = HTTPStatus.OK
        except HttpError as error:
            status, content = error.status, json.dumps({"error": str(error)}).encode()
        finally:  # an unforeseen error is answered as well, and then logged by handle_error()
            self.close_connection = True
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)

    do_GET = do_POST = _serve  # noqa: N815 (http.server's names)

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdigit()):
            raise HttpError(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length")
        if len(length) > 5 or int(length) > MAX_BODY:
            raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body may have at most {MAX_BODY} bytes")
        return self.rfile.read(int(length))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        log.debug("%s: %r", self.client_address[0], format % args)

    def version_string(self) -> str:
        return "k2-ingest-agent"
