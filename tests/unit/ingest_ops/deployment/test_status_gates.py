"""What the control API of both slots reports, judged."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.control import ServiceStatus
from ingest_ops.deployment.plan import Plan, parse
from ingest_ops.deployment.state_machine import State
from ingest_ops.deployment.status_gates import evaluate_status

PLAN = parse({"version": "v2"})
SHADOW = {"compared": 9000, "mismatched": 0, "unreadable": 0, "mismatches": []}
GOOD = ServiceStatus(
    role="shadow", generation=7, topic="trades", delivery="exactly-once", shard={"index": 0, "count": 1}, shadow=SHADOW,
    symbols={name: {"last_id": 5, "frozen": False} for name in ("BTCUSDT", "ETHUSDT")},
)  # fmt: skip


def verdict(
    gate: str, *, candidate: Mapping[str, Any] | None = None, live: Mapping[str, Any] | None = None, plan: Plan = PLAN
) -> Verdict:
    statuses = {
        "candidate": msgspec.structs.replace(GOOD, **(candidate or {})),
        "live": msgspec.structs.replace(GOOD, **(live or {})),
    }
    states = (State.SHADOW, State.VALIDATE)
    found = {one.gate: one for state in states for one in evaluate_status(state, statuses, 0.0, 600.0, plan=plan)}
    return found[gate].verdict


STREAMS = {"streams": {"depth": {"topic": "depth"}, "aggTrade": {"topic": "aggTrade"}}}
FEWER = {"streams": {"depth": {"topic": "depth"}}}
ELSEWHERE = {"streams": {"depth": {"topic": "depth"}, "aggTrade": {"topic": "other"}}}
ONE = {"BTCUSDT": {"last_id": 5, "frozen": False}}
MORE = {**GOOD.symbols, "NEWUSDT": {"last_id": None, "frozen": False}}
DIFFERENT = {**SHADOW, "mismatched": 3}


@pytest.mark.parametrize("gate", ["P1", "P2", "P3", "P4"])
def test_a_sound_pair_passes(gate: str) -> None:
    assert verdict(gate) is Verdict.PASS


@pytest.mark.parametrize(("gate", "candidate", "live"), [
    ("P1", {"topic": "other"}, {}),
    ("P1", {"delivery": "at-least-once"}, {}),
    ("P1", {"shard": {"index": 0, "count": 2}}, {}),
    ("P1", {"symbols": ONE}, {}),
    ("P1", {}, STREAMS),
    ("P1", FEWER, STREAMS),
    ("P1", ELSEWHERE, STREAMS),
    ("P2", {"shadow": DIFFERENT}, {}),
    ("P2", {"shadow": {**SHADOW, "mismatches": [{"fields": {"price": ["1", "2"]}}]}}, {}),
    ("P2", {"shadow": {**SHADOW, "unreadable": 1}}, {}),
    ("P3", {}, {"shadow": DIFFERENT}),
    ("P4", {"symbols": {**GOOD.symbols, "BTCUSDT": {"last_id": 5, "frozen": True}}}, {}),
    ("P4", {"symbols": {**GOOD.symbols, "BTCUSDT": {"last_id": None, "frozen": False}}}, {}),
    ("P4", {"symbols": ONE}, {}),
])  # fmt: skip
def test_what_differs_fails(gate: str, candidate: Mapping[str, Any], live: Mapping[str, Any]) -> None:
    assert verdict(gate, candidate=candidate, live=live) is Verdict.FAIL


@pytest.mark.parametrize(("gate", "candidate", "live"), [
    *[("P1", {name: type(getattr(GOOD, name))()}, {}) for name in ("topic", "delivery", "shard", "symbols")],
    *[("P1", {}, {name: type(getattr(GOOD, name))()}) for name in ("topic", "delivery", "shard", "symbols")],
    ("P2", {"shadow": None}, {}),
    ("P2", {"shadow": {**SHADOW, "compared": 0}}, {}),
    *[("P2", {"shadow": {k: v for k, v in SHADOW.items() if k != name}}, {}) for name in SHADOW],
    ("P2", {"shadow": {**SHADOW, "compared": 5999}}, {}),
    ("P3", {}, {"shadow": None}),
    ("P3", {}, {"shadow": {**SHADOW, "compared": 1}}),
    ("P3", {}, {"shadow": {**SHADOW, "compared": 2999}}),
    ("P4", {"symbols": {}}, {}),
    ("P4", {"symbols": {name: {} for name in GOOD.symbols}}, {}),
])  # fmt: skip
def test_what_is_missing_never_passes(gate: str, candidate: Mapping[str, Any], live: Mapping[str, Any]) -> None:
    assert verdict(gate, candidate=candidate, live=live) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("gate", ["P1", "P4"])
def test_a_symbol_that_the_candidate_knows_first_is_no_fault(gate: str) -> None:
    assert verdict(gate, candidate={"symbols": MORE}) is Verdict.PASS


@pytest.mark.parametrize("live", [STREAMS, FEWER, {}])
def test_the_same_or_more_streams_are_no_fault(live: Mapping[str, Any]) -> None:
    assert verdict("P1", candidate=STREAMS, live=live) is Verdict.PASS


@pytest.mark.parametrize(("minutes", "compared", "expected"), [
    ({}, 3000, Verdict.PASS),
    ({}, 2999, Verdict.INCONCLUSIVE),
    # One trade a second, watched for as long as that takes: VALIDATE, of 15 minutes, cannot see half of 6,000.
    ({"watch_minutes": 100}, 900, Verdict.PASS),
    ({"watch_minutes": 100}, 450, Verdict.PASS),
    ({"watch_minutes": 100}, 449, Verdict.INCONCLUSIVE),
    ({"watch_minutes": 5}, 3000, Verdict.PASS),
    ({"watch_minutes": 5}, 2999, Verdict.INCONCLUSIVE),
    ({"min_compared": 1}, 1, Verdict.PASS),
    ({"min_compared": 1}, 0, Verdict.INCONCLUSIVE),
])  # fmt: skip
def test_the_predecessor_compares_half_of_the_shadow_s_records_or_less_in_a_shorter_window(
    minutes: Mapping[str, float], compared: int, expected: Verdict
) -> None:
    plan = parse({"version": "v2", **minutes})
    assert verdict("P3", live={"shadow": {**SHADOW, "compared": compared}}, plan=plan) is expected


def test_the_shadow_s_own_number_is_that_of_the_plan_however_long_it_lasts() -> None:
    plan = parse({"version": "v2", "watch_minutes": 100})
    found = [
        verdict("P2", candidate={"shadow": {**SHADOW, "compared": compared}}, plan=plan) for compared in (5999, 6000)
    ]
    assert found == [Verdict.INCONCLUSIVE, Verdict.PASS]


def test_a_slot_that_does_not_answer_is_no_verdict() -> None:
    plan = parse({"version": "v2", "compare_after": False})
    found = evaluate_status(State.VALIDATE, "no answer", 0.0, 600.0, plan=plan)
    assert [(one.gate, one.verdict, one.reason) for one in found] == [
        ("P1", Verdict.INCONCLUSIVE, "no answer"),
        ("P4", Verdict.INCONCLUSIVE, "no answer"),
    ]
