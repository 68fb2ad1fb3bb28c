"""``make mutants``: every planted fault on the real processes; the runner must catch each within a number of faults."""

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.campaigns.chaos import hunt_report
from tests.campaigns.chaos.environment import SharedParts
from tests.campaigns.chaos.mutants import MUTANTS
from tests.campaigns.chaos.plans import GENERAL, PLANS, Plan
from tests.campaigns.chaos.runner import Outcome, play

WITHIN = 120
"""Faults: one that needs more has survived, however much damage it does in the end."""
SETTLE, SETTLE_UNMUTATED = 40.0, 240.0
"""Seconds: with a planted fault the end may never come, and damage shows without it."""
Play = Callable[..., Outcome]


@dataclass
class Hunted:
    """What came of one planted fault, or, as a control, of the service without any under one plan."""

    name: str
    plans: list[str] = field(default_factory=list)
    """Those tried, in order."""
    faults: int = 0
    damage: dict[str, int] = field(default_factory=dict)
    """What the auditor found: kind -> how many."""
    problems: list[str] = field(default_factory=list)
    """All else that was not as it should be at the end of the last run."""
    trades: int = 0
    seconds: float = 0.0

    @property
    def caught(self) -> bool:
        return bool(self.damage) and self.faults <= WITHIN


def hunt(shared: SharedParts, name: str | None, plan: Plan, *, seed: int = 1) -> Outcome:
    """One run of a plan with a planted fault; None: without one."""
    return play(
        shared,
        f"{'control' if name is None else 'mutant-' + name}-{plan.name}-{seed}",
        plan.steps(seed),
        seed=seed,
        simulator=plan.simulator,
        module=("ingest", "run") if name is None else ("tests.campaigns.chaos.mutant", name, "run"),
        settings=plan.settings,
        settle_seconds=SETTLE_UNMUTATED if name is None else SETTLE,
    )


def damage(outcome: Outcome) -> dict[str, int]:
    """What the auditor has proved to be wrong: not what never started, what was late or what could not be judged."""
    if outcome.audit["verdict"] != "FAIL":
        return {}
    return {name: number for name, number in outcome.audit["totals"].items() if name in DAMAGE and number}


DAMAGE = (
    "missing", "duplicated", "reordered", "altered", "unknown", "false_void", "unaccounted", "scattered", "position",
    "id_reset",
)  # fmt: skip


def attempts(name: str) -> list[tuple[str, int]]:
    """(plan, seed): the plan that is aimed at what this one breaks, once more, and then those for all."""
    return [(MUTANTS[name].plan, 1), (MUTANTS[name].plan, 2), *((plan, 1) for plan in GENERAL)]


def pursue(shared: SharedParts, name: str | None, tries: Sequence[tuple[str, int]]) -> Hunted:
    """Hunt until something is found, or all was tried."""
    began, found = time.monotonic(), Hunted(name or tries[0][0])
    for plan, seed in tries:
        outcome = hunt(shared, name, PLANS[plan], seed=seed)
        shared.proxy.heal()
        found.plans.append(plan)
        found.faults += len(outcome.injected)
        found.trades += outcome.audit["totals"]["committed"]
        found.damage, found.problems = damage(outcome), outcome.problems
        if found.damage or found.faults >= WITHIN:
            break
    found.seconds = round(time.monotonic() - began, 1)
    return found


def main() -> int:
    """Hunt all, or those named in ``MUTANTS``, then play each plan without any; returns the exit code."""
    names = (os.environ.get("MUTANTS") or ",".join(MUTANTS)).split(",")
    plans = list(dict.fromkeys([*(MUTANTS[name].plan for name in names), *GENERAL]))
    controls: list[Hunted] = []
    hunted: list[Hunted] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else the parts would live on without their hunter
    began = time.monotonic()

    def say(mark: str, one: Hunted) -> None:
        what = ", ".join(f"{number} {kind}" for kind, number in one.damage.items()) or (one.problems or ["-"])[0]
        sys.stdout.write(
            f"{mark:8} {one.name:34} {one.faults:4} faults {one.seconds:6.1f} s  {' '.join(one.plans)}: {what[:110]}\n"
        )
        sys.stdout.flush()
        played = {one.name for one in (*controls, *hunted)}
        hunt_report.write(
            controls,
            hunted,
            whole=set(names) == set(MUTANTS),
            within=WITHIN,
            seconds=time.monotonic() - began,
            due=[name for name in (*names, *plans) if name not in played],
        )

    with SharedParts() as shared:
        for name in names:
            hunted.append(pursue(shared, name, attempts(name)))
            say("caught" if hunted[-1].caught else "SURVIVED", hunted[-1])
        if not os.environ.get("MUTANTS_WITHOUT_CONTROL"):
            for plan in plans:
                controls.append(pursue(shared, None, [(plan, 1)]))
                say("control" if not controls[-1].problems else "WRONG", controls[-1])
    count = sum(one.caught for one in hunted)
    clean = not any(control.problems for control in controls)
    sys.stdout.write(f"{count} of {len(hunted)} planted faults caught; {len(controls)} controls\n")
    return 0 if count == len(hunted) and clean else 1


if __name__ == "__main__":
    sys.exit(main())
