"""librdkafka's configuration, in one place: what the exactly-once protocol needs, under what an operator adds."""

import logging
from typing import Any

from ingest.settings import Settings


class _Detail(logging.Filter):
    """What librdkafka calls an error or even fatal is a detail: what it means is decided, and logged, by its caller.

    A planned hand-over, for one, is a fatal error of the old writer's producer.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.levelno = min(record.levelno, logging.WARNING)
        record.levelname = logging.getLevelName(record.levelno)
        return True


_log = logging.getLogger("ingest.kafka.librdkafka")
_log.addFilter(_Detail())

MESSAGE_TIMEOUT_MS = 10_000
"""Lower than the transaction's, so that a message is given up before the broker gives up its transaction."""

RETRY_BACKOFF_MS = 600
"""Its four fifths are more than ``slow_commit_ms`` may be set to."""

BATCH_BYTES = 1_000_000
"""The library's batches at most: below what a topic takes by default (``max.message.bytes``, 1,048,588)."""

QUEUE_KBYTES = 65_536
"""At most 64 MB wait in librdkafka."""


def common(settings: Settings, role: str) -> dict[str, Any]:
    """Options of every client. Security and the like come from ``K2_KAFKA_OPTION_*``."""
    return {
        "bootstrap.servers": settings.kafka.bootstrap_servers,
        "client.id": f"k2-ingest-{settings.service.instance_id}-{role}",
        "reconnect.backoff.ms": 500,
        "reconnect.backoff.max.ms": 2000,
        "enable.sparse.connections": False,  # its first connection waits for half of reconnect.backoff.ms
        "socket.keepalive.enable": True,
        # A name's addresses are tried in turn: with the library's half minute, one that drops packets costs each client
        # that long.
        "socket.connection.setup.timeout.ms": 6000,
        "topic.metadata.refresh.interval.ms": 60_000,
        # Otherwise a question about a topic creates it on a broker that creates topics on demand.
        "allow.auto.create.topics": False,
        "log_level": 3,
        "logger": _log,  # else librdkafka writes to stderr itself: no JSON, no masking, no bound
        **settings.kafka_options,
    }


def producer(settings: Settings, *, transactional: bool, transactional_id: str | None = None) -> dict[str, Any]:
    """Options of the writer's producer. ``transactional_id``: that of the shard by default."""
    config = {
        "linger.ms": 5,
        "compression.type": "lz4",
        "batch.size": BATCH_BYTES,
        "partitioner": "murmur2_random",  # as the Java client and Connect place a key
        **common(settings, "writer"),
        "enable.idempotence": True,
        "acks": "all",
        "message.timeout.ms": MESSAGE_TIMEOUT_MS,
        "queue.buffering.max.kbytes": QUEUE_KBYTES,
        "queue.buffering.max.messages": 200_000,
        # A request whose connection broke is sent again after this, less a fifth of jitter: never within the limit for
        # slow commits, so that a commit below the limit was sent once. The reconnection itself takes no time, and
        # nothing tells of it: this is all that a hidden retry can be told by.
        "retry.backoff.ms": RETRY_BACKOFF_MS,
        "retry.backoff.max.ms": 2000,
        "delivery.report.only.error": True,  # an error is all that must be told; flush() == 0 says the rest
    }
    if transactional:
        config |= {
            "transactional.id": transactional_id or settings.transactional_id,
            "transaction.timeout.ms": settings.kafka.transaction_timeout_ms,
        }
    return config


def reader(settings: Settings, role: str, *, wait_ms: int) -> dict[str, Any]:
    """Options of a reader of the positions. ``wait_ms``: how long the broker may hold a fetch at the end."""
    return {
        **common(settings, role),
        "group.id": f"{settings.transactional_id}-{role}",  # demanded by the library; nothing is committed to it
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "fetch.wait.max.ms": wait_ms,
        "fetch.error.backoff.ms": 100,
        "fetch.queue.backoff.ms": 10,
        # What is fetched ahead of us: with the library's 64 MB a recycled writer that reads the positions of the last
        # quarter of an hour doubles the size of the process. A position is small and a message in the library's queue
        # costs several times its size: the number counts, and what one answer brings comes on top.
        "queued.max.messages.kbytes": 1024,
        "queued.min.messages": 2000,
        "fetch.message.max.bytes": 262_144,
        "allow.auto.create.topics": False,
        "check.crcs": True,
    }
