"""Compares the machine's clock with the exchange's and logs a warning while they differ.

The time of ingestion of every record comes from this clock. It is compared at the start, every five minutes, and as
soon as the clock has been set: then it moves against the monotonic one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ingest.binance.server_time import ClockDifference
from ingest.core.clock import Clock
from ingest.core.errors import Retry

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0
CHECK_SECONDS = 300.0
RETRY_SECONDS = 10.0
"""Shortest pause before the next attempt if the exchange does not answer."""
STEP_SECONDS = 1.0
"""A clock that moves by more against the monotonic one within a poll has been set."""


class ClockCheck:
    """Checks the clock until cancelled. One warning for each time that it becomes wrong."""

    def __init__(
        self,
        measure: Callable[[], Awaitable[ClockDifference]],
        *,
        clock: Clock,
        on_measured: Callable[[float], None] = lambda _: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``measure`` raises ``Retry`` if the exchange does not answer.

        ``on_measured`` gets the seconds by which the clock is ahead, each time that it was compared.
        """
        self._measure = measure
        self._clock = clock
        self._on_measured = on_measured
        self._sleep = sleep
        self._due = clock.monotonic()
        self._offset = self._read_offset()
        self._wrong = False

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self.step()
            await self._sleep(POLL_SECONDS)

    async def step(self) -> None:
        """Compare the clocks if that is due or the clock has been set."""
        offset = self._read_offset()
        stepped = abs(offset - self._offset) > STEP_SECONDS
        self._offset = offset
        if stepped:
            self._due = self._clock.monotonic()
        if self._clock.monotonic() < self._due:
            return
        try:
            difference = await self._measure()
        except Retry as error:
            self._due = self._clock.monotonic() + max(RETRY_SECONDS, error.after)
            return  # the REST client has logged why
        self._due = self._clock.monotonic() + CHECK_SECONDS
        self._on_measured(difference.ahead)
        self._report(difference)

    def _report(self, difference: ClockDifference) -> None:
        fields = {"ahead_seconds": round(difference.ahead, 3)}
        if difference.wrong and not self._wrong:
            log.warning("%s: records carry a wrong time of ingestion; set the clock by NTP", difference, extra=fields)
        elif self._wrong and not difference.wrong:
            log.info("this machine's clock agrees with the exchange's again", extra=fields)
        self._wrong = difference.wrong

    def _read_offset(self) -> float:
        return self._clock.time_ns() / 1e9 - self._clock.monotonic()
