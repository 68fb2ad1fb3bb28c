"""The service's two HTTP servers and their endpoints; they answer from own threads, also while the loop hangs."""

import concurrent.futures
import logging
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from typing import Annotated, Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from ingest.control.command_schemas import COMMANDS, parse
from ingest.core.errors import Fenced, Recycle, Retry, Stop
from ingest.http.auth import Guard, Role, Verdict
from ingest.http.commands import CommandLog
from ingest.http.host import check_host
from ingest.http.limits import Limits
from ingest.http.messages import HttpError, Request, Response, json_response, not_allowed, retry_after
from ingest.http.server import HttpServer

log = logging.getLogger(__name__)

COMMAND_SECONDS = 90.0
"""How long a command's outcome is waited for: longer than a promotion is given (60 s)."""


class Health(msgspec.Struct, frozen=True):
    """A verdict; ``reason`` is empty where it is good."""

    ok: bool
    reason: str
    details: dict[str, Any]


class Process(msgspec.Struct, frozen=True):
    """The answer of GET /process: which process of which instance this is."""

    instance: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    process: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    """Another one after each start; ``/control/status`` shows it, too."""


def this_process(instance: str) -> Process:
    """Name the process that calls this."""
    return Process(instance, uuid.uuid4().hex)


class Probe(Protocol):
    """The source of health and status. Called from HTTP threads while the loop may hang: must not wait for it."""

    def live(self) -> Health:
        """Whether the process works at all; a supervisor restarts it where not."""

    def ready(self) -> Health:
        """Whether it does its job."""

    def status(self) -> dict[str, Any]:
        """The whole state, as JSON."""


class Commands(Protocol):
    """Where the control API's commands go. Called from HTTP threads."""

    def submit(self, name: str, arguments: dict[str, Any]) -> concurrent.futures.Future[dict[str, Any]]:
        """Start a command. It, or the future, raises ``Stop`` (409), ``Retry`` (503) or ``TimeoutError`` (504)."""


