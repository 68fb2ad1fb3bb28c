import itertools

import pytest

from ingest.core.connection import TRANSITIONS, Event, Lifecycle, State
from ingest.core.transitions import IllegalTransitionError

PATHS: dict[State, list[Event]] = {
    State.NEW: [],
    State.OPENING: [Event.OPEN],
    State.SUBSCRIBING: [Event.OPEN, Event.OPENED],
    State.LIVE: [Event.OPEN, Event.OPENED, Event.SUBSCRIBED],
    State.CLOSING: [Event.OPEN, Event.OPENED, Event.SUBSCRIBED, Event.CLOSE],
    State.ENDED: [Event.OPEN, Event.REFUSED],
}


def in_state(state: State) -> Lifecycle:
    life = Lifecycle()
    for event in PATHS[state]:
        life.handle(event)
    assert life.state is state
    return life


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)), ids=lambda v: v.name)
def test_every_pair_moves_as_the_table_says_or_raises_and_changes_nothing(state: State, event: Event) -> None:
    life = in_state(state)
    if (state, event) in TRANSITIONS:
        assert life.handle(event) is TRANSITIONS[state, event]
        assert life.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransitionError, match=f"{event.value} is not possible in state {state.value}"):
            life.handle(event)
        assert life.state is state


def test_from_every_state_there_is_a_way_to_the_end_and_none_back() -> None:
    ends = {State.ENDED}
    for _ in State:
        ends |= {before for (before, _), after in TRANSITIONS.items() if after in ends}
    assert ends == set(State)
    assert not [pair for pair in TRANSITIONS if pair[0] is State.ENDED]


def test_frames_are_expected_while_subscribing_and_live_only() -> None:
    assert [state for state in State if in_state(state).delivers] == [State.SUBSCRIBING, State.LIVE]
