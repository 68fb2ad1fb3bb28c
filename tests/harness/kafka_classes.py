"""Kafka's classes, read and verified once: the JVM maps their archive, and a broker starts with half the work.

The tests start some fifty brokers. An archive that does not fit (another Java, other jars) is passed over by the JVM,
without a word; no broker waits for one.
"""

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

QUIET = "-Xlog:cds=off"
"""Whether an archive fits is nobody's concern but ours."""


def archive(java: str, jars: Path) -> Path:
    """Where the archive for this Java and these jars is, or would be."""
    program = Path(java).resolve()
    about = program.stat()
    key = f"{program} {about.st_mtime_ns} {about.st_size} {jars.resolve()}"
    return jars.with_name(f"{jars.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}.jsa")


def options(java: str, jars: Path) -> list[str]:
    """For the command line of a JVM: none where there is no archive yet."""
    found = archive(java, jars)
    return [f"-XX:SharedArchiveFile={found}", QUIET] if found.exists() else []


def share() -> None:
    """Make the archive, if there is none: a broker is started, and writes down what it loaded as it ends.

    Raises ``KafkaUnavailable`` where no broker can run; an archive that could not be written is no failure.
    """
    from tests.harness import kafka  # it asks for ``options`` at each start

    java, jars = kafka.java(), kafka.jars()
    made = archive(java, jars)
    if made.exists():
        return
    with jars.with_name("kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists():
            return
        fresh = made.with_suffix(f".{os.getpid()}")
        with kafka.KafkaBroker(jvm=[f"-XX:ArchiveClassesAtExit={fresh}", QUIET]) as broker:
            broker.stop(kafka.START_SECONDS)
        if fresh.exists() and loaded(java, jars, fresh):
            fresh.replace(made)
        else:
            fresh.unlink(missing_ok=True)
            sys.stderr.write("no archive of Kafka's classes: brokers start more slowly\n")


def loaded(java: str, jars: Path, file: Path) -> int:
    """How many classes a short program takes from an archive; 0 from one that is broken: a JVM may die of that."""
    command = [java, f"-XX:SharedArchiveFile={file}", QUIET, "-Xlog:class+load", "-XX:+UseSerialGC"]
    command += [f"-XX:ErrorFile={os.devnull}", "-cp", f"{jars}/*", "kafka.tools.StorageTool", "random-uuid"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=250)
    return done.stdout.count("source: shared objects file (top)") if done.returncode == 0 else 0