class StatusServer(HttpServer):
    """GET /metrics, /health/live, /health/ready, /status, /process: for every client that can reach it."""

    paths = "/metrics, /health/live, /health/ready, /status and /process"
    """Named in the answer to a request for another path."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        registry: CollectorRegistry,
        probe: Probe,
        process: Process,
        allowed_hosts: Collection[str] = (),
        limits: Limits = Limits(running=2),  # noqa: B008 (frozen). Rendering metrics costs CPU, which the loop needs.
    ) -> None:
        super().__init__(
            "status server",
            host,
            port,
            self._respond,
            # A supervisor restarts the process when /health/live fails: it must not wait behind requests for metrics.
            trusted=lambda request: request.path.startswith("/health/"),
            check=lambda request: check_host(request, allowed_hosts),
            limits=limits,
        )
        self._registry = registry
        self._probe = probe
        self._process = msgspec.json.encode(process) + b"\n"

    def _respond(self, request: Request) -> Response:
        match request.path:
            case "/metrics" | "/health/live" | "/health/ready" | "/status" | "/process" if request.method not in (
                "GET",
                "HEAD",
            ):
                raise not_allowed(request, "GET, HEAD")
            case "/metrics":
                return self._metrics(request.header("Accept"))
            case "/health/live":
                return _health(self._probe.live())
            case "/health/ready":
                return _health(self._probe.ready())
            case "/status":
                return json_response(HTTPStatus.OK, self._probe.status())
            case "/process":
                return Response(HTTPStatus.OK, self._process, held=request.method == "GET")
            case _:
                pass
        raise HttpError(HTTPStatus.NOT_FOUND, f"there are {self.paths}")

    def _metrics(self, accept: str) -> Response:
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number
            encode, content_type = choose_encoder("")
        return Response(HTTPStatus.OK, encode(self._registry), content_type)


class ControlServer(HttpServer):
    """GET /control/status and POST /control/<command>, for the holders of a token with the role that it needs."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tokens: Mapping[Role, str],
        probe: Probe,
        commands: Commands,
        process: str | None = None,
        allowed_hosts: Collection[str] = (),
        command_seconds: float = COMMAND_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = lambda: time.time_ns() / 1e9,
    ) -> None:
        if not tokens.get(Role.DEPLOY):
            raise Stop("the control server needs a token: set K2_CONTROL_TOKEN")
        self._guard = Guard(tokens, monotonic)
        super().__init__(
            "control server",
            host,
            port,
            self._respond,
            trusted=lambda request: self._guard.role(request.header("Authorization")) is not None,
            check=lambda request: check_host(request, allowed_hosts),
        )
        self._probe = probe
        self._commands = commands
        self._command_seconds = command_seconds
        self._log = CommandLog(wall_clock, process=process)

    def _respond(self, request: Request) -> Response:
        role = self._authenticate(request)
        if request.path == "/control/status":
            if request.method not in ("GET", "HEAD"):
                raise not_allowed(request, "GET, HEAD")
            return json_response(HTTPStatus.OK, {**self._probe.status(), "process": self._log.process})
        prefix, _, name = request.path.rpartition("/")
        command = COMMANDS.get(name) if prefix == "/control" else None
        if command is None:
            raise HttpError(
                HTTPStatus.NOT_FOUND, f"there are GET /control/status and POST /control/ {', '.join(COMMANDS)}"
            )
        if request.method != "POST":
            raise not_allowed(request, "POST")
        if role < command.role:
            raise HttpError(
                HTTPStatus.FORBIDDEN, f"{name} needs a token with the role {command.role.name.lower()} or higher"
            )
        try:
            arguments = parse(name, request.body())
        except ValueError as error:  # msgspec's errors among them
            raise HttpError(HTTPStatus.BAD_REQUEST, f"{name}: {error}") from error
        command_id = self._log.accept(request)
        response = self._command(name, arguments)
        log.info(
            "control command %s: %d", name, response.status,
            extra={"command_id": command_id, "client": request.client, "role": role.name.lower()},
        )  # fmt: skip
        return response

    def _authenticate(self, request: Request) -> Role:
        judgement = self._guard.judge(request.client, request.header("Authorization"))
        if judgement.role is not None:
            return judgement.role
        if judgement.verdict is Verdict.WAIT:
            raise HttpError(
                HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens", Retry_After=retry_after(judgement.seconds)
            )
        if judgement.verdict is Verdict.WRONG:
            log.warning(
                "%s %r refused: wrong token", request.method, request.path[:64], extra={"client": request.client}
            )
        raise HttpError(
            HTTPStatus.UNAUTHORIZED,
            f"{judgement.verdict.value} token: send Authorization: Bearer <control token>",
            WWW_Authenticate='Bearer realm="k2-ingest control"',
        )

    def _command(self, verb: str, arguments: dict[str, Any]) -> Response:
        try:
            future = self._commands.submit(verb, arguments)
        except (Stop, Retry) as refusal:
            return _refusal(verb, refusal)
        except RuntimeError as error:  # the loop is closed
            log.warning("%s was not started: %s", verb, error)
            return _unavailable(f"{verb} was not started: this instance is stopping")
        try:
            failure = future.exception(self._command_seconds)
        except concurrent.futures.CancelledError:
            return _unavailable(f"{verb} was cancelled: this instance is stopping")
        except TimeoutError:
            # Not cancelled: half a promotion is worse than a late one, and repeating one is harmless.
            text = f"{verb} had no outcome within {self._command_seconds:g} s and may still be carried out"
            return json_response(HTTPStatus.GATEWAY_TIMEOUT, {"error": f"{text}: read /control/status"})
        return json_response(HTTPStatus.OK, future.result()) if failure is None else _refusal(verb, failure)


def _refusal(verb: str, error: BaseException) -> Response:
    """Say why a command was not done, with the status that tells a client whether to try again."""
    content = {"error": str(error)}
    match error:
        case Stop() | Fenced():
            return json_response(HTTPStatus.CONFLICT, content)
        case Retry():
            return json_response(HTTPStatus.SERVICE_UNAVAILABLE, content, {"Retry-After": retry_after(error.after)})
        case Recycle():
            return _unavailable(f"{verb}: {error}")
        case TimeoutError():
            text = f"{verb} did not finish in time: read /control/status before repeating it"
            return json_response(HTTPStatus.GATEWAY_TIMEOUT, {"error": text})
        case _:
            pass
    log.error("%s failed", verb, exc_info=error)
    text = f"{verb} failed unexpectedly ({type(error).__name__}): see this instance's log"
    return json_response(HTTPStatus.INTERNAL_SERVER_ERROR, {"error": text})


def _unavailable(text: str) -> Response:
    return json_response(HTTPStatus.SERVICE_UNAVAILABLE, {"error": text}, {"Retry-After": retry_after(1.0)})


def _health(health: Health) -> Response:
    status = HTTPStatus.OK if health.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return json_response(status, {**health.details, "ok": health.ok, "reason": health.reason})
