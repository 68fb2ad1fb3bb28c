"""The watch keeps no client while it waits for credentials that another client of the process was refused."""

import threading

from confluent_kafka import KafkaError

from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.last_stable_offset import Offsets, StableOffsetWatch
from ingest.metrics import Metrics
from ingest.settings import load


class Access(AuthBackoff):
    """Refused until told otherwise."""

    def __init__(self) -> None:
        super().__init__(load({}))
        self.waits = threading.Event()
        self.taken = threading.Event()

    def wait(self, closing: threading.Event, disconnect: object = None) -> None:
        assert callable(disconnect)
        disconnect()
        self.waits.set()
        self.taken.wait(10.0)


def test_the_client_is_dropped_before_the_wait() -> None:
    access, asked = Access(), threading.Event()

    def ask() -> dict[tuple[str, int], Offsets]:
        asked.set()
        return {}

    watch = StableOffsetWatch(load({}), Metrics(), ask=ask, access=access)
    watch._admin = object()  # type: ignore[assignment]  # connected before another client was refused
    watch.start()
    assert access.waits.wait(10.0)
    assert watch._admin is None
    assert not asked.is_set()
    access.taken.set()
    assert asked.wait(10.0)
    watch.close(10.0)


def test_its_own_refusal_drops_the_client_and_is_told_to_the_process() -> None:
    access = AuthBackoff(load({}))
    watch = StableOffsetWatch(load({}), Metrics(), access=access)
    watch._admin = object()  # type: ignore[assignment]
    watch._on_error(KafkaError(KafkaError._AUTHENTICATION, "wrong password"))
    assert watch._drop_refused()
    assert (watch._admin, access._next is None) == (None, False)
