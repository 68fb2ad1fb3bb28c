"""What a kubelet does with a pod's probes and its termination, on a process: the documented rules, nothing more.

Startup probe first; then liveness and readiness, each with its own period. A probe that fails ``failureThreshold``
times in a row has failed: startup and liveness kill the container (SIGTERM, then SIGKILL after the grace period) and
start it again, readiness marks the pod not ready.
"""

import os
import signal
import time
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.harness import loopback
from tests.harness.processes import ServiceProcess

TICK = 0.05


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe as rendered."""

    path: str
    port: str
    period: float
    timeout: float
    failures: int
    delay: float

    @classmethod
    def of(cls, rendered: Mapping[str, Any]) -> "Probe":
        """From a container's field; what is missing has Kubernetes' default."""
        return cls(
            path=rendered["httpGet"]["path"],
            port=rendered["httpGet"]["port"],
            period=rendered.get("periodSeconds", 10),
            timeout=rendered.get("timeoutSeconds", 1),
            failures=rendered.get("failureThreshold", 3),
            delay=rendered.get("initialDelaySeconds", 0),
        )

    @property
    def budget(self) -> float:
        """The longest time from a failure that lasts until the probe has failed, seconds."""
        return self.failures * (self.period + self.timeout)


@dataclass(slots=True)
class _State:
    """Where one probe stands since the container was started."""

    probe: Probe
    next: float
    failed: int = 0
    passed: bool = False

    def count(self, *, good: bool, now: float) -> bool:
        """Note one answer; True once it has failed as often as allowed."""
        self.next = max(self.next + self.probe.period, now)
        self.failed = 0 if good else self.failed + 1
        self.passed = good or (self.passed and self.failed < self.probe.failures)
        return self.failed >= self.probe.failures


@dataclass
class Kubelet:
    """Watches one container of a pod."""

    pod: Mapping[str, Any]
    """The rendered pod's ``spec``."""
    process: ServiceProcess
    restarts: int = 0
    ready_since: float | None = None
    seconds_to_start: float = 0.0
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        container = self.pod["containers"][0]
        self.grace = float(self.pod["terminationGracePeriodSeconds"])
        self.probes = {kind: Probe.of(container[f"{kind}Probe"]) for kind in ("startup", "liveness", "readiness")}
        self._states: dict[str, _State] = {}

    @property
    def ready(self) -> bool:
        """Whether the pod is ready."""
        return self.ready_since is not None

    @property
    def started(self) -> bool:
        """Whether the startup probe has passed."""
        return bool(self._states) and self._states["startup"].passed

    def start(self) -> None:
        """Start the container."""
        self.process.start()
        now = time.monotonic()
        self.ready_since = None
        self._states = {kind: _State(probe, now + probe.delay) for kind, probe in self.probes.items()}
        self.events.append("started")

    def until(self, condition: Callable[[], bool], what: str, seconds: float) -> float:
        """Watch until ``condition``; returns the seconds. Raises ``TimeoutError`` with what happened."""
        began = time.monotonic()
        while not condition():
            if time.monotonic() - began > seconds:
                raise TimeoutError(f"{what} did not come within {seconds:g} s: {self.events}\n{self.process.tail()}")
            self.step()
            time.sleep(TICK)
        return time.monotonic() - began

    def watch(self, seconds: float) -> None:
        """Watch for this long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.step()
            time.sleep(TICK)

    def step(self) -> None:
        """Ask the probes that are due."""
        if not self.process.alive:
            self._restart(f"ended with {self.process.returncode}")
        kinds = ("liveness", "readiness") if self.started else ("startup",)
        for kind in kinds:
            state = self._states[kind]
            if time.monotonic() >= state.next:
                failed = state.count(good=self._ask(state.probe), now=time.monotonic())
                self._judge(kind, state, failed=failed)
                if self._states[kind] is not state:
                    return  # it was restarted

    def _judge(self, kind: str, state: _State, *, failed: bool) -> None:
        if kind == "readiness":
            if state.passed != self.ready:
                self.ready_since = time.monotonic() if state.passed else None
                self.events.append("ready" if state.passed else "not ready")
        elif failed:
            self.terminate()
            self._restart(f"{kind} probe failed")
        elif kind == "startup" and state.passed:
            self.seconds_to_start = time.monotonic() - self.process.started_at
            now = time.monotonic()
            for other in ("liveness", "readiness"):
                self._states[other].next = now

    def _restart(self, why: str) -> None:
        self.restarts += 1
        self.events.append(why)
        self.start()

    def _ask(self, probe: Probe) -> bool:
        try:
            with loopback.urlopen(self.process.url + probe.path, timeout=probe.timeout) as answer:
                return bool(200 <= answer.status < 400)
        except (urllib.error.URLError, OSError, ValueError):
            return False

    def terminate(self) -> float:
        """SIGTERM, and SIGKILL after the grace period; returns the seconds. A frozen process is not woken."""
        began = time.monotonic()
        assert self.process.process is not None
        os.kill(self.process.process.pid, signal.SIGTERM)
        if self.process.wait(self.grace) is None:
            self.events.append("killed after the grace period")
            self.process.kill()
        return time.monotonic() - began
