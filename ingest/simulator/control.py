"""Control messages of the streams: SUBSCRIBE and the like, with the replies and errors Binance documents. Pure.

Texts follow the documentation of the streams; that errors come nested under ``error`` is what clients report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from ingest.simulator.rules import ErrorShape

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")

_STREAM = re.compile(r"[^\s@/!\"]{1,60}@[A-Za-z0-9_@:+.\-]{1,40}|![A-Za-z0-9_@:+.\-]{1,60}")
_ID = re.compile(r"[A-Za-z0-9_\-]{0,36}")


class ControlError(Exception):
    """A refusal: Binance's code and text."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Answer(NamedTuple):
    """The reply, and what the message changed: streams that came and went."""

    reply: bytes
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


def valid_stream(name: object) -> bool:
    """Whether a stream name has the form of one; the symbol need not exist."""
    return isinstance(name, str) and _STREAM.fullmatch(name) is not None


class Control:
    """What one connection is subscribed to, and the answers to its messages."""

    def __init__(
        self, streams: Iterable[str], *, combined: bool, limit: int = 1024, error_shape: ErrorShape = "nested"
    ) -> None:
        self.streams: dict[str, None] = dict.fromkeys(streams)
        self.combined = combined
        self._limit = limit
        self._shape = error_shape

    def handle(self, text: bytes) -> Answer:
        """Answer one message."""
        request_id: Any = None
        try:
            message = _parse(text)
            request_id = _request_id(message, len(text))
            return self._act(message, request_id)
        except ControlError as error:
            return Answer(self.error(error, request_id))

    def error(self, error: ControlError, request_id: Any = None) -> bytes:
        """An error in the shape that is switched on."""
        body: dict[str, Any] = {"code": error.code, "msg": error.message}
        if self._shape == "nested":
            return _compact({"error": body, "id": request_id} if request_id is not None else {"error": body})
        return _compact(body | ({"id": request_id} if request_id is not None else {}))

    def _act(self, message: dict[str, Any], request_id: Any) -> Answer:
        params = message.get("params", [])
        result: Any = None
        added: tuple[str, ...] = ()
        removed: tuple[str, ...] = ()
        match message["method"]:
            case "SUBSCRIBE":
                added = tuple(name for name in dict.fromkeys(_streams(params)) if name not in self.streams)
                if len(self.streams) + len(added) > self._limit:
                    raise ControlError(2, "Invalid request: too many streams")
                self.streams.update(dict.fromkeys(added))
            case "UNSUBSCRIBE":
                removed = tuple(name for name in dict.fromkeys(_streams(params)) if name in self.streams)
                for name in removed:
                    del self.streams[name]
            case "LIST_SUBSCRIPTIONS":
                if params:
                    raise ControlError(2, "Invalid request: too many parameters")
                result = list(self.streams)
            case "GET_PROPERTY":
                _property(params, 1)
                result = self.combined
            case _:
                _property(params, 2)
                if len(params) < 2 or not isinstance(params[1], bool):
                    raise ControlError(1, "Invalid value type: expected Boolean")
                self.combined = params[1]
        return Answer(_compact({"result": result, "id": request_id}), added, removed)


def _parse(text: bytes) -> dict[str, Any]:
    try:
        message = json.loads(text)
    except json.JSONDecodeError as error:
        raise ControlError(
            3, f"Invalid JSON: expected value at line {error.lineno} column {max(1, error.colno)}"
        ) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise ControlError(3, "Invalid JSON: expected value at line 1 column 1") from error
    if not isinstance(message, dict):
        raise ControlError(2, f"Invalid request: missing field `method` at line 1 column {len(text)}")
    return message


def _request_id(message: dict[str, Any], length: int) -> Any:
    """Check method and id; the id."""
    wrong = ControlError(2, "Invalid request: request ID must be an unsigned integer")
    request_id = message.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, int | str | None):
        raise wrong
    if isinstance(request_id, str) and not _ID.fullmatch(request_id):
        raise wrong
    if isinstance(request_id, int) and not -(2**63) <= request_id < 2**63:
        raise wrong
    method = message.get("method")
    if method is None:
        raise ControlError(2, f"Invalid request: missing field `method` at line 1 column {length}")
    if method not in METHODS:
        named = ", ".join(f"`{name}`" for name in METHODS)
        raise ControlError(
            2, f"Invalid request: unknown variant `{method}`, expected one of {named} at line 1 column {length}"
        )
    if "id" not in message:
        raise wrong
    return request_id


def _streams(params: Any) -> list[str]:
    if not isinstance(params, list) or not params or not all(valid_stream(name) for name in params):
        raise ControlError(2, "Invalid request: invalid stream")
    return params


def _property(params: Any, most: int) -> None:
    if not isinstance(params, list) or not params or not isinstance(params[0], str):
        raise ControlError(2, "Invalid request: property name must be a string")
    if len(params) > most:
        raise ControlError(2, "Invalid request: too many parameters")
    if params[0] != "combined":
        raise ControlError(0, "Unknown property")


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
