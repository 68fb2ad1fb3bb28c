"""Requests and responses as handlers see them."""

import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

JSON = "application/json; charset=utf-8"


class HttpError(Exception):
    """The request is answered with ``status`` and ``{"error": text}``."""

    def __init__(self, status: HTTPStatus, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Request(msgspec.Struct, frozen=True):
    """One request. Header names are in lower case; ``client`` is the address of the peer.

    ``body()`` returns the body; it raises ``HttpError`` where the body is too long, incomplete or late.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    client: str
    body: Callable[[], bytes]

    def header(self, name: str) -> str:
        """Return a header's value, empty where it is absent."""
        return self.headers.get(name.lower(), "")


class Response(msgspec.Struct, frozen=True):
    """What a handler returns."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: dict[str, str] = {}
    held: bool = False
    """Keep the connection open after the body, until this process ends, its client leaves or others displace it."""


Handler = Callable[[Request], Response]
"""Called on a thread of its own. May raise ``HttpError``; any other exception is logged and answered with 500."""


def json_response(status: int, content: Any, headers: dict[str, str] | None = None) -> Response:
    """Return ``content`` as JSON; a type that JSON does not have is written as text."""
    return Response(status, msgspec.json.encode(content, enc_hook=str) + b"\n", headers=headers or {})


def error_response(error: HttpError) -> Response:
    """Return the response for a refused request."""
    return json_response(error.status, {"error": str(error)}, error.headers)


def not_allowed(request: Request, allowed: str) -> HttpError:
    """Return the refusal (405) of a method where only ``allowed`` (``GET, HEAD``) are answered."""
    return HttpError(
        HTTPStatus.METHOD_NOT_ALLOWED, f"{request.method} is not allowed here, {allowed} is", Allow=allowed
    )


def retry_after(seconds: float) -> str:
    """Return the value of the header Retry-After: whole seconds, at least one."""
    return str(max(1, math.ceil(seconds)))
