"""Detects a log that was truncated: its end, or the offset of a written record, is before one that was seen earlier.

An unclean leader election, or a disk restored from a backup, takes back records that were acknowledged and committed.
The end alone shows it only until the log has grown again; the offsets of the writer's own records show it afterwards.
"""

import threading
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


class WrittenOffsets:
    """The offsets of the records that this process has written. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[Place, int] = {}
        self._moved_back: dict[Place, MovedBack] = {}

    def written(self, topic: str, partition: int, offset: int) -> None:
        """Take the offset of an acknowledged record, in the order of the acknowledgements."""
        place = (topic, partition)
        with self._lock:
            before = self._ends.get(place, 0)
            if offset < before:
                self._moved_back[place] = _furthest(self._moved_back.get(place), MovedBack(before, offset))
            self._ends[place] = offset + 1

    def ends(self) -> dict[Place, int]:
        """Where each log ended at least when its latest record was acknowledged."""
        with self._lock:
            return dict(self._ends)

    def moved_back(self) -> dict[Place, MovedBack]:
        """What went back since the start, or since ``forget``."""
        with self._lock:
            return dict(self._moved_back)

    def forget(self, topic: str) -> None:
        """The topic was created again: its offsets begin again."""
        with self._lock:
            self._ends = {place: end for place, end in self._ends.items() if place[0] != topic}
            self._moved_back = {place: moved for place, moved in self._moved_back.items() if place[0] != topic}


class TruncatedLogs:
    """Compares the ends of the logs from look to look. What was found once stays: the records stay lost."""

    def __init__(self, written: WrittenOffsets) -> None:
        self._written = written
        self._ids: dict[str, str] = {}
        """Topic -> its id at the look before. One that was created again has another, and begins at 0."""
        self._ends: dict[Place, int] = {}
        self._truncated: dict[Place, MovedBack] = {}

    def look(
        self,
        topics: Iterable[Topic],
        found: Mapping[str, Found],
        ends: Mapping[Place, int],
        known: Mapping[Place, int],
        again: Callable[[], Mapping[str, Found]],
    ) -> list[Problem]:
        """Compare ``ends`` with the look before and with ``known``: ``WrittenOffsets.ends`` before they were read.

        ``again`` describes the topics once more, where one seems truncated: it may have been created again since
        ``found``.
        """
        suspects = self._suspects(ends, known)
        new = {place: moved for place, moved in suspects.items() if self._truncated.get(place) != moved}
        created = self._created_again(again() if new else found)
        self._truncated |= {place: moved for place, moved in new.items() if place[0] not in created}
        self._ends |= ends
        return [_problem(topic, places) for topic in topics if (places := self._places(topic.name))]

    def _suspects(self, ends: Mapping[Place, int], known: Mapping[Place, int]) -> dict[Place, MovedBack]:
        suspects = {}
        for place, moved in self._written.moved_back().items():
            suspects[place] = _furthest(self._truncated.get(place), moved)
        for place, end in ends.items():
            before = max(self._ends.get(place, 0), known.get(place, 0))
            if end < before:
                suspects[place] = _furthest(suspects.get(place) or self._truncated.get(place), MovedBack(before, end))
        return suspects

    def _created_again(self, found: Mapping[str, Found]) -> set[str]:
        """Topics with another id than before: what was known of their offsets is forgotten."""
        created = {name for name, one in found.items() if self._ids.get(name, one.topic_id) != one.topic_id}
        for name in created:
            self._written.forget(name)
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
