"""Durations of the stages of an operation."""

from collections.abc import Callable


class StageTimer:
    """Measures consecutive stages by a monotonic clock, in seconds."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._began = self._last = monotonic()
        self.stages: dict[str, float] = {}

    def end(self, stage: str) -> None:
        """End a stage; it began where the previous one ended."""
        now = self._monotonic()
        self.stages[stage] = now - self._last
        self._last = now

    @property
    def total(self) -> float:
        """Seconds since the timer was made."""
        return self._monotonic() - self._began
