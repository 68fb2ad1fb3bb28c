"""Replaces connections of the streams besides the trades that stay open and deliver nothing.

A connection is compared with itself: so many frames were due by its rate that silence is no lull of the market. Silence
is counted in looks, so that a process that was paused suspects nothing. The trades' own detector asks history instead.
"""

import logging
import math
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
SILENT_LOOKS: Final = 5
DUE_FRAMES: Final = 250.0
"""In recordings at most 69 quotes were due in any silence."""
RATE_SECONDS: Final = 60.0
"""Over which a connection's rate is averaged."""


class Connection(Protocol):
    """A connection, as far as it is watched."""

    name: str
    frames: int
    """Received until now."""

    @property
    def delivers(self) -> bool:
        """Whether it is subscribed and data may come."""


class _Flow:
    __slots__ = ("frames", "rate", "silent")

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self.rate = 0.0
        self.silent = 0

    def look(self, frames: int) -> bool:
        """Whether so much was due since the last frame that the connection is stalled."""
        new, self.frames = frames - self.frames, frames
        if new:
            self.silent = 0
            self.rate += (new / LOOK_SECONDS - self.rate) * (1.0 - math.exp(-LOOK_SECONDS / RATE_SECONDS))
            return False
        self.silent += 1
        return self.silent >= SILENT_LOOKS and self.silent * LOOK_SECONDS * self.rate >= DUE_FRAMES


class StreamStalls:
    """Looks at the connections of all feeds."""

    def __init__(self, feeds: Callable[[], Iterable[Any]], *, stalled: Callable[[], None]) -> None:
        """``feeds`` are those of ``binance.feed``; ``stalled`` is called for each connection that is replaced."""
        self._feeds = feeds
        self._stalled = stalled
        self._flows: dict[Connection, _Flow] = {}

    def look(self) -> None:
        """Look once; every ``LOOK_SECONDS``."""
        present = [(feed, one) for feed in self._feeds() for one in feed.current() if one.delivers]
        self._flows = {one: self._flows.get(one) or _Flow(one.frames) for _, one in present}
        for feed, one in present:
            flow = self._flows[one]
            if flow.look(one.frames):
                log.warning(
                    "%s: stalled: open, but silent for %d s in which %d frames were due", one.name, flow.silent,
                    flow.silent * flow.rate, extra={"connection": one.name},
                )  # fmt: skip
                self._stalled()
                feed.rotate("stalled", one.name)
                flow.silent = 0
