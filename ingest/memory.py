"""Samples the process's memory: resident and virtual size, descriptors, heap objects, tasks and the leak score."""

import asyncio
import enum
import gc
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import psutil

from ingest.core.leak import MB, leak_score
from ingest.metrics import Metrics
from ingest.observers import Observers

WARN_BYTES = 400 * MB
CRITICAL_BYTES = 450 * MB
LEAK_SCORE_WARNING = 0.8
"""34 MB/h throughout a window."""

log = logging.getLogger(__name__)


class Level(enum.IntEnum):
    """The resident size compared with its bounds."""

    NORMAL = 0
    HIGH = 1
    CRITICAL = 2


@dataclass(frozen=True)
class MemorySample:
    """One reading. Sizes in bytes; ``seconds`` on the monitor's clock."""

    seconds: float
    rss: int
    vms: int
    descriptors: int
    heap_objects: int
    tasks: int


class MemoryMonitor:
    """Samples this process each ``interval_seconds`` and keeps ``window_samples`` of them for the leak score.

    The score stays 0 until the window is full: over a shorter time a warm-up looks like a leak. A bound that is crossed
    is logged once, and once again when the size is back below it. A sample that fails, for instance because there is no
    descriptor left, is counted and left out.
    """

    def __init__(
        self,
        metrics: Metrics,
        *,
        interval_seconds: float = 30.0,
        window_samples: int = 120,
        warn_bytes: int = WARN_BYTES,
        critical_bytes: int = CRITICAL_BYTES,
        process: psutil.Process | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._metrics = metrics
        self._observers = Observers(metrics)
        self._interval = interval_seconds
        self._window: deque[tuple[float, float]] = deque(maxlen=window_samples)
        self._bounds = ((critical_bytes, Level.CRITICAL), (warn_bytes, Level.HIGH))
        self._process = process if process is not None else psutil.Process()
        self._clock = clock
        self._sleep = sleep
        self.level = Level.NORMAL
        self.leak_score = 0.0
        self._leak_logged = False

    async def run(self) -> None:
        """Sample until cancelled; the first sample at once. A slow sample does not shift those that follow."""
        due = self._clock()
        while True:
            with self._observers.guard("memory"):
                self.sample()
            due += self._interval
            now = self._clock()
            if due < now:
                due = now
            await self._sleep(due - now)

    def sample(self) -> MemorySample:
        """Read once, set the metrics, judge. Call it on the event loop: it counts that loop's tasks.

        Counting the heap takes about 1 ms for each 100,000 objects.
        """
        memory = self._process.memory_info()
        sample = MemorySample(
            seconds=self._clock(),
            rss=memory.rss,
            vms=memory.vms,
            descriptors=self._process.num_fds(),
            heap_objects=len(gc.get_objects()),
            tasks=len(asyncio.all_tasks()),
        )
        self._window.append((sample.seconds, sample.rss))
        if len(self._window) == self._window.maxlen:
            self.leak_score = leak_score(list(self._window))
        self._publish(sample)
        self._judge(sample)
        return sample

    def _publish(self, sample: MemorySample) -> None:
        metrics = self._metrics
        metrics.rss.set(sample.rss)
        metrics.vms.set(sample.vms)
        metrics.descriptors.set(sample.descriptors)
        metrics.heap.set(sample.heap_objects)
        metrics.tasks.set(sample.tasks)
        metrics.leak_score.set(self.leak_score)

    def _judge(self, sample: MemorySample) -> None:
        level = next((level for bound, level in self._bounds if sample.rss > bound), Level.NORMAL)
        if level is not self.level:
            text = "memory %s: %.0f MB resident, %d objects, %d descriptors, %d tasks"
            severity = (logging.INFO, logging.WARNING, logging.CRITICAL)[level]
            values = (level.name.lower(), sample.rss / MB, sample.heap_objects, sample.descriptors, sample.tasks)
            fields = {"rss_bytes": sample.rss, "descriptors": sample.descriptors, "tasks": sample.tasks}
            log.log(severity, text, *values, extra=fields)
            self.level = level
        leaking = self.leak_score >= LEAK_SCORE_WARNING
        if leaking and not self._leak_logged:
            text = "memory grows like a leak: score %.2f, %.0f MB resident"
            trend = {"leak_score": round(self.leak_score, 3), "rss_bytes": sample.rss}
            log.warning(text, self.leak_score, sample.rss / MB, extra=trend)
        self._leak_logged = leaking
