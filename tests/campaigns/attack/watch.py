"""What an operator and a consumer see during an attack: health, the control API, memory and commits."""

import contextlib
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from tests.harness import loopback
from tests.harness.processes import ServiceProcess

ASK_SECONDS = 5.0
PAUSE_SECONDS = 0.05
"""Between the parts of a slow client's head."""


@dataclass
class Answers:
    """How often an endpoint was asked, how often it answered 200, and the longest time in seconds."""

    asked: int = 0
    good: int = 0
    longest: float = 0.0

    @property
    def all_good(self) -> bool:
        """Whether it was asked and always answered."""
        return self.asked > 0 and self.good == self.asked


@dataclass
class Observed:
    """What was seen during one attack."""

    live: Answers = field(default_factory=Answers)
    ready: Answers = field(default_factory=Answers)
    operator: Answers = field(default_factory=Answers)
    slow: Answers = field(default_factory=Answers)
    """Of ready, for a client that sends its head in pieces."""
    rss: int = 0


class Watch(threading.Thread):
    """Asks every 0.2 s, as a supervisor, a load balancer and an operator would, until it is closed."""

    def __init__(self, live: str, ready: str, operator: str, token: str, rss: Callable[[], int]) -> None:
        """The addresses that are asked, the last one with the token; and what the process weighs, bytes."""
        super().__init__(name="watch", daemon=True)
        self.observed = Observed()
        self._urls = [
            (live, {}, self.observed.live),
            (ready, {}, self.observed.ready),
            (operator, {"Authorization": f"Bearer {token}"} if token else {}, self.observed.operator),
        ]
        self._ready = ready
        self._rss = rss
        self._closing = threading.Event()

    @classmethod
    def of(cls, service: ServiceProcess, token: str) -> Self:
        """Of an instance of the service."""
        status = service.ready["metrics_url"]
        return cls(
            f"{status}/health/live",
            f"{status}/health/ready",
            f"{service.control_url}/control/status",
            token,
            service.rss,
        )

    def run(self) -> None:
        while not self._closing.wait(0.2):
            for url, headers, answers in self._urls:
                _ask(url, headers, answers)
            _ask_slowly(self._ready, self.observed.slow)
            self.observed.rss = max(self.observed.rss, self._rss())

    def close(self) -> Observed:
        """Stop and return what was seen."""
        self._closing.set()
        self.join(4 * ASK_SECONDS)
        return self.observed


def _ask(url: str, headers: dict[str, str], answers: Answers) -> None:
    began = time.monotonic()
    answers.asked += 1
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 (loopback only)
        with loopback.urlopen(request, timeout=ASK_SECONDS) as response:
            response.read()
            answers.good += response.status == 200
    except (urllib.error.URLError, OSError):
        pass
    answers.longest = max(answers.longest, time.monotonic() - began)


def _ask_slowly(url: str, answers: Answers) -> None:
    parts, began = urlsplit(url), time.monotonic()
    answers.asked += 1
    with contextlib.suppress(OSError):
        one = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=ASK_SECONDS)
        with one:
            for piece in (f"GET {parts.path} HTTP/1.1\r\n", "Host: x\r\n", "\r\n"):
                one.sendall(piece.encode())
                time.sleep(PAUSE_SECONDS)
            answers.good += one.recv(1024).startswith(b"HTTP/1.1 200 ")
    answers.longest = max(answers.longest, time.monotonic() - began)
