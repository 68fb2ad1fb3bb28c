"""The service's two HTTP doors: what they offer. They answer from threads of their own, also while the loop hangs."""

import concurrent.futures
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from ingest.control.auth import Guard, Verdict
from ingest.control.command_schemas import VERBS, parse
from ingest.control.http_server import HttpError, HttpServer, Request, Response, json_response, retry_after
from ingest.core.errors import Fenced, Recycle, Retry, Stop

log = logging.getLogger(__name__)

COMMAND_SECONDS = 90.0
"""How long a command's outcome is waited for: longer than a promotion is given (60 s)."""


class Health(msgspec.Struct, frozen=True):
    """A verdict; ``reason`` is empty where it is good."""

    ok: bool
    reason: str
    details: dict[str, Any]


class Probe(Protocol):
    """What the doors ask. Called from HTTP threads while the loop may hang: must not wait for it."""

    def live(self) -> Health:
        """Whether the process works at all; a supervisor restarts it where not."""

    def ready(self) -> Health:
        """Whether it does its job."""

    def status(self) -> dict[str, Any]:
        """Everything worth telling, as JSON."""


class Commands(Protocol):
    """Where the control API's commands go. Called from HTTP threads."""

    def submit(self, name: str, arguments: dict[str, Any]) -> concurrent.futures.Future[dict[str, Any]]:
        """Start a command. It, or the future, raises ``Stop`` (409), ``Retry`` (503) or ``TimeoutError`` (504)."""


class StatusServer(HttpServer):
    """GET /metrics, /health/live, /health/ready, /status: for anybody who can reach it."""

    def __init__(self, host: str, port: int, *, registry: CollectorRegistry, probe: Probe) -> None:
        super().__init__("status server", host, port, self._reply)
        self._registry = registry
        self._probe = probe

    def _reply(self, request: Request) -> Response:
        match request.path:
            case "/metrics" | "/health/live" | "/health/ready" | "/status" if request.method not in ("GET", "HEAD"):
                raise _not_allowed(request, "GET, HEAD")
            case "/metrics":
                return self._metrics(request.headers.get("Accept", ""))
            case "/health/live":
                return _health(self._probe.live())
            case "/health/ready":
                return _health(self._probe.ready())
            case "/status":
                return json_response(HTTPStatus.OK, self._probe.status())
            case _:
                pass
        raise HttpError(HTTPStatus.NOT_FOUND, "there are /metrics, /health/live, /health/ready and /status")

    def _metrics(self, accept: str) -> Response:
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # a version that is no number
            encode, content_type = choose_encoder("")
        return Response(HTTPStatus.OK, encode(self._registry), content_type)


class ControlServer(HttpServer):
    """GET /control/status and POST /control/<verb>, for the holder of the token."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        token: str,
        probe: Probe,
        commands: Commands,
        command_seconds: float = COMMAND_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("control server", host, port, self._reply)
        if not token:
            raise Stop("the control server needs a token: set K2_CONTROL_TOKEN")
        self._probe = probe
        self._commands = commands
        self._command_seconds = command_seconds
        self._guard = Guard(token, monotonic)

    def _reply(self, request: Request) -> Response:
        self._authenticate(request)
        if request.path == "/control/status":
            if request.method not in ("GET", "HEAD"):
                raise _not_allowed(request, "GET, HEAD")
            return json_response(HTTPStatus.OK, self._probe.status())
        prefix, _, verb = request.path.rpartition("/")
        if prefix != "/control" or verb not in VERBS:
            raise HttpError(
                HTTPStatus.NOT_FOUND, f"there are GET /control/status and POST /control/ {', '.join(VERBS)}"
            )
        if request.method != "POST":
            raise _not_allowed(request, "POST")
        try:
            arguments = parse(verb, request.body())
        except ValueError as error:  # msgspec's errors among them
            raise HttpError(HTTPStatus.BAD_REQUEST, f"{verb}: {error}") from error
        reply = self._command(verb, arguments)
        log.info("%s of %s: %d", verb, request.client, reply.status)
        return reply

    def _authenticate(self, request: Request) -> None:
        wait = self._guard.wait(request.client)
        if wait > 0:
            raise HttpError(HTTPStatus.TOO_MANY_REQUESTS, "too many wrong tokens", Retry_After=retry_after(wait))
        verdict = self._guard.judge(request.client, request.headers.get("Authorization", ""))
        if verdict is Verdict.GRANTED:
            return
        if verdict is Verdict.WRONG:
            log.warning("%s %r of %s refused: wrong token", request.method, request.path[:64], request.client)
        raise HttpError(
            HTTPStatus.UNAUTHORIZED,
            f"{verdict.value} token: send Authorization: Bearer <control token>",
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


def _not_allowed(request: Request, allowed: str) -> HttpError:
    return HttpError(
        HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} is not allowed here, {allowed} is", Allow=allowed
    )
