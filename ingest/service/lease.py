"""When a standby takes over by itself: no instance writes, none has committed for a lease, or its process has ended.

A take-over goes through the transactional id, which is the only lock (decision 2): an unnecessary one costs a hand-over
and loses no trade.
"""

import asyncio
import logging
from collections.abc import Callable

from ingest.core.role import Role
from ingest.service.leadership import WriterLeadership
from ingest.settings import Settings

log = logging.getLogger(__name__)

LOOKS_PER_LEASE = 20


class Lease:
    """Watches the commits of the writer from an instance that stands by."""

    def __init__(self, settings: Settings, leadership: WriterLeadership, monotonic: Callable[[], float]) -> None:
        self._settings = settings.service
        self._leadership = leadership
        self._monotonic = monotonic
        self._due = asyncio.Event()
        self._watching = False
        self._ended: set[str] = set()
        """Instances whose process has ended since the last look."""
        self._generation = 0
        """The writer's, at the last look; 0 before the first."""
        self._not_before = 0.0
        """A report of an ended process counts from then on (monotonic)."""

    def process_ended(self, instance: str) -> None:
        """Take over now if this instance stands by and that one wrote last: its process has ended (on the loop).

        What is reported before this instance can write says nothing: another process may write since.
        """
        if self._watching:
            self._ended.add(instance)
            self._due.set()

    async def run(self) -> None:
        """Take over at the start if there is no other writer, and later as the module says. Ends in other modes."""
        if self._settings.start_mode != "auto":
            return
        leadership = self._leadership
        await leadership.first_state.wait()
        await leadership.ready_to_write.wait()
        writer = leadership.state.writer if leadership.state is not None else None
        if writer is None or leadership.layout.vacant or writer.instance == self._settings.instance_id:
            leadership.take_over(None)
        else:
            log.info("instance %s (generation %d) wrote last; standing by", writer.instance, writer.generation)
        lease = self._settings.takeover_after_seconds
        self._watching = True
        while True:
            before = self._monotonic()
            await self._wait(lease / LOOKS_PER_LEASE)
            now = self._monotonic()
            if now - before > lease / 2:
                # Frozen, and thawed just now: what the writer did meanwhile has yet to be read.
                leadership.lease_seen = now
            self._look(now)

    def _look(self, now: float) -> None:
        leadership, lease = self._leadership, self._settings.takeover_after_seconds
        ended = leadership.writer_instance in self._ended
        self._ended.clear()
        if leadership.generation != self._generation:
            if self._generation:
                # A network that cuts connections must not make two instances take turns without a pause.
                self._not_before = now + lease
            self._generation = leadership.generation
        if leadership.role is not Role.STANDBY or leadership.auto_takeover_disabled or leadership.refusal:
            return
        silent = now - leadership.lease_seen
        if leadership.layout.vacant or silent >= lease:
            log.warning("no commit by any instance for %.1f s: taking over", silent)
            leadership.take_over(None)
        elif ended and now >= self._not_before:
            log.warning("the process of %s, which wrote last, has ended: taking over", leadership.writer_instance)
            leadership.take_over(None)

    async def _wait(self, seconds: float) -> None:
        """Wait so long, or until the end of a process is reported."""
        timer = asyncio.get_running_loop().call_later(seconds, self._due.set)
        try:
            await self._due.wait()
        finally:
            timer.cancel()
        self._due.clear()
