"""Forged records of a writer in the positions topic: each passes every check of its form."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Producer

from ingest.kafka.position_records import MOST_GENERATION
from tests.campaigns.attack.hostile import RECOVERY_SECONDS, Row, row
from tests.campaigns.drills.environment import DrillEnvironment
from tests.harness.processes import ROOT, ServiceProcess, inherited

PAUSE_SECONDS = 5.0
"""Longest time without a commit while a forged record is refuted: far above what that takes."""
Claim = Callable[[ServiceProcess], dict[str, Any]]


def _newer(**changes: Any) -> Claim:
    return lambda service: {"generation": int(service.status()["generation"]) + 1_000, **changes}


CLAIMS: dict[str, Claim] = {
    "a newer generation": _newer(),
    "a newer generation of its own name": _newer(instance="blue"),
    "a generation without successors": _newer(generation=MOST_GENERATION),
    "a newer format": _newer(v=2),
    "another format, without successors": _newer(v=2, generation=MOST_GENERATION),
    "fewer partitions": _newer(partitions=1),
    "the last generation but one": _newer(generation=MOST_GENERATION - 1),
}


def forge(env: DrillEnvironment, **changes: Any) -> None:
    """Write one record of a writer."""
    record = {
        "generation": 1, "instance": "stranger", "deployment_id": None, "committed_at_us": time.time_ns() // 1000,
        "sequence": 1, "state": "active", "v": 1,
    }  # fmt: skip
    producer = Producer({"bootstrap.servers": env.stack.bootstrap_servers, "log_level": 0})
    value = json.dumps({**record, **changes}).encode()
    producer.produce(f"{env.stack.topic}.positions", value, b"writer", partition=0)
    producer.flush(60)


def forged_writers(env: DrillEnvironment, service: ServiceProcess, seconds: float) -> Row:
    """Forged generations, formats and partitions: while the service writes, and behind what it wrote last.

    The service goes on in every case but one: a newer format behind its last record, which a newer version might have
    written. It waits then, and says which record that is and what ends it.
    """
    del seconds
    checks: dict[str, bool] = {}
    for name, claim in CLAIMS.items():
        checks[f"{name}, running"] = _goes_on(env, service, claim(service))
        checks[f"{name}, at a start"] = _starts(env, service, claim(service), cured=name == "a newer format")
    return row("forged_writers", checks, len(checks))


def _goes_on(env: DrillEnvironment, service: ServiceProcess, changes: dict[str, Any]) -> bool:
    env.consumer.forget_gaps()
    forge(env, **changes)
    before = env.consumer.count
    time.sleep(2.0)
    written = env.consumer.wait_new(before, RECOVERY_SECONDS)
    return written and service.alive and service.healthy() and env.consumer.longest_gap < PAUSE_SECONDS


def _starts(env: DrillEnvironment, service: ServiceProcess, changes: dict[str, Any], *, cured: bool) -> bool:
    """Whether it writes after a start behind a forged record; ``cured``: once an operator has run the command."""
    service.kill()
    forge(env, **changes)
    service.start()
    if cured:
        env.stack.wait(lambda: "nothing is written by this instance" in service.tail(200), "a refusal")
        time.sleep(2.0)
        said = service.tail(200)
        if service.healthy() or not service.alive or "`writer` at offset" not in said or "--replace" not in said:
            return False
        done = subprocess.run(
            [sys.executable, "-m", "ingest", "positions", "rebuild", "--replace"], cwd=ROOT, check=False, timeout=300,
            env=inherited() | env.stack.settings(), capture_output=True,
        )  # fmt: skip
        if done.returncode not in (0, 3):  # 3: a symbol that the test's own junk left without proof
            return False
    try:
        env.stack.wait(lambda: env.stack.writing() and service.healthy(), "a writer", seconds=RECOVERY_SECONDS)
    except TimeoutError:
        return False
    before = env.consumer.count
    return bool(env.consumer.wait_new(before, RECOVERY_SECONDS))
