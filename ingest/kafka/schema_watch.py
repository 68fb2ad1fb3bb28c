"""Checks, while the service runs, that readers still get the schemas of the records that it writes.

A record names its schema by a number of the registry. The writer needs the registry at its start only: where a schema
is deleted later, or the registry is restored without it, trades are still written, and no reader can read them.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from ingest.core.errors import Retry, Stop
from ingest.decoding import decode_json
from ingest.kafka.problem_report import REPEAT_SECONDS, ProblemReport
from ingest.kafka.schemas import Registry, require_usable, same_schema
from ingest.kafka.topic_policy import Problem
from ingest.metrics import Metrics
from ingest.settings import Settings

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0
PROPERTY = "schema"
"""The label of the metric."""


class SchemaWatch:
    """Reports through the log, ``ingest_topic_problems`` and ``/status``; it never stops the writer.

    A registry that does not answer is no problem of a topic: what was found before stands.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        *,
        interval: float = INTERVAL_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``interval`` is in seconds."""
        self._settings = settings
        self._written: dict[str, tuple[int, str]] = {}
        self._interval = interval
        self._sleep = sleep
        self._monotonic = monotonic
        self._report = ProblemReport(metrics, monotonic=monotonic)
        self._found: dict[str, Problem | None] = {}
        self._logged: float | None = None

    @property
    def problems(self) -> dict[str, list[str]]:
        """Topic -> what is wrong with its schema."""
        return self._report.problems

    def writes(self, topic: str, schema_id: int, text: str) -> None:
        """Check this schema from now on: records of the topic are written with it. Safe from any thread."""
        self._written[topic] = (schema_id, text)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self._sleep(self._interval)
            await self.look()

    async def look(self) -> None:
        """Ask the registry once about each topic."""
        for topic, (schema_id, text) in list(self._written.items()):
            try:
                async with Registry(self._settings, topic=topic, schema=text) as registry:
                    self._found[topic] = await self._problem(registry, topic, schema_id, text)
            except Retry as error:
                self._unanswered(error)
        self._report.report([problem for problem in self._found.values() if problem is not None])

    async def _problem(self, registry: Registry, topic: str, schema_id: int, text: str) -> Problem | None:
        try:
            stored = await registry.stored_schema(schema_id)
        except Stop as error:
            return Problem(topic, PROPERTY, f"the schema of {topic} cannot be checked: {error}", refused=False)
        name = decode_json(text)["name"]
        if stored is None or not same_schema(stored, text):
            instead = "no schema" if stored is None else "another schema"
            return Problem(
                topic, PROPERTY,
                f"records of {topic} are written with schema {schema_id} ({name}), and the registry gives readers "
                f"{instead} for that number: they cannot be read. Restore the registry from its backup, or register "
                f"the schema under this number (the registry's mode IMPORT)",
                refused=False, loses_data=True,
            )  # fmt: skip
        return await self._problem_of_a_start(registry, topic, name, text)

    async def _problem_of_a_start(self, registry: Registry, topic: str, name: str, text: str) -> Problem | None:
        """What would end the next start, or what it would register again."""
        try:
            known = await registry.examine()
            if known is not None and not same_schema(known[1], text):
                self._require_usable(topic, *known)
        except Stop as error:
            return Problem(topic, PROPERTY, f"the next start would be refused: {error}", refused=False)
        if known is not None:
            return None
        return Problem(
            topic, PROPERTY,
            f"subject {topic}-value does not have its schema {name} any more: the next start registers it again, and "
            f"ends with 3 where the registry does not allow that",
            refused=False,
        )  # fmt: skip

    def _require_usable(self, topic: str, schema_id: int, text: str) -> None:
        """Raise ``Stop`` unless a start would write with this schema, which is another than the one in use."""
        if topic != self._settings.kafka.topic:
            raise Stop(f"schema {schema_id} of subject {topic}-value is another than the one in use")
        require_usable(topic, schema_id, text)

    def _unanswered(self, error: Retry) -> None:
        now = self._monotonic()
        if self._logged is None or now - self._logged >= REPEAT_SECONDS:
            self._logged = now
            log.warning("cannot tell whether readers get the schemas: %s", error)
