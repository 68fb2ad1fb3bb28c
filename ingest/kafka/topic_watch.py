"""Checks the topics at the start, and again while the service runs: policies, partitions, lost records, a new id."""

import logging
import random
import threading
import time
from collections.abc import Callable

import msgspec

from ingest.core.backoff import full_jitter
from ingest.core.errors import Retry, Stop
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.deleted_records import DeletedRecords
from ingest.kafka.log_ends import TruncatedLogs
from ingest.kafka.problem_report import ProblemReport
from ingest.kafka.topic_policy import Found, Problem, problems, topics
from ingest.kafka.topics import TopicDescriber, expected, verify_settled
from ingest.metrics import Metrics
from ingest.settings import Settings

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 15.0


class TopicWatch(threading.Thread):
    """At the start a wrong topic ends the service; while it runs, a problem is logged, counted and in the status.

    Other partitions of the trades topic end it at any time: a symbol's further trades would be in another partition.
    The start does not wait for the first check.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        on_error: Callable[[Stop], None],
        access: AuthBackoff,
        *,
        interval: float = INTERVAL_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="topic-watch", daemon=True)
        self._settings = settings
        self._on_error = on_error
        self._access = access
        self._interval = interval
        self._closing = threading.Event()
        self._topics = topics(settings)
        self._expected = expected(settings)
        self._deleted = DeletedRecords()
        self._truncated = TruncatedLogs()
        self._report = ProblemReport(metrics, monotonic=monotonic)
        self._trades_topic_id: str | None = None
        self._written_to: str | None = None

    @property
    def problems(self) -> dict[str, list[str]]:
        """Topic -> what is wrong with it. Safe from any thread."""
        return self._report.problems

    def trades_topic_id(self) -> str | None:
        """The id of the trades topic when this process first saw it; None until then. Safe from any thread."""
        return self._trades_topic_id

    def recreated(self, before: str) -> None:
        """Report, from the next check on, that the records were written to a topic with another id.

        Safe from any thread.
        """
        self._written_to = before

    def run(self) -> None:
        """Check until closed."""
        found = self._attempt(self._first)
        while found is not None and not self._closing.wait(self._interval):
            found = self._attempt(self._again)

    def _attempt(self, check: Callable[[TopicDescriber], dict[str, Found]]) -> dict[str, Found] | None:
        """Check until the broker has answered; None once closed or refused."""
        pauses = full_jitter(initial=0.25, maximum=5.0, uniform=random.uniform)
        while not self._closing.is_set():
            self._access.wait(self._closing)
            try:
                # A client for each check: one that stays would try credentials that are refused later all the time.
                return check(TopicDescriber(self._settings))
            except Retry as error:
                self._access.refused(error)
                pause = max(error.after, 0.1 + next(pauses))
                log.warning("%s; next try in %.1f s", error, pause)
                self._closing.wait(pause)
            except Stop as error:
                self._on_error(error)
                return None
        return None

    def _first(self, describer: TopicDescriber) -> dict[str, Found]:
        found = verify_settled(self._settings, describer)
        trades = found[self._settings.kafka.topic]
        self._expected = msgspec.structs.replace(
            self._expected,
            partitions=self._expected.partitions or trades.partitions,
            topic_ids={name: one.topic_id for name, one in found.items()},
        )
        self._trades_topic_id = trades.topic_id
        lost = self._lost_records(describer, found)
        self._report.report(problems(self._topics, found, self._expected) + lost)
        return found

    def _again(self, describer: TopicDescriber) -> dict[str, Found]:
        found = describer.describe(self._topics)
        if self._written_to is not None:
            ids = {**self._expected.topic_ids, self._settings.kafka.topic: self._written_to}
            self._expected = msgspec.structs.replace(self._expected, topic_ids=ids)
        current = problems(self._topics, found, self._expected)
        current += self._lost_records(describer, found)
        self._report.report(current)
        for problem in current:
            if problem.policy == "partitions" and problem.topic == self._settings.kafka.topic:
                raise Stop(problem.text)
        return found

    def _lost_records(self, describer: TopicDescriber, found: dict[str, Found]) -> list[Problem]:
        now_ms = time.time_ns() // 1_000_000
        try:
            offsets = describer.offsets(found, now_ms)
        except (Retry, Stop) as error:  # the policies are known; the next look compares with the one before
            log.warning("cannot tell whether records were deleted or lost: %s", error)
            offsets = {}
        ends = {place: one.end for place, one in offsets.items()}
        return [
            *self._deleted.look(self._topics, found, offsets, now_ms),
            *self._truncated.look(self._topics, found, ends, lambda: describer.describe(self._topics)),
        ]

    def close(self) -> None:
        """Ask it to end; a request under way ends by itself."""
        self._closing.set()
