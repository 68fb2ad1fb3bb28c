"""What may go wrong with the simulated REST API, switched by a test or an operator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from ingest.simulator.rest_params import error_body
from ingest.simulator.segments import Row

_T = TypeVar("_T")

_HTML = "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n</body>\r\n</html>\r\n"
_PAGES = {403: "403 Forbidden", 502: "502 Bad Gateway", 504: "504 Gateway Time-out"}
_JSON = {
    418: (
        -1003,
        "Way too much request weight used; IP banned until {until_ms}. "
        "Please use WebSocket Streams for live updates to avoid bans.",
    ),
    429: (
        -1003,
        "Too much request weight used; current limit is {limit} request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API.",
    ),
    500: (-1001, "Internal error; unable to process your request. Please try again."),
    503: (-1008, "Server is currently overloaded with other requests. Please try again in a few minutes."),
}


def refusal_body(status: int, *, until_ms: int = 0, limit: int = 6000) -> tuple[bytes, str]:
    """Body and content type with which the exchange, or the firewall before it, answers a status."""
    if status in _PAGES:
        return _HTML.format(_PAGES[status]).encode(), "text/html"
    code, message = _JSON.get(status, (-1000, "An unknown error occurred while processing the request."))
    return error_body(code, message.format(until_ms=until_ms, limit=limit)), "application/json;charset=UTF-8"


TRUNCATIONS = ("turns", "hole", "tail")
"""Forms of a list that lacks trades."""


@dataclass(slots=True)
class Hole:
    """Ids that the next ``calls`` lists of a symbol's trades lack, among those that would have them."""

    symbol: str
    first: int
    last: int
    calls: int


@dataclass(slots=True)
class StaleDepth:
    """A book as it was, with which the next ``calls`` snapshots are answered."""

    calls: int
    update_id: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]


@dataclass(slots=True)
class RestFaults:
    """Switches; every number counts the calls that are still to be hit, and each hit takes one off.

    A negative number hits all calls until it is cleared. `only` restricts all of them to paths that start with it.
    """

    status: int | None = None
    """HTTP status for the next `remaining` calls: 403, 418, 429, 500, 502, 503, 504."""
    retry_after: int = 0
    """Seconds in the Retry-After header that goes with `status`; 0 for none."""
    remaining: int = 0
    """Calls that `status` still hits."""
    garbage: int = 0
    """Answers cut in the middle, so that they are not JSON."""
    hang: int = 0
    """Answers that never come."""
    truncate: int = 0
    """Lists of trades that are incomplete, in the way that ``form`` says."""
    form: str = "turns"
    """``hole``: without the middle; ``tail``: without the newer half; ``turns``: one after the other."""
    holes: list[Hole] = field(default_factory=list)
    stale: dict[str, StaleDepth] = field(default_factory=dict)
    """By symbol: snapshots that are out of date."""
    only: str = ""

    _holed: bool = False

    def refuse(self, status: int, *, calls: int = 1, retry_after: int = 0) -> None:
        """Answer the next calls with a status."""
        self.status, self.remaining, self.retry_after = status, calls, retry_after

    def clear(self) -> None:
        """Switch everything off."""
        self.status = None
        self.retry_after = self.remaining = self.garbage = self.hang = self.truncate = 0
        self.only, self.form = "", "turns"
        self.holes.clear()
        self.stale.clear()

    def take_stale(self, symbol: str) -> StaleDepth | None:
        """The snapshot that this call is answered with; None for the present one."""
        found = self.stale.get(symbol)
        if found is not None:
            found.calls -= 1
            if not found.calls:
                del self.stale[symbol]
        return found

    def take_hang(self, path: str) -> bool:
        """Whether this call is never answered."""
        if self.hang and path.startswith(self.only):
            self.hang -= self.hang > 0
            return True
        return False

    def take_status(self, path: str) -> int | None:
        """The status this call is refused with."""
        if self.status is None or not self.remaining or not path.startswith(self.only):
            return None
        self.remaining -= self.remaining > 0
        return self.status

    def spoil(self, path: str, body: bytes) -> bytes:
        """The body, or half of it."""
        if self.garbage and path.startswith(self.only):
            self.garbage -= self.garbage > 0
            return body[: max(1, len(body) // 2)]
        return body

    def without_holes(self, symbol: str, rows: Sequence[Row]) -> Sequence[Row]:
        """The trades without those that a hole hides."""
        for hole in list(self.holes):
            if hole.symbol != symbol:
                continue
            left = [row for row in rows if not hole.first <= row[0] <= hole.last]
            if len(left) < len(rows):
                rows = left
                hole.calls -= 1
                if not hole.calls:
                    self.holes.remove(hole)
        return rows

    def thin(self, path: str, items: Sequence[_T]) -> Sequence[_T]:
        """The list of trades, or an incomplete one; a list of one is left alone and not counted."""
        if not self.truncate or len(items) < 2 or not path.startswith(self.only):
            return items
        self.truncate -= self.truncate > 0
        self._holed = self.form == "hole" or (self.form == "turns" and not self._holed)
        third = len(items) // 3
        if self._holed and third:
            return (*items[:third], *items[len(items) - third :])
        return items[: len(items) // 2]
