"""What only observes must never stop what records: failures of observers are counted and logged once."""

import contextlib
import logging
from collections.abc import Iterator

from ingest.metrics import Metrics

log = logging.getLogger(__name__)


class Observers:
    """Guards the observers of one process, each by its name."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._failing: set[str] = set()

    @contextlib.contextmanager
    def guard(self, name: str) -> Iterator[None]:
        """Survive any error of the body. It is logged once, until the observer works again."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever it is, the recording goes on
            self._metrics.observer_failures.labels(name).inc()
            if name not in self._failing:
                self._failing.add(name)
                extra = {"observer": name, "error": type(error).__name__}
                log.warning("observer %s failed, the recording goes on: %s", name, error, extra=extra)
        else:
            if name in self._failing:
                self._failing.discard(name)
                log.info("observer %s works again", name, extra={"observer": name})
