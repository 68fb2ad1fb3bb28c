"""Plays a schedule of faults on a fleet, and judges."""

import json
import math
import random
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Any

from tests.campaigns.fleet.environment import FleetEnvironment, Plan
from tests.campaigns.fleet.faults import FAULTS, PLANNED, schedule
from tests.harness.processes import ROOT

RECOVERY_SECONDS = 240.0
"""Patience: on an idle machine a recovery takes ten seconds at most."""
REPORT = ROOT / "reports" / "fleet" / "summary.json"
REFUSALS = ("rest_429", "rest_418", "bans")
"""What the simulator counts if an address asks for too much."""
AUDITED = ("missing", "duplicated", "reordered", "altered")


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that ``share`` of all do not exceed; None of none."""
    ordered = sorted(values)
    return round(ordered[max(0, math.ceil(len(ordered) * share) - 1)], 3) if ordered else None


def play(env: FleetEnvironment, kind: str, number: int, rng: random.Random) -> dict[str, Any]:
    """One fault, until every shard is written where it belongs; its row."""
    began, wall = time.monotonic(), time.time_ns() / 1e9
    where = FAULTS[kind](env, rng)
    running = env.running
    recovered = env.until(
        lambda: env.fleet.written_by(*running) and env.fleet.written_where_assigned(),
        f"fault {number} ({kind} of {where}): every shard written by its owner among {running}",
        RECOVERY_SECONDS,
    )
    time.sleep(1.0)  # the log follows
    gaps = list(env.log.gaps(wall, time.time_ns() / 1e9))
    moved = [one for one in env.log.moves() if one[1] >= wall]
    longest = max((gap for _, gap, _ in gaps), default=0.0)
    row = {
        "fault": kind,
        "where": where,
        "seconds": round(time.monotonic() - began, 1),
        "recovered_after_fault_seconds": round(recovered, 1),
        "shards_moved": sorted({shard for shard, _, _ in moved}),
        "moves": len(moved),
        "longest_without_commit_seconds": {str(shard): round(gap, 3) for shard, gap, _ in gaps if gap >= 1.5},
        "longest_move_seconds": round(max((gap for _, _, gap in moved), default=0.0), 3),
    }
    env.say(
        f"{number:3} {kind:16} {where:14} recovered in {recovered:5.1f} s, longest without a commit {longest:6.2f} s"
    )
    return row


def run(plan: Plan, *, bootstrap_servers: str | None = None) -> int:
    """Play it; returns the exit code."""
    rows: list[dict[str, Any]] = []
    with FleetEnvironment(plan, bootstrap_servers=bootstrap_servers) as env:
        names = "abcdefgh"[: plan.instances]
        for name in names:
            env.instance(name)
        env.until(lambda: env.fleet.written_by(*names), "every instance with shards", RECOVERY_SECONDS)
        symbols = env.stack.simulator.state()["symbols"].keys()
        env.until(lambda: env.fleet.committed().keys() == symbols, "a trade of every symbol", RECOVERY_SECONDS)
        env.say(f"{plan.instances} instances write {plan.shards} shards with {plan.symbols} symbols")
        rng, began, problem = random.Random(plan.seed), time.monotonic(), ""
        try:
            for number, kind in enumerate(schedule(plan.seed, plan.faults), 1):
                rows.append(play(env, kind, number, rng))
                time.sleep(rng.uniform(0.5, 3.0))
        except (TimeoutError, RuntimeError) as error:
            problem = str(error)
            env.say(problem)
        played = time.monotonic() - began
        env.stack.simulator.market("stop")
        try:
            settled = env.until(env.fleet.caught_up, "the last trade of every symbol", RECOVERY_SECONDS)
        except TimeoutError as error:
            problem, settled = problem or str(error), RECOVERY_SECONDS
        summary = judge(env, rows, problem, {"played_seconds": round(played, 1), "settled_seconds": round(settled, 1)})
    if summary["verdict"] == "PASS":
        shutil.rmtree(env.directory, ignore_errors=True)
    else:
        sys.stdout.write(f"logs are in {env.directory}\n")
    return 0 if summary["verdict"] == "PASS" else 1


def judge(env: FleetEnvironment, rows: list[dict[str, Any]], problem: str, figures: dict[str, Any]) -> dict[str, Any]:
    """Audit, print, write the report; returns it."""
    code, audit = env.stack.audit()
    totals, counters = audit["totals"], env.stack.simulator.state()["counters"]
    two = env.log.two_writers()
    checks = {
        "every fault was recovered from": not problem and len(rows) == env.plan.faults,
        "audit": code == 0 and totals["committed"] > 0,
        "one writer of each shard": not two,
        "no request was refused": not any(counters.get(name) for name in REFUSALS),
        "connection attempts within the limit": env.handshakes.within_limit,
    }
    summary: dict[str, Any] = {
        "schema_version": 1,
        "verdict": "PASS" if all(checks.values()) else "FAIL",
        "plan": vars(env.plan),
        "checks": checks,
        "problem": problem,
        "two_writers": two,
        "trades_sent": totals["ledger"],
        "trades_committed": totals["committed"],
        **{name: totals[name] for name in AUDITED},
        "voids": totals["voids"],
        "rest_weight": counters["rest_weight"],
        "handshakes": counters.get("handshakes", 0),
        "handshakes_in_5_minutes_max": env.handshakes.most,
        **figures,
        "kinds": by_kind(rows),
        "rows": rows,
    }
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(summary, indent=2) + "\n")
    show(summary)
    return summary


def by_kind(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each kind of fault: how many, and how long shards were without a commit when they moved."""
    found = {}
    for kind in FAULTS:
        mine = [row for row in rows if row["fault"] == kind]
        moves = [row["longest_move_seconds"] for row in mine if row["moves"]]
        recovered = [row["recovered_after_fault_seconds"] for row in mine]
        found[kind] = {
            "planned": kind in PLANNED,
            "faults": len(mine),
            "longest_move_p50_seconds": percentile(moves, 0.5),
            "longest_move_p99_seconds": percentile(moves, 0.99),
            "recovered_max_seconds": percentile(recovered, 1.0),
        }
    return found


def show(summary: dict[str, Any]) -> None:
    """Print it as a table."""
    for name, value in summary.items():
        if isinstance(value, int | float | str):
            sys.stdout.write(f"  {name:30}  {f'{value:,}' if isinstance(value, int) else value}\n")
    for kind, one in summary["kinds"].items():
        sys.stdout.write(f"  {kind:18} {json.dumps(one)}\n")
    for name, good in summary["checks"].items():
        sys.stdout.write(f"  {'check: ' + name:48}  {'ok' if good else 'FAILED'}\n")
    sys.stdout.write(f"{REPORT.relative_to(ROOT)} written\n")
