"""``make mutants``: every planted fault on the real processes; the runner must catch each within a number of faults."""

import json
import os
import signal
import sys
import time
from collections.abc import Sequence

from tests.chaos.arena import Ground
from tests.chaos.mutants import MUTANTS
from tests.chaos.report import FOLDER
from tests.chaos.runner import LATE, Outcome, play, schedule

FAULTS, SECONDS = 60, 40.0
KINDS = (
    "kill", "terminate", "freeze_long", "promote", "broker_frozen", "broker_killed", "kafka_connections_cut",
    "kafka_black_hole", "end_txn_held", "gap", "duplicate", "altered_duplicate", "reorder", "void", "history_lag",
    "rest_truncate", "reset", "replay",
)  # fmt: skip
"""The kinds that planted faults show under; the others cost time and tell nothing about these."""


LONG = (*KINDS, "kafka_outage")
"""With outages longer than a message may wait: planted faults in what is done about a failure show under these only."""

UNHEALED = ("kafka_outage", "gap", "duplicate", "reorder", "void")
"""Outages after which nobody is restarted or replaced: whoever resumes reads the stored positions, which heals much."""
SCHEDULES = (KINDS, LONG, UNHEALED)


def hunt(
    ground: Ground,
    name: str,
    *,
    faults: int = FAULTS,
    seconds: float = SECONDS,
    seed: int = 1,
    kinds: Sequence[str] = KINDS,
) -> Outcome:
    """One planted fault under fire; it is caught if the outcome is not a pass."""
    return play(
        ground,
        f"mutant-{name}-{seed}",
        schedule(seed, faults, seconds, kinds),
        seed=seed,
        simulator=["--symbols", "10", "--rate", "500"],
        module=("tests.chaos.mutant", name, "run"),
        settle_seconds=60.0,
    )


def caught(outcome: Outcome) -> list[str]:
    """What the planted fault has shown itself by: neither by what never started, nor by what was merely late."""
    return [problem for problem in outcome.problems if problem != LATE] if outcome.injected else []


def main() -> int:
    """Hunt all, or those named in ``MUTANTS``; returns the exit code."""
    names = (os.environ.get("MUTANTS") or ",".join(MUTANTS)).split(",")
    seeds = int(os.environ.get("MUTANT_SEEDS") or 3)
    results = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else the parts would live on without their hunter
    with Ground() as ground:
        for name in names:
            began, problems, tried = time.monotonic(), list[str](), 0
            for seed in range(1, seeds + 1):
                outcome = hunt(ground, name, seed=seed, kinds=SCHEDULES[(seed - 1) % len(SCHEDULES)])
                tried += len(outcome.injected)
                problems = caught(outcome)
                if problems:
                    break
            ground.proxy.heal()
            results[name] = {
                "breaks": MUTANTS[name].breaks,
                "caught": bool(problems),
                "faults": tried,
                "by": problems[0] if problems else None,
                "seconds": round(time.monotonic() - began, 1),
            }
            mark = "caught  " if problems else "SURVIVED"
            sys.stdout.write(f"{mark} {name:34} {tried:4} faults  {(problems or ['-'])[0][:110]}\n")
            sys.stdout.flush()
    count = sum(bool(one["caught"]) for one in results.values())
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / "mutants.json").write_text(json.dumps({"schema_version": 1, "mutants": results}, indent=2) + "\n")
    sys.stdout.write(f"{count} of {len(results)} planted faults caught\n")
    return 0 if count == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
