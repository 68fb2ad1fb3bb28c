"""``make mutants``: every planted fault on the real processes; the runner must catch each within a number of faults."""

import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from tests.campaigns.chaos import hunt_report
from tests.campaigns.chaos.environment import SharedParts
from tests.campaigns.chaos.mutants import MUTANTS, SEEN
from tests.campaigns.chaos.plans import GENERAL, PLANS, Plan
from tests.campaigns.chaos.runner import Outcome, play
from tests.harness import ending

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
    found: Counter[str] = Counter()
    for audit in (outcome.audit, *outcome.streams.values()):
        if audit["verdict"] == "FAIL":
            found.update({name: number for name, number in audit["totals"].items() if name in DAMAGE and number})
    return dict(found)


DAMAGE = (
    "missing", "duplicated", "reordered", "altered", "unknown", "false_void", "unaccounted", "scattered", "position",
    "id_reset", "undeclared_break", "false_break", "snapshot", "crossed",
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


class Hunt:
    """What has come of a hunt so far; each outcome is printed and put into the report at once."""

    def __init__(self, names: Sequence[str], plans: Sequence[str]) -> None:
        self._names, self._plans = names, plans
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self.hunted: dict[str, Hunted] = {}
        self.controls: dict[str, Hunted] = {}

    def mutant(self, shared: SharedParts, name: str) -> None:
        """Hunt one planted fault."""
        one = pursue(shared, name, attempts(name))
        self._keep(self.hunted, one, "caught" if one.caught else "SURVIVED")

    def control(self, shared: SharedParts, plan: str) -> None:
        """Play one plan without a planted fault."""
        one = pursue(shared, None, [(plan, 1)])
        self._keep(self.controls, one, "control" if not one.problems else "WRONG")

    def _keep(self, kept: dict[str, Hunted], one: Hunted, mark: str) -> None:
        what = ", ".join(f"{number} {kind}" for kind, number in one.damage.items()) or (one.problems or ["-"])[0]
        with self._lock:
            kept[one.name] = one
            how = f"{one.faults:4} faults {one.seconds:6.1f} s  {' '.join(one.plans)}"
            sys.stdout.write(f"{mark:8} {one.name:34} {how}: {what[:110]}\n")
            sys.stdout.flush()
            hunt_report.write(
                [self.controls[plan] for plan in self._plans if plan in self.controls],
                list(self.hunted.values()),
                whole=set(self._names) == set(SEEN),
                within=WITHIN,
                seconds=time.monotonic() - self._began,
                due=[one for one in (*self._names, *self._plans) if one not in self.hunted | self.controls],
            )

    def exit_code(self) -> int:
        """Say how many were caught; 0 if all were, and every plan has passed without one."""
        count = sum(one.caught for one in self.hunted.values())
        sys.stdout.write(f"{count} of {len(self.hunted)} planted faults caught; {len(self.controls)} controls\n")
        clean = not any(control.problems for control in self.controls.values())
        return 0 if count == len(self._names) and clean else 1


def main() -> int:
    """Hunt all, or those named in ``MUTANTS``, then play each plan without any; returns the exit code.

    ``JOBS`` (1) of them run at once, each on a broker of its own: most of their time is waiting.
    """
    names = (os.environ.get("MUTANTS") or ",".join(SEEN)).split(",")
    jobs = int(os.environ.get("JOBS") or 1)
    plans = list(dict.fromkeys([*(MUTANTS[name].plan for name in names), *GENERAL]))
    found = Hunt(names, plans)
    tasks = [partial(found.mutant, name=name) for name in names]
    if not os.environ.get("MUTANTS_WITHOUT_CONTROL"):
        tasks += [partial(found.control, plan=plan) for plan in plans]
    ending.by_signal()  # else the parts would live on without their hunter
    with ExitStack() as parts:
        free: queue.SimpleQueue[SharedParts] = queue.SimpleQueue()
        for _ in range(jobs):
            free.put(parts.enter_context(SharedParts()))

        def run(task: Callable[[SharedParts], None]) -> None:
            shared = free.get()
            try:
                task(shared)
            finally:
                free.put(shared)

        pool = ThreadPoolExecutor(jobs)
        try:
            for _ in pool.map(run, tasks):
                pass
        finally:
            pool.shutdown(cancel_futures=True)  # at a signal: those under way are the last
    return found.exit_code()


if __name__ == "__main__":
    sys.exit(main())
