"""Play every attack against the real service in 512 MB, and print what held.

``ATTACK_SECONDS`` (8) is the time of each; ``ONLY`` names attacks, comma separated. Ends 0 only if in every attack the
process lived within its limit, health answered, the operator was served, and trades were committed.
"""

import json
import os
import sys
import time
import urllib.error
from collections.abc import Callable

from tests.campaigns.attack import disclosure, operations
from tests.campaigns.attack.cgroup import Limit, MemoryLimit
from tests.campaigns.attack.forgeries import forged_writers
from tests.campaigns.attack.hostile import (
    Row,
    flooding_exchange,
    forged_commands,
    hostile_exchange,
    hostile_registry,
    junk_positions,
    row,
    token_of,
)
from tests.campaigns.attack.strangers import ATTACKS, CHEAP, Attack
from tests.campaigns.attack.watch import Watch
from tests.campaigns.drills.environment import MB, DrillEnvironment
from tests.harness.processes import ROOT, ServiceProcess, http_json

LIMIT = 512 * MB
RSS_LIMIT = 300 * MB
COMMIT_GAP_SECONDS = 5.0
"""Far above what a commit takes, as the attackers use the same two cores as the service."""
REPORT = ROOT / "reports" / "attack" / "attack.json"
COLUMNS = (
    "attack", "outcome", "strikes", "rss_mb", "live", "ready", "operator", "slow", "slowest_answer_s", "commit_gap_s",
)  # fmt: skip
SLOW = frozenset({"connect_flood", "idle_connections"})
"""Attacks by connections that send nothing: they displace no client that sends, however slowly."""
CONTROL_PORT = frozenset({"dripping_bodies", "token_guesses", "large_bodies"})
"""Attacks on the control port; the others strike the status port."""


def strike(env: DrillEnvironment, service: ServiceProcess, attack: Attack, seconds: float) -> Row:
    """Run one attack of strangers and return its row of the table."""
    name = attack.__name__
    url = service.control_url if name in CONTROL_PORT else str(service.ready["metrics_url"])
    watch = Watch.of(service, token_of(env))
    env.consumer.forget_gaps()
    committed = env.consumer.count
    watch.start()
    done = attack(url, seconds)
    seen = watch.close()
    checks = {
        "alive": service.alive,
        "live": seen.live.all_good,
        "ready": seen.ready.all_good,
        "operator": seen.operator.all_good,
        "slow clients": seen.slow.all_good or name not in SLOW,
        "memory": 0 < seen.rss < RSS_LIMIT,
        "commits": env.consumer.count > committed and env.consumer.longest_gap < COMMIT_GAP_SECONDS,
    }
    return row(name, checks, done, watch) | {"commit_gap_s": round(env.consumer.longest_gap, 2)}


def replayed_promotion(env: DrillEnvironment, service: ServiceProcess, seconds: float) -> Row:
    """A captured promotion, sent again with a new id, does not make an instance write."""
    del seconds
    generation = int(service.status()["generation"])
    body = {"deployment_id": "captured", "generation": generation}
    try:
        url = f"{service.control_url}/control/promote"
        answer = http_json(url, method="POST", body=body, token=token_of(env), timeout=30)
        held = answer.get("generation") == generation
    except urllib.error.HTTPError as error:
        held = error.code == 409
    return row("replayed_promotion", {"refused": held}, 1)


def commands(env: DrillEnvironment, service: ServiceProcess, seconds: float) -> Row:
    """Forged and replayed commands at the service."""
    del seconds
    return forged_commands(service.control_url, "/control/rotate", token_of(env), b"{}", 200)


HOSTILE: dict[str, Callable[[DrillEnvironment, ServiceProcess, float], Row]] = {
    "replayed_promotion": replayed_promotion,
    "commands": commands,
    "hostile_exchange": hostile_exchange,
    "flooding_exchange": flooding_exchange,
    "hostile_registry": hostile_registry,
    "crash": disclosure.crash,
    "forged_writers": forged_writers,
    "junk_positions": junk_positions,
}
OPERATIONS = [f"{attack} at {program}" for program in ("agent", "exporter", "auditor") for attack in CHEAP]


def play(seconds: float, chosen: list[str], limit: Limit) -> int:
    """Play the attacks; returns the exit code."""
    simulator = ["--symbols", "50", "--rate", "500", "--seed", "17"]
    with DrillEnvironment("attack", simulator) as env:
        service = env.stack.service("blue")
        assert service.process is not None
        limit.add(service.process.pid)
        env.stack.wait(env.stack.writing, "the service as writer")
        env.stack.wait(service.healthy, "readiness")
        rows = [_row(env, service, name, seconds) for name in chosen if name in ATTACKS or name in HOSTILE]
        rows += operations.play(env.directory, seconds, chosen, limit)
        env.settle("blue", seconds=600.0)
        if {"junk_positions", "forged_writers"} & set(
            chosen
        ):  # which the auditor would rightly report: the trades are audited all the same
            env.audit_options = ("--without-positions",)
        held = all(one["outcome"] == "held" for one in rows)
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(json.dumps({"schema_version": 1, "seconds": seconds, "rows": rows}, indent=2) + "\n")
        _print(rows)
        return env.conclude({"attacks": len(rows)}, also={"every attack held": held})


def main() -> int:
    """Play all attacks, or those that ``ONLY`` names, within a memory limit."""
    seconds = float(os.environ.get("ATTACK_SECONDS", "8"))
    chosen = [name for name in os.environ.get("ONLY", "").split(",") if name] or [*ATTACKS, *HOSTILE, *OPERATIONS]
    with MemoryLimit("attack", LIMIT) as limit:
        return play(seconds, chosen, limit)


def _row(env: DrillEnvironment, service: ServiceProcess, name: str, seconds: float) -> Row:
    found = HOSTILE[name](env, service, seconds) if name in HOSTILE else strike(env, service, ATTACKS[name], seconds)
    env.say(f"{name}: {found['outcome']}")
    time.sleep(1.0)
    return found


def _print(rows: list[Row]) -> None:
    columns = {name: max(len(name), *(len(str(one.get(name, ""))) for one in rows)) for name in COLUMNS}
    for one in ({name: name for name in COLUMNS}, *rows):
        sys.stdout.write("  ".join(f"{one.get(name, '')!s:{width}}" for name, width in columns.items()) + "\n")


if __name__ == "__main__":
    sys.exit(main())
