"""Plays a seeded schedule on the real processes and judges what came of it: the auditor first, then the bounds."""

import heapq
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.campaigns.chaos.environment import NAMES, ChaosEnvironment, SharedParts
from tests.campaigns.chaos.fault_kind import Fault, NeverHere, NothingToStrike, Undo
from tests.campaigns.chaos.faults import BY_NAME, FAULTS
from tests.campaigns.chaos.faults_streams import NOT_WITH_BARS, STREAM_FAULTS

RSS_LIMIT = 200 * 2**20
RSS_LIMIT_OF_ALL = 400 * 2**20
"""With all streams."""
PAUSE = 0.02
PATIENCE = 60.0
"""So long the next fault of a group waits for a commit."""
LATEST = 3.0
"""So many times its planned length a run may take; from then on nothing waits any more."""
WELL = 10
"""So many commits while one writes and the other stands by: trades flow."""
ON_ITS_WAY = 0.03
"""What the dead had committed may become visible so long after its end: that is no recovery."""


@dataclass(frozen=True)
class Step:
    """One fault of a schedule."""

    at: float
    name: str
    seconds: float
    options: dict[str, Any]


@dataclass
class Injected:
    """One fault that was done."""

    at: float
    """Seconds since the start."""
    name: str
    options: dict[str, Any]
    struck: float
    lasting: bool = False
    ended: float | None = None
    recovery: float | None = None
    """Seconds from the fault (or its end, where nothing can be committed before) to the next visible record."""
    wrote: bool = False
    """Whether it struck the instance that wrote."""
    alone: bool = False
    """Whether nothing else was broken: everything had been healed and trades flowed."""


