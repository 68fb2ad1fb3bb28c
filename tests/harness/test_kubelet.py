"""The kubelet's rules, on a process that answers as the test says and a clock that the test moves."""

import time
from typing import Any, cast

import pytest

from tests.harness.kubelet import Kubelet
from tests.harness.processes import ServiceProcess

POD = {
    "terminationGracePeriodSeconds": 20,
    "containers": [
        {
            "startupProbe": {"httpGet": {"path": "/live", "port": "status"}, "periodSeconds": 2, "failureThreshold": 5},
            "livenessProbe": {"httpGet": {"path": "/live", "port": "status"}},
            "readinessProbe": {
                "httpGet": {"path": "/ready", "port": "status"},
                "periodSeconds": 5,
                "failureThreshold": 2,
            },
        }
    ],
}


class World:
    """The clock, and a process that starts at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.good = {"/live": True, "/ready": True}
        self.alive, self.starts, self.started_at = True, 0, 0.0
        self.returncode = 3

    def start(self) -> None:
        self.starts += 1
        self.alive = True
        self.started_at = self.now


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def kubelet(world: World, monkeypatch: pytest.MonkeyPatch) -> Kubelet:
    made = Kubelet(cast("dict[str, Any]", POD), cast("ServiceProcess", world))
    monkeypatch.setattr(time, "monotonic", lambda: world.now)
    monkeypatch.setattr(made, "_ask", lambda probe: world.good[probe.path])
    monkeypatch.setattr(made, "terminate", lambda: made.events.append("terminated"))
    made.start()
    return made


def let(kubelet: Kubelet, world: World, seconds: float) -> None:
    end = world.now + seconds
    while world.now < end:
        kubelet.step()
        world.now += 0.5


def test_readiness_waits_for_the_startup_probe(kubelet: Kubelet, world: World) -> None:
    world.good["/live"] = False
    let(kubelet, world, 7)
    assert (kubelet.started, kubelet.ready) == (False, False)
    world.good["/live"] = True
    let(kubelet, world, 3)
    assert (kubelet.started, kubelet.ready, kubelet.restarts) == (True, True, 0)


def test_a_start_that_takes_too_long_is_ended(kubelet: Kubelet, world: World) -> None:
    world.good["/live"] = False
    let(kubelet, world, 8)
    assert kubelet.restarts == 0
    let(kubelet, world, 2)
    assert kubelet.events[-3:] == ["terminated", "startup probe failed", "started"]


def test_not_ready_after_the_threshold_and_ready_with_the_first_good_answer(kubelet: Kubelet, world: World) -> None:
    let(kubelet, world, 1)
    world.good["/ready"] = False
    let(kubelet, world, 6)
    assert kubelet.ready, "one failure is none"
    let(kubelet, world, 5)
    assert not kubelet.ready
    world.good["/ready"] = True
    let(kubelet, world, 5)
    assert kubelet.ready
    assert kubelet.restarts == 0


def test_liveness_restarts_after_the_threshold_only(kubelet: Kubelet, world: World) -> None:
    let(kubelet, world, 1)
    world.good["/live"] = False
    let(kubelet, world, 25)
    assert kubelet.restarts == 0
    let(kubelet, world, 6)
    assert (kubelet.restarts, kubelet.ready) == (1, False)


def test_an_end_is_a_restart(kubelet: Kubelet, world: World) -> None:
    let(kubelet, world, 1)
    world.alive = False
    let(kubelet, world, 0.5)
    assert (kubelet.restarts, world.starts) == (1, 2)
    assert "ended with 3" in kubelet.events
