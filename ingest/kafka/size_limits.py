"""What the broker's topics refuse for its size, and what is sent instead; outlives the producer that was refused."""

import logging
from collections.abc import Callable

from ingest.core.errors import IngestError, Recycle, Retry
from ingest.kafka.client import BATCH_BYTES
from ingest.kafka.errors import DENIED_SECONDS

log = logging.getLogger(__name__)

_SHRINK = 8
_SINGLE = 1000
"""Below this a batch is a single record."""


class Sizes:
    """Limits that were learnt by being refused. Used by the writer's thread only.

    A dead letter is cut, in the end to nothing but its headers, and dropped (and counted) where even that is too
    large: evidence must not hold up the trades. A trade is never given up for a limit that a person can raise: it is
    sent in smaller batches, and where a single record is refused the writer waits and says so.
    """

    def __init__(self, dead_letter_topic: str, on_dropped: Callable[[int], None] = lambda _: None) -> None:
        self._dead_letter_topic = dead_letter_topic
        self._on_dropped = on_dropped
        self._letter_bytes: int | None = None
        self.batch_bytes = BATCH_BYTES
        """The library's batches at most; 1 means one record each."""

    def letter(self, raw: bytes) -> bytes | None:
        """What is sent of a dead letter's bytes; None where not even an empty one is taken."""
        limit = self._letter_bytes
        if limit is None:
            return raw
        if limit < 0:
            self._on_dropped(1)
            return None
        return raw[:limit]

    def refused(self, topic: str, size: int) -> IngestError:
        """A topic has refused a batch that had a record with ``size`` bytes of value; returns what to do about it."""
        if topic == self._dead_letter_topic:
            known = size if self._letter_bytes is None else min(size, self._letter_bytes)
            self._letter_bytes = known // _SHRINK if known > 0 else -1
            log.warning(
                "%s refuses a dead letter of %d bytes: cut to %d from now on; raise its max.message.bytes",
                topic, size, max(0, self._letter_bytes),
            )  # fmt: skip
            return Recycle("too_large", f"a dead letter of {size} bytes")
        if self.batch_bytes > 1:
            smaller = self.batch_bytes // _SHRINK
            self.batch_bytes = smaller if smaller > _SINGLE else 1
            log.warning("%s refuses our batches: %d bytes at most from now on", topic, self.batch_bytes)
            return Recycle("too_large", f"a batch for {topic}")
        return Retry(
            f"topic {topic} refuses a single record of {size} bytes: raise its max.message.bytes", after=DENIED_SECONDS
        )
