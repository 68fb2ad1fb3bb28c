"""Time as an argument: what a clock must offer. The module ``time`` is one; tests bring their own."""

from typing import Protocol


class Clock(Protocol):
    """Intervals are measured with ``monotonic`` alone, so that a step of the wall clock moves nothing."""

    def monotonic(self) -> float:
        """Seconds; never steps."""

    def time_ns(self) -> int:
        """Nanoseconds since the epoch, for stamps."""
