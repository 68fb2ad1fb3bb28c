"""Reports what is wrong with topics: in the log, in a metric, and for ``/status``. The same for every check."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from ingest.kafka.topic_policy import Problem
from ingest.metrics import Metrics

log = logging.getLogger(__name__)

REPEAT_SECONDS = 600.0
"""Between two log records about the same problem."""


def merged(*reports: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """All problems of several checks: topic -> what is wrong with it."""
    found: dict[str, list[str]] = {}
    for report in reports:
        for topic, texts in report.items():
            found[topic] = found.get(topic, []) + texts
    return found


class ProblemReport:
    """What one check has found. Each check of a topic reports under a name of its own for the property."""

    def __init__(self, metrics: Metrics, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._metrics = metrics
        self._monotonic = monotonic
        self._logged: dict[tuple[str, str], float] = {}
        self.problems: dict[str, list[str]] = {}
        """Topic -> what is wrong with it. Replaced as a whole: read it from any thread."""

    def report(self, current: Sequence[Problem]) -> None:
        """Take all problems that there are now; those that were there before and are not among them are corrected."""
        now = self._monotonic()
        keys = {(problem.topic, problem.policy) for problem in current}
        for problem in current:
            key = (problem.topic, problem.policy)
            loses_data = problem.refused or problem.loses_data
            self._metrics.topic_problems.labels(*key).set(2 if loses_data else 1)
            if now - self._logged.get(key, -REPEAT_SECONDS) >= REPEAT_SECONDS:
                self._logged[key] = now
                level = logging.ERROR if loses_data else logging.WARNING
                log.log(level, "%s", problem.text, extra={"topic": problem.topic, "policy": problem.policy})
        for key in self._logged.keys() - keys:
            del self._logged[key]
            self._metrics.topic_problems.remove(*key)
            log.info("corrected: %s of topic %s", key[1], key[0], extra={"topic": key[0], "policy": key[1]})
        self.problems = {
            name: [problem.text for problem in current if problem.topic == name]
            for name in sorted({problem.topic for problem in current})
        }
