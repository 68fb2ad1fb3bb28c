"""The threads that answer requests: a bounded number, and some more for trusted requests."""

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from http import HTTPStatus

from ingest.http.clients import Client
from ingest.http.limits import Limits
from ingest.http.messages import Handler, HttpError, error_response

log = logging.getLogger(__name__)

FULL = HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once", Retry_After="1")
CRASHED = HttpError(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error: see the log")


class Workers:
    """Runs the handler, a thread for each request. ``begin`` and ``finished`` are for the serving thread."""

    def __init__(self, name: str, handler: Handler, limits: Limits, wake: Callable[[], None]) -> None:
        """``wake`` is called from a request's thread when its response is there."""
        self._name = name
        self._handler = handler
        self._limits = limits
        self._wake = wake
        self._running = 0
        self._running_trusted = 0
        self._done: queue.SimpleQueue[tuple[Client, bytes, bool]] = queue.SimpleQueue()
        """Client, response, and whether it had a reserved place."""

    def begin(self, client: Client) -> bool:
        """Answer a complete request on a thread of its own. Returns False where no place is free for it."""
        reserved = self._running >= self._limits.running
        if not reserved:
            self._running += 1
        elif client.trusted and self._running_trusted < self._limits.reserved:
            self._running_trusted += 1
        else:
            return False
        client.phase = "run"
        worker = threading.Thread(target=self._run, args=(client, reserved), name=f"{self._name} request", daemon=True)
        try:
            worker.start()
        except RuntimeError as error:  # the container's limit of threads
            log.warning("%s: a request could not be begun: %s", self._name, error)
            self._finish(client, client.protocol.response(error_response(FULL)), reserved)
        return True

    def finished(self) -> Iterator[tuple[Client, bytes]]:
        """The responses that have been made since, each with its client, which may have left."""
        while True:
            try:
                client, output, reserved = self._done.get_nowait()
            except queue.Empty:
                return
            if reserved:
                self._running_trusted -= 1
            else:
                self._running -= 1
            yield client, output

    def _finish(self, client: Client, output: bytes, reserved: bool) -> None:  # noqa: FBT001 (of a thread)
        self._done.put((client, output, reserved))
        self._wake()

    def _run(self, client: Client, reserved: bool) -> None:  # noqa: FBT001 (a thread's argument)
        output = b""
        try:
            output = self._output(client)
        except Exception:
            log.exception("a request of %s failed", client.address)
            output = client.protocol.response(error_response(CRASHED))
        finally:  # whatever happens, the place is free again
            self._finish(client, output, reserved)

    def _output(self, client: Client) -> bytes:
        try:
            response = self._handler(client.protocol.request())
        except HttpError as error:
            response = error_response(error)
        output = client.protocol.response(response)
        client.held = response.held and client.protocol.body_error is None
        return output