@dataclass
class Outcome:
    """Everything that is known after a run."""

    seed: int
    seconds: float
    injected: list[Injected]
    audit: dict[str, Any]
    audit_code: int
    exits: list[tuple[str, int | None]]
    codes: dict[str, int | None]
    settled: bool
    rss: int
    rest_weight: int
    rest_429: int
    problems: list[str] = field(default_factory=list)
    streams: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The audits of the streams besides trades."""
    late: str = ""
    """Where it did not settle: what each instance is, and lacks."""

    @property
    def passed(self) -> bool:
        return not self.problems


def schedule(
    seed: int, count: int, seconds: float, names: Sequence[str] = (), *, least: int = 1, streams: bool = False
) -> list[Step]:
    """The faults of a run, the same for the same seed: several may last at a time. ``least``: of each kind.

    ``streams``: those of the streams besides trades, too.
    """
    dice = random.Random(seed)
    faults: list[Fault] = [BY_NAME[name] for name in names] if names else list(FAULTS)
    if streams:
        faults = [fault for fault in faults if fault.name not in NOT_WITH_BARS] + list(STREAM_FAULTS)
    weights = [fault.weight for fault in faults]
    times = sorted(dice.uniform(0.0, seconds) for _ in range(count))
    chosen = dice.choices(faults, weights, k=count)
    # A number of each kind, if there is room: rare kinds are not left to luck.
    due = faults * least
    for place, fault in zip(dice.sample(range(count), min(count, len(due))), due, strict=False):
        chosen[place] = fault
    return [
        Step(at, fault.name, dice.uniform(*fault.seconds), fault.draw(dice))
        for at, fault in zip(times, chosen, strict=True)
    ]


def play(
    shared: SharedParts,
    name: str,
    steps: Sequence[Step],
    *,
    seed: int,
    simulator: Sequence[str],
    module: Sequence[str] = ("ingest", "run"),
    settings: Mapping[str, str] | None = None,
    settle_seconds: float = 300.0,
    crashes: int = 0,
    peers: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """One run on a topic of its own; ``crashes``: so often the writer is killed when all else has been healed."""
    began = time.monotonic()
    options = [*simulator, "--seed", str(seed)]
    with ChaosEnvironment(shared, name, options, module=module, settings=settings, peers=peers) as env:
        ready = _until(env, lambda: env.writer() is not None, 180.0)
        if "--paused" in simulator:
            ready = _until(env, env.all_receive, 60.0) and ready
            env.stack.simulator.market("start")
        injected = _strike(env, steps, say) if ready else []
        env.heal()
        _until(env, lambda: env.writer() is not None, 120.0)
        if ready:
            injected += _crash_alone(env, crashes, random.Random(seed), say)
        settled = env.settle(settle_seconds)
        late = "" if settled else env.unsettled()
        for one in injected:
            fault = BY_NAME[one.name]
            since = one.ended if fault.after_end and one.ended else one.struck
            blind = ON_ITS_WAY if one.name == "kill" and one.wrote else 0.0
            later = env.commits.first_after(since + blind)
            one.recovery = None if later is None else later + blind
        counters = env.stack.simulator.state()["counters"]
        audit_code, audit, codes = env.conclude(to_head=settled)
        armed = sum(int(one.options.get("calls", 1)) for one in injected if one.name == "rest_429")
        refused = int(counters.get("rest_429", 0)) - armed
        outcome = Outcome(
            seed, time.monotonic() - began, injected, audit, audit_code, env.exits, codes, settled,
            env.resources.rss_max, int(counters.get("rest_weight", 0)), max(0, refused), streams=env.audit_streams(),
            late=late,
        )  # fmt: skip
    outcome.problems = _problems(outcome, ready)
    return outcome


def _until(env: ChaosEnvironment, condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        env.keep()
        if condition():
            return True
        time.sleep(0.1)
    return False


def _strike(env: ChaosEnvironment, steps: Sequence[Step], say: Callable[[str], None]) -> list[Injected]:
    began = env.began = time.monotonic()
    injected: list[Injected] = []
    undo: list[tuple[float, int, Undo, Injected]] = []
    waiting = [(step.at, number, step) for number, step in enumerate(steps)]
    last: dict[str, Injected] = {}
    limit = began + LATEST * steps[-1].at + 60.0
    while waiting or undo:
        now = time.monotonic()
        while undo and undo[0][0] <= now:
            _, _, back, one = heapq.heappop(undo)
            back()
            one.ended = time.monotonic()
        if waiting and began + waiting[0][0] <= now:
            at, number, step = heapq.heappop(waiting)
            group = BY_NAME[step.name].group
            if group in last and not _over(env, last[group]) and now < limit:
                heapq.heappush(waiting, (at + 0.5, number, step))
                continue
            env.struck_writer = False
            try:
                struck = time.monotonic()
                back_ = BY_NAME[step.name].act(env, dict(step.options))
            except NeverHere:
                continue
            except (NothingToStrike, OSError):
                if now < limit:
                    heapq.heappush(waiting, (at + 0.5, number, step))  # the moment was wrong, not the fault
                continue
            one = Injected(struck - began, step.name, step.options, struck, wrote=env.struck_writer)
            injected.append(one)
            if group:
                last[group] = one
            if back_ is not None:
                one.lasting = True
                heapq.heappush(undo, (now + step.seconds, len(injected), back_, one))
            if len(injected) % 25 == 0:
                say(f"{len(injected)} faults; {env.consumer.count:,} trades visible; {env.available()} run")
        env.keep()
        time.sleep(PAUSE)
    return injected


def _crash_alone(
    env: ChaosEnvironment, crashes: int, dice: random.Random, say: Callable[[str], None]
) -> list[Injected]:
    """Kill the writer while nothing else is broken. If it does not become well within its patience, that is told."""
    injected: list[Injected] = []
    for number in range(crashes):
        if not _until(env, _Well(env), 4 * PATIENCE):
            say(f"not well again after {number} crashes alone")
            break
        # At any moment between two commits, and no faster than the REST budget lets a dead one's trades be read.
        _until(env, lambda: False, dice.uniform(5.0, 5.2))
        env.struck_writer = False
        options = {"writer": True}
        struck = time.monotonic()
        BY_NAME["kill"].act(env, options)
        injected.append(Injected(struck - env.began, "kill", options, struck, wrote=env.struck_writer, alone=True))
    if injected:
        say(f"{len(injected)} crashes alone; {env.consumer.count:,} trades visible")
    return injected


class _Well:
    """Whether one writes and the other stands by, and has for as long as a number of commits took: a busy machine's
    take longer."""

    def __init__(self, env: ChaosEnvironment) -> None:
        self._arena = env
        self._since: float | None = None

    def __call__(self) -> bool:
        asked = time.monotonic()
        if sorted(str(self._arena.role(name)) for name in NAMES) != ["active", "standby"]:
            self._since = None
            return False
        self._since = asked if self._since is None else self._since
        return self._arena.commits.since(self._since) >= WELL


def _over(env: ChaosEnvironment, fault: Injected) -> bool:
    """Whether a fault has ended and the service came to its feet since, or it has had its time."""
    if fault.lasting and fault.ended is None:
        return False
    since = fault.ended or fault.struck
    if BY_NAME[fault.name].group == "exchange":
        return env.connected() or time.monotonic() - since > 2 * PATIENCE
    return env.commits.first_after(since) is not None or time.monotonic() - since > PATIENCE


def _problems(outcome: Outcome, ready: bool) -> list[str]:
    totals = outcome.audit["totals"]
    problems = []
    if not ready:
        problems.append("nobody became the writer")
    if outcome.audit_code != 0:
        wrong = {name: totals[name] for name in totals if totals[name] and name in _WRONG}
        problems.append(f"audit: {outcome.audit['verdict']}: {outcome.audit['reason']} {wrong}")
    for stream, audit in outcome.streams.items():
        if audit["verdict"] == "FAIL" or not audit["totals"]["committed"]:
            found = {name: number for name, number in audit["totals"].items() if number and name in _WRONG}
            problems.append(f"audit of {stream}: {audit['verdict']}: {audit['reason']} {found}")
    if totals["committed"] == 0:
        problems.append("nothing was committed")
    if not outcome.settled:
        problems.append(f"{LATE} ({outcome.late})" if outcome.late else LATE)
    if outcome.exits:
        problems.append(f"ended by itself: {outcome.exits[:5]}")
    if any(code != 0 for code in outcome.codes.values()):
        problems.append(f"exit codes {outcome.codes}")
    limit = RSS_LIMIT_OF_ALL if outcome.streams else RSS_LIMIT
    if outcome.rss > limit:
        problems.append(f"{outcome.rss / 2**20:.0f} MB resident, at most {limit / 2**20:.0f}")
    if outcome.rest_429:
        problems.append(f"{outcome.rest_429} REST calls beyond the limit")
    return problems


LATE = "the last trade did not reach the topic, or there is not exactly one writer"
_WRONG = (
    "missing",
    "duplicated",
    "reordered",
    "altered",
    "unknown",
    "false_void",
    "unaccounted",
    "scattered",
    "position",
    "id_reset",
    "undeclared_break",
    "false_break",
    "snapshot",
    "crossed",
)
