"""Tells records that were deleted on purpose from those whose retention is over. Pure.

Each look notes the first offset of a partition that the retention must still keep. Where the log begins behind it at
the next look, records were deleted before their time. A compacted topic always keeps its beginning.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ingest.kafka.topic_policy import EVIDENCE, FOREVER_MS, Found, Problem, Role, Topic

COMPACTED: tuple[Role, ...] = ("positions", "voids")
"""Must keep their beginning, whatever their policy is for the moment: Kafka refuses to delete records of a compacted
topic: the policy is changed for the moment then."""
MARGIN_MS = 600_000
"""Clocks of brokers and of this machine differ, and a look takes time."""
RECENT_MS = MARGIN_MS // 2
"""Looks that are farther apart are not compared: the retention goes on deleting meanwhile. Half of the margin is left
for the difference of the clocks."""


class Offsets(NamedTuple):
    """What is asked about one partition."""

    start: int
    """Where the log begins."""
    kept: int
    """The first record that the retention must keep; the end where it need not keep any, or is not known."""
    end: int = 0
    """Where the log ends."""


class _Noted(NamedTuple):
    now_ms: int
    """When it was noted, by the clock that the offsets were asked with."""
    kept: int
    retention_ms: int
    topic_id: str


def retention_of(found: Found) -> int | None:
    """How long a topic keeps records, ms, -1 without limit; None where size decides, or where that is not known."""
    configs = found.configs
    if configs is None or configs.get("retention.bytes", "-1") != "-1":
        return None
    if configs.get("cleanup.policy") == "compact":
        return FOREVER_MS
    value = configs.get("retention.ms", "")
    return int(value) if value.lstrip("-").isdigit() else None


def cutoff_ms(retention_ms: int, now_ms: int) -> int:
    """Records since then must be kept until the next look; 0: all of them."""
    return 0 if retention_ms < 0 else max(0, now_ms - retention_ms + MARGIN_MS)


class DeletedRecords:
    """What was deleted before its time, since this process looks."""

    def __init__(self) -> None:
        self._noted: dict[tuple[str, int], _Noted] = {}
        self._deleted: dict[str, dict[int, int]] = {}
        """Topic -> partition -> where the log begins now."""

    def look(
        self,
        topics: Iterable[Topic],
        found: Mapping[str, Found],
        offsets: Mapping[tuple[str, int], Offsets],
        now_ms: int,
    ) -> list[Problem]:
        """Compare with the look before; what was once found stays, because the records stay lost.

        ``now_ms``: the time that the offsets were asked with.
        """
        topics = list(topics)
        compacted = {topic.name for topic in topics if topic.role in COMPACTED}
        for place, one in offsets.items():
            name = place[0]
            retention = retention_of(found[name]) if name in found else None
            before = self._noted.pop(place, None)
            if retention is None:
                continue
            if (
                before is not None
                and before.topic_id == found[name].topic_id
                and one.start > before.kept
                # Another retention than before explains it, and so does time; not where none at all is allowed.
                and (name in compacted or _comparable(before, retention, now_ms))
            ):
                self._deleted.setdefault(name, {})[place[1]] = one.start
            self._noted[place] = _Noted(now_ms, one.kept, retention, found[name].topic_id)
        return [_problem(topic, self._deleted[topic.name]) for topic in topics if topic.name in self._deleted]


def _comparable(before: _Noted, retention_ms: int, now_ms: int) -> bool:
    """Whether the retention alone cannot have deleted what was to be kept."""
    return before.retention_ms == retention_ms and (retention_ms < 0 or now_ms - before.now_ms <= RECENT_MS)


def _problem(topic: Topic, places: Mapping[int, int]) -> Problem:
    where = ", ".join(f"partition {partition} begins at {start}" for partition, start in sorted(places.items())[:10])
    advice = {
        "positions": "run `ingest positions rebuild` before the next start",
        "voids": "the positions topic has the voids, too",
        "dead letters": "the evidence of rejected messages is incomplete",
    }.get(topic.role, "restore them from the archive or a copy of the topic; `ingest audit` says what is missing")
    return Problem(
        topic.name, "deleted_records",
        f"records of topic {topic.name} were deleted before their retention was over ({where}): {advice}; restrict who "
        "may delete records with an ACL",
        refused=False, loses_data=topic.role not in EVIDENCE,
    )  # fmt: skip
