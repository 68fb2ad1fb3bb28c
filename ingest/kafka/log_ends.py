"""Detects a log that was truncated: its end is before one that was seen earlier.

An unclean leader election, or a disk restored from a backup, takes back records that were acknowledged and committed.
The end shows it only until the log has grown again. The offsets of the writer's own records would show it afterwards,
but the library's report of each delivery costs a quarter of a trade's CPU time.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from ingest.kafka.topic_policy import EVIDENCE, Found, Problem, Topic

PROPERTY = "truncated"
"""The label of the metric."""
NAMED = 10
"""Partitions that a text names."""
Place = tuple[str, int]
"""Topic and partition."""


class MovedBack(NamedTuple):
    """A log that went back."""

    before: int
    """How far it had reached: the offset behind its last known record."""
    now: int
    """Where it ended, or was written again, afterwards."""


class TruncatedLogs:
    """Compares the ends of the logs from look to look. What was found once stays: the records stay lost."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        """Topic -> its id at the look before. One that was created again has another, and begins at 0."""
        self._ends: dict[Place, int] = {}
        self._truncated: dict[Place, MovedBack] = {}

    def look(
        self,
        topics: Iterable[Topic],
        found: Mapping[str, Found],
        ends: Mapping[Place, int],
        again: Callable[[], Mapping[str, Found]],
    ) -> list[Problem]:
        """Compare ``ends`` with those of the look before.

        ``again`` describes the topics once more, where one seems truncated: it may have been created again since
        ``found``.
        """
        suspects = {
            place: _furthest(self._truncated.get(place), MovedBack(self._ends[place], end))
            for place, end in ends.items()
            if end < self._ends.get(place, 0)
        }
        created = self._created_again(again() if suspects else found)
        self._truncated |= {place: moved for place, moved in suspects.items() if place[0] not in created}
        self._ends |= ends
        return [_problem(topic, places) for topic in topics if (places := self._places(topic.name))]

    def _created_again(self, found: Mapping[str, Found]) -> set[str]:
        """Topics with another id than before: what was known of their offsets is forgotten."""
        created = {name for name, one in found.items() if self._ids.get(name, one.topic_id) != one.topic_id}
        self._ends = {place: end for place, end in self._ends.items() if place[0] not in created}
        self._ids |= {name: one.topic_id for name, one in found.items()}
        return created

    def _places(self, topic: str) -> dict[int, MovedBack]:
        return {partition: moved for (name, partition), moved in sorted(self._truncated.items()) if name == topic}


def _furthest(one: MovedBack | None, other: MovedBack) -> MovedBack:
    return other if one is None else MovedBack(max(one.before, other.before), min(one.now, other.now))


def _problem(topic: Topic, places: Mapping[int, MovedBack]) -> Problem:
    where = ", ".join(
        f"partition {partition} had reached offset {moved.before} and was at {moved.now} afterwards"
        for partition, moved in list(places.items())[:NAMED]
    )
    advice = {
        "positions": "stop every instance and run `ingest positions rebuild --dry-run`",
        "voids": "the positions topic has the voids, too",
        "dead letters": "the evidence of rejected messages is incomplete",
    }.get(topic.role, "`ingest audit` says what is missing")
    return Problem(
        topic.name, PROPERTY,
        f"the log of topic {topic.name} was truncated: records that had been written are lost ({where}), by an unclean "
        f"leader election or a restored disk: {advice}; see \"Restore after a lost broker\"",
        refused=False, loses_data=topic.role not in EVIDENCE,
    )  # fmt: skip
