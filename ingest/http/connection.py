"""One connection without I/O: bytes in, a request or a refusal out, bytes of one response, then the end.

HTTP/1.1 is parsed by h11. A connection carries one request, so that nothing is kept between two of them.
"""

from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus

import h11

from ingest.http.messages import HttpError, Request, Response, error_response

MAX_HEAD = 16 * 1024
"""Bytes of the request line and all headers; more is answered with 431 before it is kept."""
MAX_HEADERS = 100
MAX_BODY = 64 * 1024
"""Bytes; a longer body is refused with 413 before it is read."""
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class State(Enum):
    """Where a connection stands."""

    HEAD = "reading the head"
    BODY = "reading the body"
    READY = "a request is complete"
    CLOSED = "nothing more is read"


class ServerConnection:
    """Parses one request. ``receive`` never raises: a bad request becomes a refusal, see ``refusal``."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.state = State.HEAD
        self.refusal: HttpError | None = None
        """Why the request is refused without calling a handler."""
        self.body_error: HttpError | None = None
        """Why the body cannot be had; raised where a handler reads it."""
        self.head: h11.Request | None = None
        self._parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        self._body = bytearray()
        self._headers: dict[str, str] = {}

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers by lower-case name, once the head is complete; of repeated ones the values joined by a comma."""
        return self._headers

    @property
    def unread(self) -> bool:
        """Whether the client may still be sending: closing at once would reset the connection under our response."""
        return self.refusal is not None or self.body_error is not None

    def receive(self, data: bytes) -> bytes:
        """Take bytes of the client, ``b""`` at the end of its stream; return bytes to send at once (100 Continue)."""
        if self.state in (State.READY, State.CLOSED):
            return b""
        try:
            self._parser.receive_data(data)
            return self._events()
        except (h11.RemoteProtocolError, ValueError) as error:
            self.refuse(_protocol_error(error))
        return b""

    def expire(self) -> None:
        """The time for reading is over."""
        if self.state is State.BODY:
            self.body_error = HttpError(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time")
            self.state = State.READY
        elif self.state is State.HEAD:
            self.refuse(HttpError(HTTPStatus.REQUEST_TIMEOUT, "the headers did not arrive in time"))

    def request(self) -> Request:
        """The complete request. Valid in the state READY without a refusal."""
        if self.head is None:
            raise RuntimeError("no request yet")
        target = self.head.target.decode("latin-1")
        return Request(
            self.head.method.decode("ascii"), target.partition("?")[0], self._headers, self.client, self._read_body
        )

    def response(self, response: Response) -> bytes:
        """The bytes of a response, the body left out for HEAD."""
        head_only = self.head is not None and self.head.method == b"HEAD"
        headers = {
            "Content-Type": response.content_type,
            "Content-Length": str(len(response.body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "Connection": "close",
            "Server": "k2-ingest",
            **response.headers,
        }
        if response.held:
            del headers["Content-Length"]  # the body ends with the connection
        reason = HTTPStatus(response.status).phrase
        lines = [f"HTTP/1.1 {response.status} {reason}", *(f"{name}: {value}" for name, value in headers.items())]
        self.state = State.CLOSED
        return "\r\n".join([*lines, "", ""]).encode("latin-1", "replace") + (b"" if head_only else response.body)

    def refused(self) -> bytes:
        """The bytes of the response to a refused request."""
        if self.refusal is None:
            raise RuntimeError("the request is not refused")
        return self.response(error_response(self.refusal))

    def refuse(self, error: HttpError) -> None:
        """Read nothing more: the request is answered with an error."""
        self.refusal = error
        self.state = State.READY

    def _read_body(self) -> bytes:
        if self.body_error is not None:
            raise self.body_error
        return bytes(self._body)

    def _events(self) -> bytes:
        while True:
            event = self._parser.next_event()
            match event:
                case h11.Request():
                    reply = self._begin(event)
                    if self.state is State.READY:
                        return b""
                    if reply:
                        return reply
                case h11.Data(data=data):
                    self._body += data
                case h11.EndOfMessage():
                    self.state = State.READY
                    return b""
                case h11.ConnectionClosed():
                    self.state = State.CLOSED
                    return b""
                case _:  # NEED_DATA, PAUSED
                    return b""

    def _begin(self, event: h11.Request) -> bytes:
        """Take the head; decide what happens with the body. Returns 100 Continue where the client waits for it."""
        self.head = event
        self.state = State.BODY
        for name, value in event.headers:
            key, text = name.decode("ascii"), value.decode("latin-1")
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text
        if len(event.headers) > MAX_HEADERS:
            self.refuse(HttpError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"at most {MAX_HEADERS} headers"))
        elif event.method.decode("ascii") not in METHODS:
            self.refuse(HttpError(HTTPStatus.NOT_IMPLEMENTED, "the method is not known"))
        elif "transfer-encoding" in self._headers:
            self._without_body(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length instead of a Transfer-Encoding")
        elif int(self._headers.get("content-length", "0")) > MAX_BODY:
            self._without_body(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body may have at most {MAX_BODY} bytes")
        elif self._parser.they_are_waiting_for_100_continue:
            return CONTINUE
        return b""

    def _without_body(self, status: HTTPStatus, text: str) -> None:
        self.body_error = HttpError(status, text)
        self.state = State.READY


def _protocol_error(error: Exception) -> HttpError:
    try:
        status = HTTPStatus(getattr(error, "error_status_hint", HTTPStatus.BAD_REQUEST))
    except ValueError:
        status = HTTPStatus.BAD_REQUEST
    if status is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        return HttpError(status, f"the request line and headers may have at most {MAX_HEAD} bytes")
    return HttpError(status, f"not a valid HTTP/1.1 request: {error}")
