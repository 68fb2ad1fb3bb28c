"""The agent's HTTP API.

``GET /metrics`` and ``GET /health`` are for every client that can reach it; the rest is for the holder of the token,
and a POST needs an id and a time (``ingest.http.commands``)::

    POST /builds/<version>           begin to build; at most one at a time
    GET  /builds/<version>           {"state": "none|running|done|failed", "detail": ...}
    GET  /slots/<slot>               how it stands
    POST /slots/<slot>/start         {"version": ...}
    POST /slots/<slot>/stop
    POST /deployment/stop|hold|resume  {"by": ...}   for the deployer, which takes it at its next look
    GET  /versions                   what can be started or built, the newest first
    GET  /deployment                 the last of these requests, or null
    GET  /process                    {"process": ...}, the name of this process: ``X-Command-Process`` of a command
"""

import logging
import threading
import time
from collections.abc import Callable, Collection
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.process_collector import ProcessCollector

from ingest.decoding import Undecodable, decode_typed
from ingest.http.auth import Guard, Role, Verdict
from ingest.http.commands import CommandLog
from ingest.http.host import check_host
from ingest.http.messages import HttpError, Request, Response, json_response, retry_after
from ingest.http.server import HttpServer
from ingest_ops.agent.slots import SLOTS, WORDS, AgentRefusal, AgentTrouble, ControlRequest, Slots, check_version

log = logging.getLogger(__name__)

MIN_TOKEN = 16
BUILDS_KEPT = 100
"""Outcomes of builds that are remembered; the oldest is forgotten first."""
METRICS = "text/plain; version=0.0.4; charset=utf-8"


class _Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    by: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


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
            self._states.pop(version, None)
            while len(self._states) >= BUILDS_KEPT:
                del self._states[next(iter(self._states))]
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


class AgentServer(HttpServer):
    """Serves while its context is open. Raises ``ValueError`` for too short a token, ``Stop`` for a used port."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        slots: Slots,
        token: str,
        allowed_hosts: Collection[str] = (),
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = lambda: time.time_ns() / 1e9,
    ) -> None:
        if len(token) < MIN_TOKEN:
            raise ValueError(f"the agent's token must have at least {MIN_TOKEN} characters")
        self._slots = slots
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        self._guard = Guard({Role.DEPLOY: token}, monotonic)
        self._commands = CommandLog(wall_clock)
        self._builds = Builds(slots)
        self._wall_clock = wall_clock
        self._request: ControlRequest | None = None
        super().__init__(
            "deploy agent",
            host,
            port,
            self._respond,
            # A supervisor restarts the agent when /health fails: it must not wait behind requests for metrics.
            trusted=lambda request: (
                request.path == "/health" or self._guard.role(request.header("Authorization")) is not None
            ),
            check=lambda request: check_host(request, allowed_hosts),
        )

    def _respond(self, request: Request) -> Response:
        if request.method == "GET" and request.path == "/metrics":
            return Response(HTTPStatus.OK, self._metrics().encode(), METRICS)
        if request.method == "GET" and request.path == "/health":
            return json_response(HTTPStatus.OK, {"ok": True})
        self._authenticate(request)
        command = self._commands.accept(request) if request.method == "POST" else ""
        try:
            found = self._command(request.method, request.path.strip("/").split("/"), request.body, command)
        except Undecodable as error:
            raise HttpError(HTTPStatus.BAD_REQUEST, str(error)) from error
        except AgentRefusal as error:
            raise HttpError(HTTPStatus.CONFLICT, str(error)) from error
        except AgentTrouble as error:
            raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, str(error)) from error
        return json_response(HTTPStatus.OK, found)

    def _command(self, method: str, path: list[str], body: Callable[[], bytes], command: str) -> Any:
        match method, path:
            case "GET", ["slots"]:
                return [self._slots.status(slot) for slot in SLOTS]
            case "GET", ["slots", slot]:
                return self._slots.status(slot)
            case "POST", ["slots", slot, "start"]:
                version = decode_typed(body(), _Start).version
                log.info("start %s with %s", slot[:32], version[:80])
                return self._slots.start(slot, check_version(version))
            case "POST", ["slots", slot, "stop"]:
                log.info("stop %s", slot[:32])
                return self._slots.stop(slot)
            case "POST", ["builds", version]:
                return self._builds.begin(version)
            case "GET", ["builds", version]:
                return self._builds.state(version)
            case "GET", ["versions"]:
                return self._slots.versions()
            case "GET", ["deployment"]:
                return self._request
            case "GET", ["process"]:
                return {"process": self._commands.process}
            case "POST", ["deployment", word] if word in WORDS:
                by = decode_typed(body(), _Asked).by
                log.info("%s, asked by %s", word, by)
                self._request = ControlRequest(id=command, word=word, by=by, at=self._wall_clock())
                return self._request
            case _:
                raise HttpError(
                    HTTPStatus.NOT_FOUND,
                    "there are /versions, /builds/<version>, /slots/<slot> and its start, stop, /process, /deployment "
                    f"and its {', '.join(WORDS)}",
                )

    def _authenticate(self, request: Request) -> None:
        judgement = self._guard.judge(request.client, request.header("Authorization"))
        if judgement.verdict is Verdict.GRANTED:
            return
        if judgement.verdict is Verdict.WAIT:
            raise HttpError(
                HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens", Retry_After=retry_after(judgement.seconds)
            )
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
        return "\n".join([*lines, *restarts]) + "\n" + generate_latest(self._process).decode()
