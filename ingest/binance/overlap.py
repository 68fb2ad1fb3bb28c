"""When the successor may take over from the old connection. Pure: tracks and the time go in, a verdict comes out.

The old connection is left only when every symbol that trades on it now has been seen on the new one without a hole in
between, so that a rotation costs neither a trade nor a REST call. Silence of a symbol proves nothing and is not waited
for beyond the minimum: both connections are subscribed to it.
"""

from collections.abc import Callable, Mapping
from typing import Literal

Verdict = Literal["wait", "switch", "keep"]

ACTIVE_SECONDS = 5.0
"""A symbol is active while its last trade is younger than this."""
MINIMUM_SECONDS = 1.0
"""Both run together at least this long: a confirmed subscription may take a moment to deliver."""


class SymbolProgress:
    """What one connection has seen of one symbol; times are monotonic seconds."""

    __slots__ = ("first_id", "last_id", "seen", "symbol", "unreported")

    def __init__(self, symbol: str, first_id: int) -> None:
        self.symbol = symbol
        self.first_id = first_id
        self.last_id = first_id
        self.seen = 0.0
        self.unreported = 0
        """Trades not yet counted in the metrics."""


class Overlap:
    """Judges one overlap, from the moment the successor is live."""

    def __init__(self, *, started: float, maximum: float, forced: bool, is_desired: Callable[[str], bool]) -> None:
        """``forced``: the old connection is known to be bad or about to end, so a doubtful successor is better.

        ``is_desired`` tells whether a symbol is still to be recorded; ``maximum`` is in seconds.
        """
        self._started = started
        self._maximum = maximum
        self._active = min(ACTIVE_SECONDS, maximum / 2)
        self._minimum = min(MINIMUM_SECONDS, maximum / 4)
        self._forced = forced
        self._is_desired = is_desired

    def judge(self, old: Mapping[str, SymbolProgress], new: Mapping[str, SymbolProgress], now: float) -> Verdict:
        """``switch``: leave the old one; ``keep``: leave the successor, it does not deliver; ``wait``: ask again."""
        elapsed = now - self._started
        if elapsed < self._minimum:
            return "wait"
        unbridged = self._unbridged(old, new, now)
        if unbridged is None and new:
            return "switch"
        if elapsed < self._maximum:
            return "wait"
        if unbridged is None:
            # Neither delivers: waiting proves nothing, switching loses nothing.
            return "switch"
        if not new:
            return "keep"
        return "keep" if unbridged not in new and not self._forced else "switch"

    def _unbridged(
        self, old: Mapping[str, SymbolProgress], new: Mapping[str, SymbolProgress], now: float
    ) -> str | None:
        """A symbol that trades on the old connection and is not continued on the new one; the unseen ones first."""
        behind = None
        for symbol, track in old.items():
            if now - track.seen > self._active or not self._is_desired(symbol):
                continue
            successor = new.get(symbol)
            if successor is None:
                return symbol
            if successor.first_id > track.last_id + 1:
                behind = symbol
        return behind
