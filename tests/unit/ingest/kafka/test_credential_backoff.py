"""One attempt in half a minute for the whole process, and nobody waits once somebody was let in."""

import threading
import time
from typing import ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException

from ingest.core.errors import Retry
from ingest.kafka import credential_backoff
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.errors import AUTHENTICATION_SECONDS, disconnected, refused
from ingest.settings import load

REFUSAL = Retry("refused", after=AUTHENTICATION_SECONDS)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Asking(threading.Event):
    """Nobody's end; each wait on it moves the clock, so that a test of minutes takes none."""

    def __init__(self, clock: Clock, *, at_most: float) -> None:
        super().__init__()
        self._clock = clock
        self._end = clock.now + at_most

    def wait(self, timeout: float | None = None) -> bool:
        self._clock.now += timeout or 0.0
        if self._clock.now >= self._end:
            self.set()
        return self.is_set()


class Admin:
    """A client of a broker that refuses, or does not."""

    lets_in = False
    made: ClassVar[list[float]] = []
    clock: Clock

    def __init__(self, config: dict[str, object]) -> None:
        self._tell = config["error_cb"]
        self.made.append(self.clock.now)
        assert config["reconnect.backoff.ms"] == config["reconnect.backoff.max.ms"] == 60_000

    def list_topics(self, timeout: float) -> object:
        if self.lets_in:
            return object()
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def poll(self, _timeout: float) -> int:
        assert callable(self._tell)
        self._tell(KafkaError(KafkaError._AUTHENTICATION, "wrong password"))
        return 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(credential_backoff, "AdminClient", Admin)
    monkeypatch.setattr(Admin, "made", [])
    monkeypatch.setattr(Admin, "clock", clock, raising=False)
    return clock


def test_nothing_known_against_us_is_no_reason_to_wait(clock: Clock) -> None:
    gate = AuthBackoff(load({}), monotonic=clock)
    gate.wait(Asking(clock, at_most=1.0))
    assert not gate.refused(Retry("an ACL is missing", after=5.0))
    gate.wait(Asking(clock, at_most=1.0))
    assert (clock.now, Admin.made) == (1000.0, [])


def test_refused_credentials_are_tried_once_in_half_a_minute_whoever_waits(clock: Clock) -> None:
    counted: list[float] = []
    gate = AuthBackoff(load({}), on_refused=lambda: counted.append(clock.now), monotonic=clock)
    assert gate.refused(REFUSAL)
    assert gate.refused(REFUSAL)  # a second client of ours, which was connected, too
    gate.wait(Asking(clock, at_most=50.0))
    gate.wait(Asking(clock, at_most=50.0))
    assert Admin.made == counted == [1030.0, 1060.0, 1090.0]


def test_once_one_was_let_in_all_may_connect(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = AuthBackoff(load({}), monotonic=clock)
    gate.refused(REFUSAL)
    monkeypatch.setattr(Admin, "lets_in", True)
    gate.wait(Asking(clock, at_most=100.0))
    assert clock.now == 1030.0
    gate.wait(Asking(clock, at_most=100.0))
    assert (clock.now, len(Admin.made)) == (1030.0, 1)


def test_clients_are_closed_before_a_wait_and_not_without_one(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another client of the process was refused: this one is served by nobody while its thread waits."""
    closed: list[float] = []
    gate = AuthBackoff(load({}), monotonic=clock)
    gate.wait(Asking(clock, at_most=100.0), lambda: closed.append(clock.now))
    assert closed == []
    gate.refused(REFUSAL)
    monkeypatch.setattr(Admin, "lets_in", True)
    gate.wait(Asking(clock, at_most=100.0), lambda: closed.append(clock.now))
    assert closed == [1000.0]


def test_who_is_asked_to_end_does_not_wait(clock: Clock) -> None:
    gate = AuthBackoff(load({}), monotonic=clock)
    gate.refused(REFUSAL)
    closing = threading.Event()
    closing.set()
    began = time.monotonic()
    gate.wait(closing)
    assert time.monotonic() - began < 10.0


@pytest.mark.parametrize(
    ("text", "broke"),
    [
        ("b:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused (after 0ms in state CONNECT)", False),
        ("b:9092/1: Connect to b failed (after 0ms in state CONNECT, 3 identical error(s) suppressed)", False),
        ("b:9093/1: SSL handshake failed: Disconnected (after 12ms in state SSL_HANDSHAKE)", False),
        ("b:9092/1: Disconnected: connection closed by peer: receive 0 after POLLIN (after 17764ms in state UP)", True),
        ("b:9092/1: Receive failed: Connection reset by peer (after 5ms in state UPDATE)", True),
        ("something that the library says in other words", True),
    ],
)  # fmt: skip
def test_a_connection_that_was_never_made_is_none_that_broke(text: str, broke: bool) -> None:
    assert disconnected(KafkaError(KafkaError._TRANSPORT, text)) is broke


@pytest.mark.parametrize(
    ("text", "is_refusal"),
    [
        ("SASL authentication error: Authentication failed during authentication due to invalid credentials", True),
        ("SASL SCRAM-SHA-512 mechanism handshake failed: Broker: Unsupported SASL mechanism", True),
        ("SASL SCRAM-SHA-512 mechanism handshake failed: Local: Broker transport failure: supported: (n/a)", False),
        ("SASL authentication error: SaslAuthenticateRequest failed: Local: Timed out", False),
    ],
)
def test_a_sign_in_that_was_cut_short_is_no_refusal(text: str, is_refusal: bool) -> None:
    """A broker that dies, or is busy, while we sign in: to wait half a minute for that would be a long outage."""
    assert (refused(KafkaError(KafkaError._AUTHENTICATION, text)) is not None) is is_refusal
