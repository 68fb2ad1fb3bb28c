"""Each cell of docs/reference/health.md, and the judge behind it."""

import asyncio
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ingest.binance.data_monitor import DataMonitor
from ingest.core.data_due import DataDue, Overdue
from ingest.core.errors import Retry
from ingest.metrics import Metrics
from tests.harness.clock import run_virtual

ROOT = Path(__file__).resolve().parents[4]


def table() -> Any:
    spec = importlib.util.spec_from_file_location("docs_health_table", ROOT / "docs" / "health_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


RIGHT = [
    ("200", "200", "0", "0", "none"),
    ("200", "200", "0", "0", "none"),
    ("200", "503", "1", "overdue", "IngestDataOverdue (page)"),
    ("200", "503", "1", "overdue", "IngestDataOverdue (page)"),
    ("200", "503", "1", "overdue", "IngestDataOverdue (page)"),
    ("200", "503", "1", "overdue", "IngestDataOverdue (page)"),
    ("200", "503", "1", "overdue", "IngestDataOverdue (page)"),
    ("200", "503", "1", "0", "IngestNotReady (after 5 min)"),
    ("200", "200", "0", "0", "IngestSymbolFrozen (page, after 5 min)"),
    ("200", "503", "1", "0", "IngestSymbolFrozen (page, after 5 min)"),
    ("200", "503", "1", "0", "IngestFreshnessBurnFast (page), IngestTransactionsStalled"),
    ("503", "503", "1", "0", "IngestNotReady (after 5 min)"),
    ("200", "200", "0", "0", "none"),
    ("no answer", "no answer", "1", "no answer", "IngestTargetAbsent (page)"),
]


def test_every_signal_says_the_right_thing_in_every_situation() -> None:
    rows = table().situations()
    assert [(row.live, row.ready[:3] if row.ready[0] in "25" else row.ready, row.command, row.status, row.alert)
            for row in rows] == RIGHT  # fmt: skip


def test_silence_is_overdue_only_where_trades_are_expected() -> None:
    due = DataDue(0.0)
    for second in range(1, 301):
        due.observe(float(second), second // 100, float(second // 100 * 100) or None, {"g": True})
    assert due.overdue(390.0) == Overdue(), "three trades in five minutes: a silence of 90 s is nothing"
    due = DataDue(0.0)
    for second in range(1, 301):
        due.observe(float(second), 10 * second, float(second), {"g": True})
    assert due.overdue(314.0) == Overdue()
    assert due.overdue(316.0).seconds == 16.0


def test_without_a_rate_and_without_rest_the_first_trade_is_waited_for_a_bounded_time() -> None:
    due = DataDue(0.0)
    due.observe(59.0, 0, None, {"g": True})
    assert due.overdue(59.0) == Overdue()
    assert due.overdue(60.0).seconds == 60.0
    due.witness(60.0, newer=False)
    assert due.overdue(61.0) == Overdue()
    assert due.overdue(60.0 + 91.0).seconds > 0.0, "an old answer does not count"


class Feed:
    def __init__(self) -> None:
        self.trades = 0
        self.last: float | None = None
        self.live = {"group 0": True}
        self.known: dict[str, int] = {}

    def trades_received(self) -> tuple[int, float | None]:
        return self.trades, self.last

    def groups_live(self) -> dict[str, bool]:
        return dict(self.live)

    def last_received(self) -> dict[str, int]:
        return dict(self.known)


class Rest:
    def __init__(self, answer: Callable[[], dict[str, int]]) -> None:
        self.answer = answer
        self.asked: list[float] = []

    async def last_ids(self, symbols: Sequence[str] | None = None) -> dict[str, int]:
        assert symbols == ["A"]
        self.asked.append(asyncio.get_running_loop().time())
        return self.answer()


def watch(rest: Rest, *, known: dict[str, int], seconds: float) -> tuple[DataMonitor, Metrics]:
    metrics = Metrics(process=False)

    async def main() -> DataMonitor:
        feed = Feed()
        feed.known = known
        loop = asyncio.get_running_loop()
        monitor = DataMonitor(metrics, feed, rest, dict, lambda: ["A"], monotonic=loop.time)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(monitor.run())
            for _ in range(60):
                feed.trades, feed.last = feed.trades + 10, loop.time()
                await asyncio.sleep(1.0)
            await asyncio.sleep(seconds)
            task.cancel()
        return monitor

    return run_virtual(main()), metrics


def test_the_rest_api_is_asked_about_a_silence_and_its_word_counts() -> None:
    rest = Rest(lambda: {"A": 7})
    monitor, metrics = watch(rest, known={"A": 7}, seconds=120.0)
    assert monitor.overdue == Overdue()
    assert 3 <= len(rest.asked) <= 5
    monitor, metrics = watch(Rest(lambda: {"A": 8}), known={"A": 7}, seconds=40.0)
    assert monitor.overdue.reason == "the exchange has trades that do not arrive"
    assert metrics.registry.get_sample_value("ingest_data_overdue_seconds") == pytest.approx(40.0, abs=2.0)


def test_a_rest_api_that_does_not_answer_stops_nothing() -> None:
    def fail() -> dict[str, int]:
        raise Retry("gone", after=1e9)

    rest = Rest(fail)
    monitor, _ = watch(rest, known={"A": 7}, seconds=100.0)
    assert monitor.overdue.reason.startswith("no trade arrives, about")
    assert 3 <= len(rest.asked) <= 10
