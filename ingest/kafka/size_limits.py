"""What the broker's topics refuse for its size, and what is sent instead; outlives the producer that was refused."""

import logging
import time
from collections.abc import Callable

from ingest.core.errors import IngestError, Recycle, Retry
from ingest.kafka.client import BATCH_BYTES
from ingest.kafka.errors import DENIED_SECONDS

log = logging.getLogger(__name__)

LETTER_FAILURES = 3
SUSPENDED_FIRST_SECONDS = 60.0
SUSPENDED_MOST_SECONDS = 3600.0
_SHRINK = 8
_SINGLE = 1000
"""Below this a batch is a single record."""


class Sizes:
    """Limits that were learnt by being refused. Used by the writer's thread only.

    A dead letter is cut, in the end to nothing but its headers, and dropped (and counted) where even that is too
    large: evidence must not hold up the trades. A trade is never given up for a limit that a person can raise: it is
    sent in smaller batches, and where a single record is refused the writer waits and says so.
    """

    def __init__(
        self,
        dead_letter_topic: str,
        on_dropped: Callable[[int], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.dead_letter_topic = dead_letter_topic
        self._monotonic = monotonic
        self._letter_failures = 0
        self._suspended_until = 0.0
        self._on_dropped = on_dropped
        self._letter_bytes: int | None = None
        self.batch_bytes = BATCH_BYTES
        """The library's batches at most; 1 means one record each."""

    def letter(self, raw: bytes) -> bytes | None:
        """What is sent of a dead letter's bytes; None (and counted) while its topic refuses even an empty one."""
        if self._monotonic() < self._suspended_until:
            self._on_dropped(1)
            return None
        limit = self._letter_bytes
        if limit is None:
            return raw
        if limit < 0:
            self._on_dropped(1)
            return None
        return raw[:limit]

    def letters_failed(self, reason: str, *, permanent: bool) -> None:
        """A transaction failed for its dead letters alone: they must not hold up the trades.

        After a permanent refusal, or the third failure in a row, dead letters are dropped and counted for a while.
        """
        self._letter_failures += 1
        if not permanent and self._letter_failures < LETTER_FAILURES:
            return
        pause = min(SUSPENDED_FIRST_SECONDS * 2.0 ** min(self._letter_failures - 1, 10), SUSPENDED_MOST_SECONDS)
        self._suspended_until = self._monotonic() + pause
        log.error(
            "%s does not take dead letters: dropped and counted for %g s; %s", self.dead_letter_topic, pause, reason,
            extra={"topic": self.dead_letter_topic, "reason": reason, "seconds": pause},
        )  # fmt: skip

    def letters_committed(self) -> None:
        """A transaction with dead letters was committed."""
        self._letter_failures = 0

    def refused(self, topic: str, size: int) -> IngestError:
        """A topic has refused a batch that had a record with ``size`` bytes of value; returns what to do about it."""
        if topic == self.dead_letter_topic:
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
