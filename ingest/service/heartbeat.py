"""Publishes a health snapshot every second and on each change of the role."""

import asyncio
import time
from dataclasses import dataclass

from ingest.binance.data_monitor import DataMonitor
from ingest.binance.feed import Feed
from ingest.core.role import Role
from ingest.metrics import Metrics
from ingest.service.health_probe import ServiceProbe, Snapshot, every_symbol_halted
from ingest.service.leadership import WriterLeadership
from ingest.service.pipeline import Pipeline
from ingest.service.status import StatusSources, status

BEAT_SECONDS = 1.0


@dataclass
class StartUp:
    """Since when symbols and schema are waited for, by the monotonic clock; None once both are known."""

    waiting_since: float | None


class Heartbeat:
    """Runs on the event loop: that a snapshot is recent shows that the loop runs."""

    def __init__(
        self,
        metrics: Metrics,
        pipeline: Pipeline,
        leadership: WriterLeadership,
        feed: Feed,
        data_monitor: DataMonitor,
        probe: ServiceProbe,
        sources: StatusSources,
        *,
        news: asyncio.Event,
        start_up: StartUp,
    ) -> None:
        """``news``: set when a snapshot is due at once."""
        self._metrics = metrics
        self._pipeline = pipeline
        self._leadership = leadership
        self._feed = feed
        self._data_monitor = data_monitor
        self._probe = probe
        self._sources = sources
        self._news = news
        self._start_up = start_up

    async def run(self) -> None:
        """Publish until cancelled; measure how late the event loop is."""
        due = time.monotonic()
        while True:
            now = time.monotonic()
            self._metrics.loop_lag.set(max(0.0, now - due))
            self._news.clear()
            self._pipeline.publish()
            self._set_fresh()
            self._probe.beat(self._snapshot(now))
            due = now + BEAT_SECONDS
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                continue
            due = time.monotonic()

    def _snapshot(self, now: float) -> Snapshot:
        return Snapshot(
            at=now,
            role=self._leadership.role,
            last_commit=self._leadership.last_commit,
            lease_seen=self._leadership.lease_seen,
            connections_live=sum(1 for connection in self._feed.status() if connection.live),
            status=status(self._sources),
            overdue=self._data_monitor.overdue,
            waiting_since=self._start_up.waiting_since,
            refusal=self._leadership.refusal,
            every_symbol_halted=every_symbol_halted(self._pipeline.sequencer.sequences.values()),
        )

    def _set_fresh(self) -> None:
        """Publish up to when the record is complete as far as this instance can tell."""
        leadership, overdue = self._leadership, self._data_monitor.overdue.seconds
        fresh = 0.0
        if leadership.role is Role.ACTIVE and leadership.last_commit_us:
            fresh = min(leadership.last_commit_us / 1e6, time.time_ns() / 1e9 - overdue)
        self._metrics.data_fresh.set(fresh)
