"""Hands batches to the writer thread: full ones at once, others each commit interval."""

import asyncio
from collections.abc import Callable

from ingest.core.errors import IngestError
from ingest.kafka.writer_thread import WriterThread
from ingest.service.pipeline import Pipeline
from ingest.settings import Settings

IN_FLIGHT = 2
"""Batches with the writer at once: one in its transaction, one ready for the next."""


class BatchDispatcher:
    """Dispatches while the leadership allows it. All calls on the loop."""

    def __init__(
        self, settings: Settings, pipeline: Pipeline, writer: WriterThread, *, monotonic: Callable[[], float]
    ) -> None:
        self._interval = settings.kafka.commit_interval_ms / 1000
        self._pipeline = pipeline
        self._writer = writer
        self._monotonic = monotonic
        self._wake = asyncio.Event()
        self._last_submit = 0.0
        self.session = 0
        """The writer's producer that takes batches; 0 for none."""
        self.allowed = False
        """Whether this instance's role lets it write."""
        self.failed: IngestError | None = None
        pipeline.on_ready = self._wake.set

    def open(self, session: int) -> None:
        """Dispatch to this producer from now on."""
        self.session = session
        self._wake.set()

    def close(self) -> None:
        """Dispatch nothing until the next ``open``."""
        self.session = 0

    def wake(self) -> None:
        """Look at once whether something can be dispatched."""
        self._wake.set()

    def fail(self, error: IngestError) -> None:
        """Let ``run`` end with this error; the first one counts."""
        self.failed = self.failed or error
        self._wake.set()

    async def run(self) -> None:
        """Dispatch until cancelled. Raises what ``fail`` was called with."""
        while self.failed is None:
            due = self._pipeline.outbox.waiting() and self._ready()
            elapsed = self._monotonic() - self._last_submit
            try:
                # If nothing may be dispatched, an overdue batch must not make this loop turn without a pause.
                async with asyncio.timeout(max(0.0, self._interval - elapsed) if due else self._interval):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            self.dispatch(force=False)
        raise self.failed

    def _ready(self) -> bool:
        return self.allowed and self.session > 0 and self._pipeline.outbox.in_flight < IN_FLIGHT

    def dispatch(self, *, force: bool) -> None:
        """Hand over what is due; with ``force`` also what is not."""
        outbox = self._pipeline.outbox
        while self._ready():
            due = self._monotonic() - self._last_submit >= self._interval
            if not (outbox.ready() or ((due or force) and outbox.waiting())):
                return
            batch = self._pipeline.take()
            if batch is None:
                return
            self._last_submit = self._monotonic()
            self._writer.write(self.session, batch)

    @property
    def pending_count(self) -> int:
        """Trades on their way to Kafka."""
        return len(self._pipeline.outbox)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is in flight."""
        return not self._pipeline.outbox.waiting() and not self._pipeline.outbox.in_flight
