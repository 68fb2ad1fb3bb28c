"""Gates on what the slots' control API reports: independent of the series that a version exports about itself."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.control import ServiceStatus
from ingest_ops.deployment.deployment_state import GateResult
from ingest_ops.deployment.plan import Plan
from ingest_ops.deployment.state_machine import State

QUERY = "GET /control/status of both slots"
SHOWN = 5
MAY_GROW = ("symbols", "streams")

Statuses = Mapping[str, ServiceStatus]
"""``candidate`` and ``live``."""
Answer = tuple[Verdict, str]
VALIDATE_SHARE = 0.5
"""Share of the plan's ``min_compared`` that P3 wants in VALIDATE: the market may be calmer after the hand-over."""


@dataclass(frozen=True, kw_only=True)
class StatusGate:
    """One question to both statuses."""

    id: str
    title: str
    judge: Callable[[Statuses], Answer]
    states: tuple[State, ...]
    needs_incumbent: bool = False


def _same_settings(statuses: Statuses) -> Answer:
    ours, theirs = statuses["candidate"], statuses["live"]
    pairs = {
        "topic": (ours.topic, theirs.topic),
        "delivery": (ours.delivery, theirs.delivery),
        "shard": (ours.shard, theirs.shard),
        "symbols": (sorted(ours.symbols), sorted(theirs.symbols)),
        "streams": (_streams(ours), _streams(theirs)),
    }
    # Streams besides the trades are a setting: none is what most services record.
    unknown = [name for name, (one, two) in pairs.items() if name != "streams" and (not one or not two)]
    if unknown:
        return Verdict.INCONCLUSIVE, f"a slot does not report its {', '.join(unknown)}"
    # A listing may be known to the candidate first, and a version may add a stream: more are no fault, fewer are.
    differ = [name for name, (one, two) in pairs.items() if one != two and not (name in MAY_GROW and {*one} >= {*two})]
    if not differ:
        return Verdict.PASS, f"topic {ours.topic}, {len(ours.symbols)} symbols, shard {ours.shard}"
    texts = [f"{name}: {_shown(pairs[name])}" for name in differ]
    return Verdict.FAIL, f"the candidate's and the predecessor's differ: {'; '.join(texts)}"


def _streams(status: ServiceStatus) -> list[str]:
    return sorted(f"{name} to {one.get('topic')}" for name, one in status.streams.items())


def _shown(pair: tuple[object, object]) -> str:
    ours, theirs = pair
    if isinstance(ours, list) and isinstance(theirs, list):
        lacks, adds = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
        parts = [f"lacks {', '.join(lacks[:SHOWN])}"] if lacks else []
        return ", ".join([*parts, *([f"adds {', '.join(adds[:SHOWN])}"] if adds else [])])
    return f"{ours} and {theirs}"


def _all_equal(side: str, least: int) -> Callable[[Statuses], Answer]:
    """The slot has compared ``least`` records or more since it became the shadow, and all of them are equal."""

    def judge(statuses: Statuses) -> Answer:
        shadow = statuses[side].shadow
        if shadow is None or not {"compared", "mismatched", "unreadable", "mismatches"} <= shadow.keys():
            return Verdict.INCONCLUSIVE, f"the {side} slot reports no comparison"
        wrong = max(int(shadow["mismatched"]), len(shadow["mismatches"])) + int(shadow["unreadable"])
        if wrong:
            fields = sorted({name for one in shadow["mismatches"] for name in one.get("fields", {})})
            return Verdict.FAIL, f"{wrong} records differ, in {', '.join(fields[:SHOWN]) or 'all of the record'}"
        if int(shadow["compared"]) < least:
            return Verdict.INCONCLUSIVE, f"{shadow['compared']} records compared, at least {least} must be"
        return Verdict.PASS, f"{shadow['compared']} records compared, all equal"

    return judge


def _symbols_go_on(statuses: Statuses) -> Answer:
    ours, theirs = statuses["candidate"].symbols, statuses["live"].symbols
    if not ours or not theirs:
        return Verdict.INCONCLUSIVE, "a slot reports no symbols"
    incomplete = [name for name, one in ours.items() if not {"last_id", "frozen"} <= one.keys()]
    if incomplete:
        return Verdict.INCONCLUSIVE, f"no position is reported of {', '.join(incomplete[:SHOWN])}"
    halted = [name for name, one in ours.items() if one["frozen"]]
    if halted:
        return Verdict.FAIL, f"halted: {', '.join(halted[:SHOWN])}"
    lost = [name for name, one in theirs.items() if one.get("last_id") and not ours.get(name, {}).get("last_id")]
    if lost:
        return Verdict.FAIL, f"without a position: {', '.join(lost[:SHOWN])}"
    return Verdict.PASS, f"{len(ours)} symbols"


def _least_in_validate(plan: Plan) -> int:
    """The records that P3 wants, 1 or more. If VALIDATE is shorter than SHADOW, fewer in proportion.

    A plan for a quiet market watches until ``min_compared`` records can have come; VALIDATE may be too short for half.
    """
    return math.ceil(VALIDATE_SHARE * plan.min_compared * min(1.0, plan.validate_seconds / plan.watch_seconds))


def status_gates(plan: Plan) -> tuple[StatusGate, ...]:
    """The gates of a deployment."""
    return (
        StatusGate(
            id="P1", title="Both slots record the same topic, shard, symbols and streams", judge=_same_settings,
            states=(State.SHADOW, State.VALIDATE),
        ),
        StatusGate(
            id="P2", title="The candidate's comparison, as its status reports it",
            judge=_all_equal("candidate", plan.min_compared), states=(State.SHADOW,),
        ),
        StatusGate(
            id="P3", title="The predecessor's comparison since the hand-over",
            judge=_all_equal("live", _least_in_validate(plan)), states=(State.VALIDATE,), needs_incumbent=True,
        ),
        StatusGate(
            id="P4", title="No symbol is halted or without a position", judge=_symbols_go_on,
            states=(State.VALIDATE,),
        ),
    )  # fmt: skip


def evaluate_status(
    state: State, statuses: Statuses | str, start: float, end: float, *, plan: Plan
) -> list[GateResult]:
    """Judge the statuses; a text in their place says why there are none."""
    results = []
    for gate in status_gates(plan):
        if state not in gate.states or (gate.needs_incumbent and not plan.compare_after):
            continue
        verdict, reason = (Verdict.INCONCLUSIVE, statuses) if isinstance(statuses, str) else gate.judge(statuses)
        results.append(
            GateResult(
                gate=gate.id,
                title=gate.title,
                verdict=verdict,
                reason=reason,
                query=QUERY,
                start=start,
                end=end,
                value=None,
                threshold="",
            )
        )
    return results
