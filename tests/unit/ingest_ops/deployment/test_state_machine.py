import itertools

import pytest

from ingest.core.transitions import IllegalTransitionError
from ingest_ops.deployment.state_machine import (
    AFTER_HANDOVER,
    HELD,
    TERMINAL,
    UNDOING,
    Event,
    State,
    cancellable,
    transition,
)

GOOD = [
    State.PLAN, State.BUILD, State.STANDBY, State.SHADOW, State.APPROVAL, State.HANDOVER, State.VALIDATE, State.RETIRE,
    State.DONE,
]  # fmt: skip


def _legal(state: State) -> dict[Event, State]:
    found = {}
    for event in Event:
        try:
            found[event] = transition(state, event)
        except IllegalTransitionError:
            continue
    return found


def test_the_good_way_is_one_event_repeated() -> None:
    for before, after in itertools.pairwise(GOOD):
        assert transition(before, Event.DONE) is after


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_the_end_is_the_end(state: State) -> None:
    assert _legal(state) == {}


def test_every_state_that_is_not_the_end_can_be_left_and_leads_to_one() -> None:
    for state in set(State) - TERMINAL:
        seen, reached = {state}, {state}
        while reached:
            reached = {after for one in reached for after in _legal(one).values()} - seen
            seen |= reached
        assert seen & TERMINAL, state


def test_what_fails_before_the_hand_over_stops_the_candidate_and_later_it_is_rolled_back() -> None:
    for state in (State.BUILD, State.STANDBY, State.SHADOW, State.SHADOW_HELD, State.APPROVAL):
        assert transition(state, Event.FAILED) is State.ABORTING
    for state in (State.HANDOVER, State.VALIDATE, State.VALIDATE_HELD, State.RETIRE):
        assert transition(state, Event.FAILED) is State.ROLLING_BACK


def test_missing_data_is_held_and_never_passes() -> None:
    for state in (State.SHADOW, State.VALIDATE):
        assert transition(state, Event.INCONCLUSIVE) in HELD
    for state in HELD:
        assert Event.DONE not in _legal(state)


def test_a_person_can_undo_until_the_predecessor_is_being_stopped() -> None:
    assert not any(cancellable(state) for state in TERMINAL | UNDOING | {State.RETIRE})
    assert all(cancellable(state) for state in set(State) - TERMINAL - UNDOING - {State.RETIRE})


def test_nobody_is_rolled_back_who_had_not_handed_over() -> None:
    before = {state for state in State if State.ROLLING_BACK in _legal(state).values()}
    assert before == AFTER_HANDOVER | {State.HANDOVER, State.RETIRE}
