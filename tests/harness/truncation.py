"""Takes records back from a partition, as an unclean leader election or a restored disk does."""

import struct
from pathlib import Path

from tests.harness.kafka import KafkaBroker

_HEADER = struct.Struct(">qi")
"""Of a batch: base offset, and the bytes that follow."""


def batches(log: bytes) -> list[tuple[int, int]]:
    """Position and base offset of each batch of a segment."""
    found, at = [], 0
    while at + _HEADER.size <= len(log):
        base, length = _HEADER.unpack_from(log, at)
        if length <= 0:
            break
        found.append((at, base))
        at += _HEADER.size + length
    return found


def truncate(broker: KafkaBroker, topic: str, partition: int, number: int) -> int:
    """Take the last ``number`` batches, markers included; returns where the log ends then. The broker must not run."""
    assert not broker.alive
    folder = Path(broker.directory) / "data" / f"{topic}-{partition}"
    log = sorted(folder.glob("*.log"))[-1]
    content = log.read_bytes()
    position, base = batches(content)[-number]
    log.write_bytes(content[:position])
    for pattern in ("*.index", "*.timeindex", "*.txnindex", "*.snapshot"):
        for path in folder.glob(pattern):
            path.unlink()
    (folder.parent / ".kafka_cleanshutdown").unlink(missing_ok=True)
    return base
