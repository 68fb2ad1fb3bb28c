"""Row 24: the broker's disk is full. The broker ends; room is made, and it is started again."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.campaigns.brokers.environment import START, BrokerEnvironment
from tests.campaigns.faults.rows import Played
from tests.harness.kafka import KafkaBroker

SIZE = "64m"
LEFT = 256 * 1024
"""Bytes that the broker still finds: it fills them itself, with the service's own records."""
LIMIT = 10.0
SLOW_MACHINE = 5.0


class DiskUnavailable(Exception):
    """Nothing can be mounted here."""


@contextlib.contextmanager
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of its own, a few megabytes large. Raises ``DiskUnavailable``."""
    directory.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "k2-tiny-disk", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise DiskUnavailable(f"a small disk cannot be mounted (it needs root): {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True, timeout=60)


def free(directory: Path) -> int:
    """Bytes left."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def tiny_broker(directory: Path, disk: Path) -> KafkaBroker:
    """A broker whose data are on that disk; its indexes are small, or they alone would fill it."""
    return KafkaBroker(
        directory, heap="384m", properties={"log.dirs": str(disk / "data"), "log.index.size.max.bytes": "65536"}
    )


def fill(disk: Path) -> Path:
    """Take all but a little of the disk; returns what to remove to give it back."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        file.write(b"\0" * max(0, free(disk) - LEFT))
    return ballast


def play(site: BrokerEnvironment, broker: KafkaBroker, disk: Path) -> Played:
    """Fill it, wait for the broker's end, make room, start it again."""
    played = Played()
    errors = site.metric("ingest_producer_errors_total")
    ballast = fill(disk)
    site.until(lambda: not broker.alive, "the end of the broker", START)
    left = free(disk)
    site.until(lambda: not site.service.healthy(), "a service that is not ready", START)
    site.until(lambda: site.metric("ingest_producer_errors_total") > errors, "an error that is counted", START)
    ballast.unlink()
    heads = site.heads()
    broker.start(wait=False)
    broker.wait_ready()
    began = time.monotonic()
    site.flowing(START)
    played.recoveries.append(time.monotonic() - began)
    site.wait_committed(heads, START)
    site.until(site.service.healthy, "readiness", START)
    played.note = f"the broker ended with {left:,} bytes left"
    if played.recoveries[0] > LIMIT * SLOW_MACHINE:
        played.problems.append(f"{played.recoveries[0]:.1f} s to the first commit; {LIMIT:g} s are allowed")
    return played
