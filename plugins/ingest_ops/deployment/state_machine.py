"""The stages of a deployment: one enum of states, one of events, one table. An illegal pair raises.

Before the hand-over a failure costs nothing: the candidate is stopped (``ABORTING``). From the hand-over on it means
that the predecessor writes again (``ROLLING_BACK``). What cannot be known waits (``*_HELD``) and is then a failure.
"""

from enum import StrEnum

from ingest.core.transitions import next_state


class State(StrEnum):
    """Where a deployment stands."""

    PLAN = "PLAN"
    """Look at both slots: exactly one writes, the other is free."""
    BUILD = "BUILD"
    STANDBY = "STANDBY"
    """The candidate starts, connects and watches; it writes nothing."""
    SHADOW = "SHADOW"
    """It proves itself: gates over the watch time, record by record against what the writer commits."""
    SHADOW_HELD = "SHADOW_HELD"
    APPROVAL = "APPROVAL"
    HANDOVER = "HANDOVER"
    VALIDATE = "VALIDATE"
    """It writes; the predecessor stands by, warm."""
    VALIDATE_HELD = "VALIDATE_HELD"
    RETIRE = "RETIRE"
    DONE = "DONE"
    ABORTING = "ABORTING"
    ABORTED = "ABORTED"
    ROLLING_BACK = "ROLLING_BACK"
    ROLLED_BACK = "ROLLED_BACK"
    MANUAL = "MANUAL"
    """It could neither go on nor back: a person must look."""


class Event(StrEnum):
    """What a step found out."""

    DONE = "done"
    """The step's aim is reached."""
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    """Data is missing: neither good nor bad."""
    RETRY = "retry"
    """The time of holding is over: judge again."""
    EXHAUSTED = "exhausted"
    """Held as often as allowed."""
    REJECTED = "rejected"
    """A person said no."""
    CANCELLED = "cancelled"
    """A person wants it undone."""
    STUCK = "stuck"
    """Going back did not work either."""


_TABLE: dict[tuple[State, Event], State] = {
    (State.PLAN, Event.DONE): State.BUILD,
    (State.PLAN, Event.FAILED): State.ABORTED,
    (State.PLAN, Event.CANCELLED): State.ABORTED,
    (State.BUILD, Event.DONE): State.STANDBY,
    (State.BUILD, Event.FAILED): State.ABORTING,
    (State.BUILD, Event.CANCELLED): State.ABORTING,
    (State.STANDBY, Event.DONE): State.SHADOW,
    (State.STANDBY, Event.FAILED): State.ABORTING,
    (State.STANDBY, Event.CANCELLED): State.ABORTING,
    (State.SHADOW, Event.DONE): State.APPROVAL,
    (State.SHADOW, Event.FAILED): State.ABORTING,
    (State.SHADOW, Event.INCONCLUSIVE): State.SHADOW_HELD,
    (State.SHADOW, Event.CANCELLED): State.ABORTING,
    (State.SHADOW_HELD, Event.RETRY): State.SHADOW,
    (State.SHADOW_HELD, Event.EXHAUSTED): State.ABORTING,
    (State.SHADOW_HELD, Event.FAILED): State.ABORTING,
    (State.SHADOW_HELD, Event.CANCELLED): State.ABORTING,
    (State.APPROVAL, Event.DONE): State.HANDOVER,
    (State.APPROVAL, Event.FAILED): State.ABORTING,
    (State.APPROVAL, Event.REJECTED): State.ABORTING,
    (State.APPROVAL, Event.CANCELLED): State.ABORTING,
    (State.HANDOVER, Event.DONE): State.VALIDATE,
    (State.HANDOVER, Event.FAILED): State.ROLLING_BACK,
    (State.HANDOVER, Event.CANCELLED): State.ROLLING_BACK,
    (State.VALIDATE, Event.DONE): State.RETIRE,
    (State.VALIDATE, Event.FAILED): State.ROLLING_BACK,
    (State.VALIDATE, Event.INCONCLUSIVE): State.VALIDATE_HELD,
    (State.VALIDATE, Event.CANCELLED): State.ROLLING_BACK,
    (State.VALIDATE_HELD, Event.RETRY): State.VALIDATE,
    (State.VALIDATE_HELD, Event.EXHAUSTED): State.ROLLING_BACK,
    (State.VALIDATE_HELD, Event.FAILED): State.ROLLING_BACK,
    (State.VALIDATE_HELD, Event.CANCELLED): State.ROLLING_BACK,
    (State.RETIRE, Event.DONE): State.DONE,
    (State.RETIRE, Event.FAILED): State.ROLLING_BACK,
    (State.RETIRE, Event.CANCELLED): State.ROLLING_BACK,
    (State.RETIRE, Event.STUCK): State.MANUAL,
    (State.ABORTING, Event.DONE): State.ABORTED,
    (State.ABORTING, Event.STUCK): State.MANUAL,
    (State.ROLLING_BACK, Event.DONE): State.ROLLED_BACK,
    (State.ROLLING_BACK, Event.STUCK): State.MANUAL,
}

TERMINAL = frozenset({State.DONE, State.ABORTED, State.ROLLED_BACK, State.MANUAL})
"""Nothing happens by itself any more."""

UNDOING = frozenset({State.ABORTING, State.ROLLING_BACK})
"""On the way back."""

HELD = frozenset({State.SHADOW_HELD, State.VALIDATE_HELD})

HOLD_POINTS = frozenset({State.APPROVAL, State.RETIRE})
"""Where a deployment that is held stays: before the hand-over, or with the predecessor still warm."""

AFTER_HANDOVER = frozenset({State.VALIDATE, State.VALIDATE_HELD})
"""The candidate is the writer."""


def transition(state: State, event: Event) -> State:
    """The state after an event. Raises ``IllegalTransitionError`` where there is none; nothing changes then."""
    return next_state(_TABLE, state, event)


def cancellable(state: State) -> bool:
    """Whether a person can still have it undone by cancelling (later: where it is held, or by a roll-back)."""
    return state is not State.RETIRE and (state, Event.CANCELLED) in _TABLE
