"""Refused credentials: known to the whole process, and tried again by one connection every half minute.

The client library tries a refused connection again every other second, from each of its clients, for as long as they
live. Brokers and directories lock accounts out for less, and a locked account stays refused after it was mended. So a
client that is refused is closed, all clients wait here, and one short-lived client tries the credentials again.
"""

import itertools
import logging
import threading
import time
from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from ingest.core.errors import Retry
from ingest.kafka import client
from ingest.kafka.errors import AUTHENTICATION_SECONDS, refused
from ingest.settings import Settings

log = logging.getLogger(__name__)

ASK_SECONDS = 10.0
_STEP_SECONDS = 0.5
_LOOK_SECONDS = 0.05
"""A connection that was refused is made again after a quarter of a second, whatever the back-off: be quicker."""
_ONCE_MS = 60_000
"""Between two further attempts of the client that asks: longer than it lives."""


class AuthBackoff:
    """Whether Kafka takes our credentials. Safe from any thread."""

    def __init__(
        self,
        settings: Settings,
        *,
        on_refused: Callable[[], None] = lambda: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_refused`` is called for each attempt of ours that was refused."""
        self._settings = settings
        self._on_refused = on_refused
        self._monotonic = monotonic
        self._servers = itertools.cycle(settings.kafka.bootstrap_servers.split(","))
        self._lock = threading.Lock()
        self._next: float | None = None
        """When to ask again; None while nothing is known against us."""

    def refused(self, error: Retry) -> bool:
        """Record an error of a client; returns whether it was a refusal of credentials."""
        if error.after < AUTHENTICATION_SECONDS:
            return False
        with self._lock:
            if self._next is None:
                self._next = self._monotonic() + AUTHENTICATION_SECONDS
        return True

    def wait(self, closing: threading.Event, disconnect: Callable[[], None] = lambda: None) -> None:
        """Return when a client may connect: at once, or after an accepted attempt, or when ``closing`` is set.

        ``disconnect`` is called first if there is something to wait for. It closes the clients that the caller has
        open: another client of ours was refused, and their errors are not polled meanwhile.
        """
        waiting = False
        while not closing.is_set():
            with self._lock:
                if self._next is None:
                    return
                mine = self._monotonic() >= self._next
                if mine:
                    self._next = self._monotonic() + AUTHENTICATION_SECONDS
            if not waiting:
                waiting = True
                disconnect()
            if mine and not self._refused_again(closing):
                with self._lock:
                    self._next = None
                log.info("Kafka takes our credentials again")
                return
            closing.wait(_STEP_SECONDS)

    def _refused_again(self, closing: threading.Event) -> bool:
        """One attempt at one of the brokers. An unreachable broker is no refusal; the other retries handle it."""
        found: list[KafkaError] = []
        config = client.common(self._settings, "access") | {
            "bootstrap.servers": next(self._servers),
            "reconnect.backoff.ms": _ONCE_MS,
            "reconnect.backoff.max.ms": _ONCE_MS,
            "error_cb": found.append,
        }
        admin = AdminClient(config)
        deadline = self._monotonic() + ASK_SECONDS
        while self._monotonic() < deadline and not closing.is_set():
            try:
                admin.list_topics(timeout=_LOOK_SECONDS)
            except KafkaException as error:
                found.append(error.args[0])
            else:
                return False
            admin.poll(0)
            access = next((again for again in map(refused, found) if again is not None), None)
            if access is not None and access.after >= AUTHENTICATION_SECONDS:
                self._on_refused()
                log.warning("%s; next try in %g s", access, AUTHENTICATION_SECONDS)
                return True
        return False
