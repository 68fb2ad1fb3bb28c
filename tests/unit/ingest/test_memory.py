import asyncio
import errno
import gc
import logging
from collections.abc import Callable, Iterable
from typing import Any

import psutil
import pytest

from ingest.core.leak import MB, leak_score
from ingest.memory import Level, MemoryMonitor
from ingest.metrics import Metrics


class Ended(BaseException):
    """The script has no further sample."""


class ScriptedProcess(psutil.Process):
    """The running process, but for its resident size in MB, which follows a script."""

    def __init__(self, sizes: Iterable[float]) -> None:
        super().__init__()
        self._sizes = iter(sizes)

    def memory_info(self) -> Any:
        size = next(self._sizes, None)
        if size is None:
            raise Ended
        return super().memory_info()._replace(rss=int(size * MB), vms=5_000 * MB)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


async def play(
    sizes: Iterable[float], *, window: int = 120, watch: Callable[[MemoryMonitor], None] = lambda _: None
) -> tuple[Metrics, Clock, MemoryMonitor]:
    clock, metrics = Clock(), Metrics(process=False)

    async def sleep(seconds: float) -> None:
        watch(monitor)
        await clock.sleep(seconds)

    monitor = MemoryMonitor(
        metrics,
        interval_seconds=30.0,
        window_samples=window,
        process=ScriptedProcess(sizes),
        clock=clock,
        sleep=sleep,
    )
    gc.freeze()  # each sample counts the objects of the heap, of which the test runner has a million
    try:
        with pytest.raises(Ended):
            await monitor.run()
    finally:
        gc.unfreeze()
    return metrics, clock, monitor


def value(metrics: Metrics, name: str) -> float:
    found = metrics.registry.get_sample_value(name)
    assert found is not None, name
    return found


async def test_a_sample_of_this_very_process_sets_every_series() -> None:
    metrics = Metrics(process=False)
    sample = MemoryMonitor(metrics).sample()
    assert value(metrics, "process_memory_rss_bytes") == sample.rss
    assert sample.rss == pytest.approx(psutil.Process().memory_info().rss, rel=0.1)
    assert value(metrics, "process_memory_vms_bytes") == sample.vms >= sample.rss
    assert value(metrics, "ingest_open_descriptors") == sample.descriptors >= 3
    assert value(metrics, "ingest_heap_objects") == sample.heap_objects > 1000
    assert value(metrics, "ingest_tasks") == sample.tasks == 1
    assert value(metrics, "memory_leak_detection_score") == 0.0


async def test_tasks_and_descriptors_are_counted() -> None:
    monitor = MemoryMonitor(Metrics(process=False))
    before = monitor.sample()
    with open("/dev/null") as _, open("/dev/null") as _:  # noqa: ASYNC230 - descriptors to count
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(3600)) for _ in range(5)]
            after = monitor.sample()
            for task in tasks:
                task.cancel()
    assert after.tasks - before.tasks == 5
    assert after.descriptors - before.descriptors == 2


async def test_it_samples_at_once_and_then_each_interval() -> None:
    _, clock, _ = await play([100.0] * 4)
    assert clock.slept == [30.0] * 4


async def test_a_late_sample_does_not_shift_the_next() -> None:
    clock = Clock()

    async def late(seconds: float) -> None:
        await clock.sleep(seconds + (7.0 if len(clock.slept) == 1 else 0.0))

    monitor = MemoryMonitor(
        Metrics(process=False), interval_seconds=30.0, process=ScriptedProcess([1.0] * 4), clock=clock, sleep=late
    )
    with pytest.raises(Ended):
        await monitor.run()
    assert clock.slept == [30.0, 37.0, 23.0, 30.0]


async def test_after_a_long_pause_it_does_not_catch_up_in_a_burst() -> None:
    clock = Clock()

    async def paused(seconds: float) -> None:
        await clock.sleep(seconds + (1000.0 if not clock.slept else 0.0))

    monitor = MemoryMonitor(
        Metrics(process=False), interval_seconds=30.0, process=ScriptedProcess([1.0] * 4), clock=clock, sleep=paused
    )
    with pytest.raises(Ended):
        await monitor.run()
    assert clock.slept == [1030.0, 0.0, 30.0, 30.0]


async def test_no_score_before_the_window_is_full() -> None:
    growing = [100.0 + index for index in range(119)]
    metrics, _, monitor = await play(growing)
    assert monitor.leak_score == value(metrics, "memory_leak_detection_score") == 0.0
    metrics, _, monitor = await play([*growing, 219.0])
    assert monitor.leak_score == value(metrics, "memory_leak_detection_score") == 1.0


async def test_the_score_sees_the_last_window_only() -> None:
    sizes = [100.0 + index for index in range(120)] + [219.0] * 120
    metrics, _, _ = await play(sizes)
    assert value(metrics, "memory_leak_detection_score") == 0.0


async def test_the_window_is_a_setting_and_the_score_is_the_cores() -> None:
    sizes = [100.0 + index / 20 for index in range(24)]
    _, _, monitor = await play(sizes, window=24)
    expected = leak_score([(30.0 * index, int(size * MB)) for index, size in enumerate(sizes)])
    assert monitor.leak_score == pytest.approx(expected)
    assert expected == pytest.approx(0.3, abs=1e-6)


async def test_bounds_are_logged_when_crossed_and_only_then(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    levels: list[Level] = []
    await play([300, 400, 401, 420, 451, 460, 430, 390, 300], watch=lambda monitor: levels.append(monitor.level))
    normal, high, critical = Level.NORMAL, Level.HIGH, Level.CRITICAL
    assert levels == [normal, normal, high, high, critical, critical, high, normal, normal]
    assert [(record.levelname, record.getMessage().split(" resident")[0]) for record in caplog.records] == [
        ("WARNING", "memory high: 401 MB"),
        ("CRITICAL", "memory critical: 451 MB"),
        ("WARNING", "memory high: 430 MB"),
        ("INFO", "memory normal: 390 MB"),
    ]


async def test_a_leak_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    await play([100.0 + index for index in range(140)])
    assert [record.getMessage() for record in caplog.records] == [
        "memory grows like a leak: score 1.00, 219 MB resident"
    ]


async def test_a_sample_that_fails_is_counted_logged_once_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """For instance because there is no descriptor left."""

    class Exhausted(ScriptedProcess):
        failing = 3

        def num_fds(self) -> int:
            if self.failing:
                self.failing -= 1
                raise OSError(errno.EMFILE, "Too many open files")
            return 7

    clock, metrics = Clock(), Metrics(process=False)
    caplog.set_level(logging.INFO)
    with pytest.raises(Ended):
        await MemoryMonitor(metrics, process=Exhausted([100.0] * 5), clock=clock, sleep=clock.sleep).run()
    assert metrics.registry.get_sample_value("ingest_observer_failures_total", {"observer": "memory"}) == 3
    assert value(metrics, "ingest_open_descriptors") == 7
    said = [record.getMessage() for record in caplog.records if record.name == "ingest.observers"]
    assert len(said) == 2
    assert "Too many open files" in said[0]
    assert "works again" in said[1]
