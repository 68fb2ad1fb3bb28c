"""Compares the number of partitions that the last writer's record states with the trades topic of now."""

import logging

from msgspec import UNSET

from ingest.core.errors import Stop
from ingest.kafka.positions import ShardState, WriterRecord
from ingest.kafka.topic_policy import other_partitions
from ingest.kafka.writer_ports import BrokerPort

log = logging.getLogger(__name__)

PARTITIONS_SEEN_SECONDS = 300.0
"""A writer ends at the latest so long after partitions were added: it looks every 15 s, and clocks differ.

Records that appeared in the new partitions shortly before or after its last commit do not contradict its number.
"""


def confirmed_partitions(
    broker: BrokerPort,
    seen: ShardState,
    *,
    topic: str,
    positions_topic: str,
    accepted: int | None,
    topic_id: str | None,
) -> int | None:
    """Return how many partitions the trades topic has; None if that is not known.

    ``accepted``: it may have so many, whatever its records were written to. ``topic_id``: that of the topic now, if
    known. Raises ``Stop`` if the last writer wrote to another number, ``Retry``.
    """
    found, previous = broker.partitions(), seen.writer
    before = None if previous is None or previous.partitions is UNSET else previous.partitions
    if found is None or previous is None or before is None or found in (before, accepted):
        return found
    where = "" if seen.writer_offset is None else f" at offset {seen.writer_offset}"
    claim = f"the record `writer`{where} of {positions_topic} ({previous.instance})"
    if before > found:  # partitions are never taken away from a topic
        contradicted = previous.topic_id is not UNSET and previous.topic_id == topic_id
    else:
        before_ms = _last_commit_us(seen, previous) // 1000 - int(PARTITIONS_SEEN_SECONDS * 1000)
        contradicted = broker.recorded_from(before, before_ms)
    if not contradicted:
        raise Stop(f"{other_partitions(topic, found, before)}. So says {claim}; accept it if that is forged")
    log.error("%s says that %s had %d partitions, which its records contradict: forged", claim, topic, before)
    return found


def _last_commit_us(seen: ShardState, previous: WriterRecord) -> int:
    """When the shard was committed last, at least; microseconds since the epoch.

    The time in the ``writer`` record may be forged as well, to one before all records. The last trade of a position was
    committed after its own time.
    """
    times = (one.last_time_us for one in seen.positions.values() if one.last_time_us is not None)
    return max(previous.committed_at_us, max(times, default=0))
