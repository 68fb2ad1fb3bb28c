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
from typing import Any

from tests.campaigns.attack.cgroup import MemoryLimit
from tests.campaigns.attack.strangers import ATTACKS, Attack
from tests.campaigns.attack.watch import Watch
from tests.campaigns.drills.world import MB, World
from tests.harness.processes import ROOT, ServiceProcess, http_json

LIMIT = 512 * MB
RSS_LIMIT = 300 * MB
COMMIT_GAP_SECONDS = 5.0
"""Far above what a commit takes, as the attackers use the same two cores as the service."""
CONTROL_PORT = frozenset({"dripping_bodies", "token_guesses", "large_bodies"})
"""Attacks on the control port; the others strike the status port."""


def strike(world: World, service: ServiceProcess, attack: Attack, seconds: float) -> dict[str, Any]:
    """Run one attack and return its row of the table."""
    name = attack.__name__
    url = service.control_url if name in CONTROL_PORT else str(service.ready["metrics_url"])
    watch = Watch(service, world.stack.settings()["K2_CONTROL_TOKEN"])
    world.eyes.forget_gap()
    committed = world.eyes.count
    watch.start()
    done = attack(url, seconds)
    seen = watch.close()
    checks = {
        "alive": service.alive,
        "live": seen.live.all_good,
        "ready": seen.ready.all_good,
        "operator": seen.operator.all_good,
        "memory": 0 < seen.rss < RSS_LIMIT,
        "commits": world.eyes.count > committed and world.eyes.longest_gap < COMMIT_GAP_SECONDS,
    }
    return {
        "attack": name,
        "outcome": _outcome(checks),
        "strikes": done,
        "rss_mb": round(seen.rss / MB),
        "live": f"{seen.live.good}/{seen.live.asked}",
        "ready": f"{seen.ready.good}/{seen.ready.asked}",
        "operator": f"{seen.operator.good}/{seen.operator.asked}",
        "slowest_answer_s": round(max(seen.live.longest, seen.ready.longest, seen.operator.longest), 2),
        "commit_gap_s": round(world.eyes.longest_gap, 2),
    }


def _outcome(checks: dict[str, bool]) -> str:
    failed = [name for name, good in checks.items() if not good]
    return f"failed: {', '.join(failed)}" if failed else "held"


def replayed_promotion(world: World, service: ServiceProcess) -> dict[str, Any]:
    """A captured promotion, sent again with a new id, does not make an instance write."""
    token = world.stack.settings()["K2_CONTROL_TOKEN"]
    generation = int(service.status()["generation"])
    body = {"deployment_id": "captured", "generation": generation}
    try:
        url = f"{service.control_url}/control/promote"
        answer = http_json(url, method="POST", body=body, token=token, timeout=30)
        outcome = "held" if answer.get("generation") == generation else f"failed: {answer}"
    except urllib.error.HTTPError as error:
        outcome = "held" if error.code == 409 else f"failed: {error.code}"
    return {"attack": "replayed_promotion", "outcome": outcome, "strikes": 1}


def main() -> int:
    """Play the attacks; returns the exit code."""
    seconds = float(os.environ.get("ATTACK_SECONDS", "8"))
    chosen = [name for name in os.environ.get("ONLY", "").split(",") if name] or [*ATTACKS, "replayed_promotion"]
    simulator = ["--symbols", "50", "--rate", "500", "--seed", "17"]
    with World("attack", simulator) as world, MemoryLimit("attack", LIMIT) as limit:
        service = world.stack.service("blue")
        assert service.process is not None
        limit.add(service.process.pid)
        world.stack.wait(world.stack.writing, "the service as writer")
        world.stack.wait(service.healthy, "readiness")
        rows = [_row(world, service, name, seconds) for name in chosen]
        world.settle("blue")
        held = all(row["outcome"] == "held" for row in rows)
        report = ROOT / "reports" / "attack" / "attack.json"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(json.dumps({"schema_version": 1, "seconds": seconds, "rows": rows}, indent=2) + "\n")
        code = world.conclude({"attacks": len(rows)}, also={"every attack held": held})
    _print(rows)
    return code


def _row(world: World, service: ServiceProcess, name: str, seconds: float) -> dict[str, Any]:
    special: dict[str, Callable[[World, ServiceProcess], dict[str, Any]]] = {"replayed_promotion": replayed_promotion}
    row = special[name](world, service) if name in special else strike(world, service, ATTACKS[name], seconds)
    world.say(f"{name}: {row['outcome']}")
    time.sleep(1.0)
    return row


def _print(rows: list[dict[str, Any]]) -> None:
    columns = list(rows[0])
    sys.stdout.write("  ".join(f"{name:>18}" for name in columns) + "\n")
    for row in rows:
        sys.stdout.write("  ".join(f"{row.get(name, '')!s:>18}" for name in columns) + "\n")


if __name__ == "__main__":
    sys.exit(main())
