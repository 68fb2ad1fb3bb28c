"""The batch size that the broker's topics take; outlives the producer that was refused."""

import logging

from ingest.core.errors import IngestError, Recycle, Retry
from ingest.kafka.client import BATCH_BYTES
from ingest.kafka.errors import DENIED_SECONDS

log = logging.getLogger(__name__)

_SHRINK = 8
_SINGLE = 1000
"""Below this a batch is a single record."""


class SizeLimits:
    """The limit that was learnt by being refused. Used by the writer's thread only.

    A trade is never dropped because of a limit that an operator can raise. It is sent in smaller batches;
    while a single record is refused, the writer waits and logs it.
    """

    def __init__(self) -> None:
        self.batch_bytes = BATCH_BYTES
        """The library's batches at most; 1 means one record each."""

    def refused(self, topic: str, size: int) -> IngestError:
        """A topic has refused a batch that had a record with ``size`` bytes of value; returns what to do about it."""
        if self.batch_bytes > 1:
            smaller = self.batch_bytes // _SHRINK
            self.batch_bytes = smaller if smaller > _SINGLE else 1
            log.warning(
                "%s refuses our batches: %d bytes at most from now on", topic, self.batch_bytes, extra={"topic": topic}
            )
            return Recycle("too_large", f"a batch for {topic}")
        return Retry(
            f"topic {topic} refuses a single record of {size} bytes: raise its max.message.bytes", after=DENIED_SECONDS
        )
