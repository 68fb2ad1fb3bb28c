"""The state table of the supervisor: each situation of a shard and what is done about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.role import Role
from ingest.fleet.decisions import (
    AGAIN_SECONDS,
    LINGER_SECONDS,
    WRITING,
    Action,
    Child,
    Pace,
    Situation,
    decide,
    pace_of,
)

PACE = Pace(settle_seconds=1.0, silent_seconds=2.5)
WARM = Child("standby", warm_seconds=PACE.settle_seconds)
COLD = Child("standby")
ACTIVE = Child("active", warm_seconds=100.0)
FRESH = Child("standby", warm_seconds=0.0)
SILENT = Child("standby", warm_seconds=0.0, lease_age=PACE.silent_seconds)
ASKED = Child("standby", warm_seconds=100.0, promoted_seconds=AGAIN_SECONDS - 0.1)
ASKED_LONG_AGO = Child("standby", warm_seconds=100.0, promoted_seconds=AGAIN_SECONDS)
UNWANTED = Child("standby", warm_seconds=100.0, unwanted_seconds=LINGER_SECONDS)

TABLE = [
    ("nothing to do", Situation(), Action.KEEP),
    ("assigned", Situation(assigned=True), Action.START),
    ("a standby's duty", Situation(standby_duty=True), Action.START),
    ("assigned while leaving", Situation(assigned=True, leaving=True), Action.KEEP),
    ("a duty while leaving", Situation(standby_duty=True, leaving=True), Action.KEEP),
    ("assigned, not warm yet", Situation(COLD, assigned=True), Action.KEEP),
    ("assigned, warm since just now", Situation(FRESH, assigned=True), Action.KEEP),
    ("assigned, warm", Situation(WARM, assigned=True), Action.PROMOTE),
    ("assigned, the predecessor is silent", Situation(SILENT, assigned=True), Action.PROMOTE),
    ("a promotion is under way", Situation(ASKED, assigned=True), Action.KEEP),
    ("a promotion had no effect", Situation(ASKED_LONG_AGO, assigned=True), Action.PROMOTE),
    ("writes", Situation(ACTIVE, assigned=True), Action.KEEP),
    ("fenced since it wrote, unconfirmed", Situation(WARM, assigned=True, took_over=True), Action.KEEP),
    ("fenced, confirmed", Situation(WARM, assigned=True, took_over=True, confirmed=True), Action.PROMOTE),
    ("taken away, writes", Situation(ACTIVE), Action.KEEP),
    ("taken away, fenced", Situation(WARM), Action.KEEP),
    ("taken away, fenced long ago", Situation(UNWANTED), Action.END),
    ("a duty is kept", Situation(UNWANTED, standby_duty=True), Action.KEEP),
    ("the owner is gone and nobody writes", Situation(SILENT, standby_duty=True, owner_gone=True), Action.PROMOTE),
    ("the owner is gone, its child still writes", Situation(WARM, standby_duty=True, owner_gone=True), Action.KEEP),
    ("the owner is there and silent", Situation(SILENT, standby_duty=True), Action.KEEP),
    ("leaving, writes", Situation(ACTIVE, leaving=True), Action.KEEP),
    ("leaving, no other instance", Situation(ACTIVE, leaving=True, successors=False), Action.END),
    ("leaving, the time is over", Situation(ACTIVE, leaving=True, leave_over=True), Action.END),
    ("leaving, fenced", Situation(WARM, leaving=True), Action.END),
    ("leaving, takes over", Situation(Child("taking_over"), leaving=True), Action.KEEP),
]


@pytest.mark.parametrize(("situation", "action"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_table(situation: Situation, action: Action) -> None:
    assert decide(situation, PACE) is action


CHILDREN = st.builds(
    Child,
    role=st.sampled_from([role.value for role in Role]),
    warm_seconds=st.none() | st.floats(0, 100),
    lease_age=st.floats(0, 100),
    promoted_seconds=st.none() | st.floats(0, 100),
    unwanted_seconds=st.floats(0, 100),
)
FLAG = st.booleans()
SITUATIONS = st.builds(Situation, st.none() | CHILDREN, FLAG, FLAG, FLAG, FLAG, FLAG, FLAG, FLAG, FLAG)


@given(SITUATIONS)
def test_a_writer_is_ended_only_by_an_instance_that_leaves(situation: Situation) -> None:
    if situation.child is not None and situation.child.role in WRITING and decide(situation, PACE) is not Action.KEEP:
        assert situation.leaving
        assert situation.leave_over or not situation.successors


@given(SITUATIONS)
def test_only_a_warm_standby_is_promoted_and_only_with_a_reason(situation: Situation) -> None:
    if decide(situation, PACE) is not Action.PROMOTE:
        return
    child = situation.child
    assert child is not None
    assert child.role == "standby"
    assert child.warm_seconds is not None
    assert not situation.leaving
    assert situation.assigned or (situation.standby_duty and situation.owner_gone)
    assert not (situation.assigned and situation.took_over and not situation.confirmed)


@pytest.mark.parametrize(
    ("commit_ms", "heartbeat_ms", "expected"),
    [(100, 1000, Pace(1.1, 2.5)), (5000, 1000, Pace(6.0, 12.5)), (100, 10_000, Pace(1.1, 25.0))],
)
def test_a_successor_waits_as_long_as_its_predecessor_may_keep_a_trade(
    commit_ms: int, heartbeat_ms: int, expected: Pace
) -> None:
    pace = pace_of(commit_interval_ms=commit_ms, heartbeat_interval_ms=heartbeat_ms)
    assert pace == expected
    early = Child("standby", warm_seconds=pace.settle_seconds - 0.1, lease_age=pace.silent_seconds - 0.1)
    due = Child("standby", warm_seconds=pace.settle_seconds)
    assert decide(Situation(early, assigned=True), pace) is Action.KEEP
    assert decide(Situation(due, assigned=True), pace) is Action.PROMOTE
