"""Listens on one address, reads requests on one thread and answers them on a bounded number of others.

A client can cost no more than a bounded number of connections and bytes: heads and bodies are bounded, each step has a
deadline, and where connections run out the oldest that has not sent a request yet is closed. So a stranger who opens
connections and is silent, or sends a byte now and then, cannot keep other clients out.
"""

import contextlib
import logging
import math
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from ingest.core.errors import Stop
from ingest.http.clients import Client, Clients
from ingest.http.connection import State
from ingest.http.limits import POLL_SECONDS, Limits
from ingest.http.messages import Handler, HttpError, Request, error_response
from ingest.http.workers import CRASHED, FULL, Workers

log = logging.getLogger(__name__)

RECEIVE_BYTES = 16 * 1024
ACCEPTS_AT_ONCE = 32
DISPLACED = b"displaced\n"
"""The last line of a held response that ends although the process goes on."""

Trusted = Callable[[Request], bool]
"""Whether a request may use the reserved handlers. Called on the serving thread: must be quick and count nothing."""


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket. Raises ``OSError`` or ``OverflowError``."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


class HttpServer:
    """Serves while its ``with`` block runs. Raises ``Stop`` where the address cannot be had.

    ``trusted`` names the requests that use the reserved handlers. ``check`` may refuse any request (``HttpError``)
    before it reaches the handler.
    """

    def __init__(
        self,
        name: str,
        host: str,
        port: int,
        handler: Handler,
        *,
        trusted: Trusted = lambda _: False,
        check: Callable[[Request], None] = lambda _: None,
        limits: Limits = Limits(),  # noqa: B008 (frozen)
    ) -> None:
        self._name = name
        self._host = host
        self._port = port
        self._trusted = trusted
        self._check = check
        self._limits = limits
        self._address: tuple[str, int] | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._clients = Clients(limits)
        self._waiting: deque[Client] = deque()
        self._workers = Workers(name, handler, limits, self._wake)
        self._accept_after = 0.0

    @property
    def url(self) -> str:
        """The address as seen from this machine: a wildcard address is given as loopback."""
        if self._address is None:
            raise Stop(f"the {self._name} is not open: use it in a with block")
        port = self._address[1]
        host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(self._host, self._host)  # noqa: S104 (replaced)
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        try:
            listener = listen(self._host, self._port)
        except (OSError, OverflowError) as error:
            raise Stop(
                f"{self._name}: cannot listen on {self._host}:{self._port}: {error}. Choose another host or port."
            ) from error
        self._address = listener.getsockname()
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        for one in (listener, self._wake_reader, self._wake_writer):
            one.settimeout(0)
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
        self._thread.start()
        log.info("%s on %s", self._name, self.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread is None:
            return
        self._closing.set()
        self._wake()
        self._thread.join()
        self._address = None

    # --- the serving thread ---

    def _serve(self) -> None:
        try:
            while not self._closing.is_set():
                self._turn()
            self._finish()
        finally:
            for client in self._clients:
                self._close(client)
            for one in (self._listener, self._wake_reader, self._wake_writer):
                one.close()
            self._selector.close()

    def _finish(self) -> None:
        """Let responses under way leave, for a bounded time."""
        self._selector.unregister(self._listener)
        self._listener.close()
        end = time.monotonic() + self._limits.close_seconds
        while time.monotonic() < end and any(one.phase in ("run", "wait", "send") for one in self._clients):
            self._turn()

    def _turn(self) -> None:
        for key, events in self._selector.select(POLL_SECONDS):
            if key.fileobj is self._listener:
                self._accept()
            elif key.fileobj is self._wake_reader:
                self._collect()
            else:
                client = self._clients.get(key.fileobj)
                if client is not None:
                    self._guarded(client, lambda one, events=events: self._ready(one, events))  # type: ignore[misc]
        self._expire()
        self._dispatch()

    def _guarded(self, client: Client, step: Callable[[Client], None]) -> None:
        """Do a step of one client. An error in it costs that client its connection, and no other client anything."""
        try:
            step(client)
        except Exception:
            log.exception("a connection of %s failed", client.address)
            self._close(client)

    def _accept(self) -> None:
        if time.monotonic() < self._accept_after:
            time.sleep(0.01)  # the listener stays readable meanwhile
            return
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                connection, address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:  # out of file descriptors: without a pause this thread would spin
                log.warning("%s: a connection could not be accepted: %s", self._name, error)
                self._accept_after = time.monotonic() + 0.1
                self._close(self._clients.gives_way())
                return
            connection.settimeout(0)
            self._close(self._clients.before_accept(str(address[0])))
            if len(self._clients) >= self._limits.connections:  # all of them are the holder's, or for health
                connection.close()
                continue
            client = Client(connection, str(address[0]), time.monotonic() + self._limits.head_seconds)
            self._clients.add(client)
            self._selector.register(connection, selectors.EVENT_READ)
            self._guarded(client, self._read)

    def _ready(self, client: Client, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._send(client)
        elif client.phase in ("linger", "hold"):
            self._drop(client)
        else:
            self._read(client)

    def _read(self, client: Client) -> None:
        try:
            data = client.socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._close(client)
            return
        reply = client.protocol.receive(data)
        if reply:
            with contextlib.suppress(OSError):
                client.socket.send(reply)
        if client.protocol.state is State.CLOSED:
            self._close(client)
        elif client.protocol.state is State.READY:
            self._complete(client)
        elif client.protocol.state is State.HEAD:
            client.phase = "head"
        elif client.phase != "body":
            self._expect_body(client)

    def _expect_body(self, client: Client) -> None:
        """The head is complete, the body is not."""
        client.phase = "body"
        client.deadline = time.monotonic() + self._limits.body_seconds
        self._clients.head_complete(client)
        # A bounded number: on the status port a path that every client may ask for counts as trusted.
        client.trusted = self._clients.protected() < self._limits.protected and self._holds_token(client)
        if not self._admitted(client):
            client.protocol.refuse(FULL)
            self._complete(client)

    def _holds_token(self, client: Client) -> bool:
        try:
            return self._trusted(client.protocol.request())
        except Exception:
            log.exception("a request of %s could not be checked", client.address)
            return False

    def _admitted(self, client: Client) -> bool:
        """Whether a request with a complete head has a place, which another connection may have to leave for it."""
        victim = self._clients.over_answers(client, time.monotonic())
        if victim is not client:
            self._close(victim)
        return victim is not client

    def _complete(self, client: Client) -> None:
        """A request is complete, or refused: stop reading it."""
        client.phase = "wait"
        self._clients.head_complete(client)
        self._selector.unregister(client.socket)
        if client.protocol.refusal is not None:
            self._answer(client, client.protocol.refused())
            return
        try:
            request = client.protocol.request()
            self._check(request)
            client.trusted = self._trusted(request)  # also beyond the bound of protected ones: it is complete
        except HttpError as error:
            self._answer(client, client.protocol.response(error_response(error)))
            return
        except Exception:
            log.exception("a request of %s could not be checked", client.address)
            self._answer(client, client.protocol.response(error_response(CRASHED)))
            return
        if not self._admitted(client):
            self._answer(client, client.protocol.response(error_response(FULL)))
            return
        self._waiting.append(client)
        self._dispatch()
        refused = self._clients.over_waiting(self._waiting)
        if refused is not None:
            self._waiting.remove(refused)
            self._answer(refused, refused.protocol.response(error_response(FULL)))

    def _dispatch(self) -> None:
        """Give waiting requests to handlers, those of the holder of a token first."""
        for client in sorted(self._waiting, key=lambda one: not one.trusted):
            if not self._workers.begin(client):
                return
            self._waiting.remove(client)

    def _collect(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_reader.recv(1024):
                pass
        for client, output in self._workers.finished():
            if client.phase == "run":
                self._answer(client, output)

    def _answer(self, client: Client, output: bytes) -> None:
        client.phase = "send"
        client.output = memoryview(output)
        client.progress = time.monotonic()
        client.deadline = client.progress + self._limits.send_seconds
        self._selector.register(client.socket, selectors.EVENT_WRITE)
        self._send(client)
        while (victim := self._clients.over_unsent(client, client.progress)) is not None:
            self._close(victim)

    def _send(self, client: Client) -> None:
        try:
            sent = client.socket.send(client.output)
        except BlockingIOError:
            return
        except OSError as error:
            log.debug("%s left: %r", client.address, error)
            self._close(client)
            return
        client.took(sent, time.monotonic())
        if client.output:
            return
        if client.held:
            self._hold(client)
            return
        if not client.protocol.unread:
            self._close(client)
            return
        # Closing over unread bytes resets the connection, and the client would never see why it was refused.
        client.phase = "linger"
        client.deadline = time.monotonic() + self._limits.linger_seconds
        with contextlib.suppress(OSError):
            client.socket.shutdown(socket.SHUT_WR)
        self._selector.modify(client.socket, selectors.EVENT_READ)

    def _hold(self, client: Client) -> None:
        """Leave the connection open: the operating system closes it when this process ends, however it ends."""
        client.phase = "hold"
        client.deadline = math.inf
        self._selector.modify(client.socket, selectors.EVENT_READ)
        displaced = self._clients.over_held()
        if displaced is not None:
            with contextlib.suppress(OSError):
                displaced.socket.send(DISPLACED)
            self._close(displaced)

    def _drop(self, client: Client) -> None:
        try:
            if client.socket.recv(RECEIVE_BYTES) and client.phase == "linger":
                return
        except BlockingIOError:
            return
        except OSError as error:
            log.debug("%s left: %r", client.address, error)
        self._close(client)

    def _expire(self) -> None:
        now = time.monotonic()
        for client in [one for one in self._clients if one.deadline <= now and one.phase not in ("wait", "run")]:
            if client.phase == "body":
                client.protocol.expire()
                self._guarded(client, self._complete)
            else:
                self._close(client)

    def _close(self, client: Client | None) -> None:
        if client is None:
            return
        self._clients.remove(client)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(client.socket)
        if client in self._waiting:
            self._waiting.remove(client)
        client.phase = "closed"
        client.socket.close()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # closed, or so full that it will wake anyway
            self._wake_writer.send(b"\0")
