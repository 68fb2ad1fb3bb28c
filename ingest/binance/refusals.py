"""What a refusal of the REST API means: for which request, which address, and how long. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

from ingest.core.errors import Retry

UNKNOWN_SYMBOL: Final = -1121
BAD_REQUEST_SECONDS: Final = 60.0
FORBIDDEN_SECONDS: Final = 300.0
FORBIDDEN_FIRST_SECONDS: Final = 10.0
"""How long a request is not repeated after its first 403; doubled with each further one, to ``FORBIDDEN_SECONDS``."""
FORBIDDEN_REQUESTS: Final = 3
"""So many different requests refused with 403, and none answered in between, concern the address."""
MOST_FORBIDDEN: Final = 256
_DEFAULT: Final = {429: 60.0, 418: 120.0, 403: FORBIDDEN_SECONDS, 451: FORBIDDEN_SECONDS}
"""Seconds without a usable ``Retry-After``; the shortest ban is two minutes [rest]."""
_LONGEST: Final = {429: 600.0, 418: 3 * 86_400.0, 403: 3600.0, 451: 3600.0}
"""The longest ban is three days [rest]; what counts weight counts it by the minute."""
_LONGEST_OTHER: Final = 300.0
"""For a failure (5xx), which is no ban."""


class RequestRefused(Retry):
    """The exchange refuses this request, not us: the same request soon will not help."""


class BadRequest(RequestRefused):
    """HTTP 400, with the exchange's code [rest]."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"refused: {code} {message}", after=BAD_REQUEST_SECONDS)
        self.code = code


class Forbidden(RequestRefused):
    """HTTP 403: a firewall's word about this request [rest]."""

    def __init__(self, path: str, *, after: float) -> None:
        super().__init__(f"{path}: HTTP 403 for this request", after=after)


class ErrorBody(msgspec.Struct):
    """The exchange's account of an error."""

    code: int = 0
    msg: str = ""


_decode = msgspec.json.Decoder(ErrorBody).decode


def error_body(body: bytes) -> ErrorBody:
    """Read an error's body, whatever it is."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorBody(0, body[:100].decode("utf-8", "replace"))


def bounded_retry_after(status: int, header: str) -> float:
    """Return for how many seconds an address with this answer is not to be used; 0.0 where it does not say so.

    ``Retry-After`` counts where it is a number of whole seconds [rest], within the bounds of the status.
    """
    text = header.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        return _DEFAULT.get(status, 0.0)
    return min(max(1.0, float(text)), _LONGEST.get(status, _LONGEST_OTHER))


class ForbiddenRequests:
    """Requests that an address has refused with 403. The refusal is held against the request first."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}
        self._seconds: dict[tuple[str, str], float] = {}
        """How long each was held the last time."""
        self._in_a_row: dict[str, set[str]] = {}

    def add(self, url: str, path: str, params: Mapping[str, str], now: float) -> bool:
        """Note a refusal; return whether it concerns the address by now."""
        request = _request(path, params)
        self._until = {key: until for key, until in self._until.items() if until + FORBIDDEN_SECONDS > now}
        if len(self._until) >= MOST_FORBIDDEN:
            del self._until[next(iter(self._until))]
        self._seconds = {key: seconds for key, seconds in self._seconds.items() if key in self._until}
        seconds = min(FORBIDDEN_SECONDS, 2 * self._seconds.get((url, request), FORBIDDEN_FIRST_SECONDS / 2))
        self._seconds[url, request] = seconds
        self._until[url, request] = now + seconds
        row = self._in_a_row.setdefault(url, set())
        row.add(request)
        if len(row) < FORBIDDEN_REQUESTS:
            return False
        row.clear()
        return True

    def worked(self, url: str) -> None:
        """Note that this address has answered a request."""
        self._in_a_row.pop(url, None)

    def holds(self, url: str, path: str, params: Mapping[str, str], now: float) -> float:
        """Return for how many seconds this request is not to be sent to this address."""
        return max(0.0, self._until.get((url, _request(path, params)), now) - now)


def _request(path: str, params: Mapping[str, str]) -> str:
    return f"{path}?{'&'.join(f'{name}={value}' for name, value in sorted(params.items()))}"
