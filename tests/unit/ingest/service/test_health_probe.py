"""The status that HTTP threads read is never older than their request, unless the loop hangs."""

import time
from collections.abc import Callable

import pytest

from ingest.core.role import Role
from ingest.metrics import Metrics
from ingest.service import health_probe
from ingest.service.health_probe import ServiceProbe, Snapshot


class Loop:
    """Stands for the event loop: counts what it does, and beats when it is woken."""

    def __init__(self, *, answers: bool = True) -> None:
        self.done = 0
        self.wakes = 0
        self._answers = answers
        self.probe = ServiceProbe(
            Metrics(max_symbols=1), max_commit_age=5.0, monotonic=time.monotonic, request_snapshot=self._wake
        )

    def _wake(self) -> None:
        self.wakes += 1
        if self._answers:
            self.beat()

    def beat(self) -> None:
        """Publish what was done so far."""
        snapshot = Snapshot(
            at=time.monotonic(), role=Role.ACTIVE, last_commit=None, lease_seen=0.0, connections_live=1,
            status={"done": self.done},
        )  # fmt: skip
        self.probe.beat(snapshot)


def test_status_shows_what_was_done_before_the_request() -> None:
    loop = Loop()
    loop.beat()
    for number in range(1, 4):
        loop.done = number
        assert loop.probe.status()["done"] == number


def test_many_requests_cause_at_most_ten_snapshots_a_second() -> None:
    loop = Loop()
    loop.beat()
    began = time.monotonic()
    while (elapsed := time.monotonic() - began) < 0.35:
        loop.probe.status()
    assert 1 <= loop.wakes <= elapsed / health_probe.SPACING_SECONDS + 1


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health_probe, "FRESH_SECONDS", 0.01)
    monkeypatch.setattr(health_probe, "SPACING_SECONDS", 0.01)


@pytest.mark.usefixtures("impatient")
def test_a_hung_loop_gives_its_last_snapshot_with_its_age() -> None:
    loop = Loop(answers=False)
    loop.beat()
    loop.done = 1
    time.sleep(0.02)
    shown = loop.probe.status()
    assert shown["done"] == 0
    assert shown["snapshot_age_seconds"] >= 0.02
    assert loop.wakes == 1


def closed() -> None:
    raise RuntimeError("Event loop is closed")


@pytest.mark.parametrize("request_snapshot", [None, closed])
@pytest.mark.usefixtures("impatient")
def test_without_a_loop_the_last_snapshot_is_shown(request_snapshot: Callable[[], None] | None) -> None:
    probe = ServiceProbe(
        Metrics(max_symbols=1), max_commit_age=5.0, monotonic=time.monotonic, request_snapshot=request_snapshot
    )
    assert probe.status() == {"state": "starting"}
    loop = Loop()
    loop.probe = probe
    loop.beat()
    assert probe.status()["done"] == 0
