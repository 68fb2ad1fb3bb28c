"""The life of one connection: states, events and the one table that relates them.

Everything that is not in the table is a mistake of ours and raises; the state stays as it was.
"""

from enum import Enum

from ingest.core.transitions import next_state


class State(Enum):
    """Where a connection is."""

    NEW = "new"
    OPENING = "opening"
    SUBSCRIBING = "subscribing"
    """Open and reading; some streams are not confirmed yet."""
    LIVE = "live"
    """Every wanted stream is confirmed."""
    CLOSING = "closing"
    """We have asked to close; frames that are still under way are read."""
    ENDED = "ended"


class Event(Enum):
    """What can happen to a connection."""

    OPEN = "open"
    OPENED = "opened"
    REFUSED = "refused"
    """The opening handshake failed."""
    SUBSCRIBED = "subscribed"
    WANTED_CHANGED = "wanted_changed"
    """Streams are to be added or removed."""
    CLOSE = "close"
    """We want to leave."""
    LOST = "lost"
    """The socket is closed, by either side."""


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.NEW, Event.OPEN): State.OPENING,
    (State.NEW, Event.CLOSE): State.ENDED,
    (State.OPENING, Event.OPENED): State.SUBSCRIBING,
    (State.OPENING, Event.REFUSED): State.ENDED,
    (State.OPENING, Event.CLOSE): State.ENDED,
    (State.SUBSCRIBING, Event.SUBSCRIBED): State.LIVE,
    (State.SUBSCRIBING, Event.WANTED_CHANGED): State.SUBSCRIBING,
    (State.SUBSCRIBING, Event.CLOSE): State.CLOSING,
    (State.SUBSCRIBING, Event.LOST): State.ENDED,
    (State.LIVE, Event.WANTED_CHANGED): State.SUBSCRIBING,
    (State.LIVE, Event.CLOSE): State.CLOSING,
    (State.LIVE, Event.LOST): State.ENDED,
    (State.CLOSING, Event.LOST): State.ENDED,
}


class Lifecycle:
    """The present state; only ``handle`` changes it."""

    __slots__ = ("_state",)

    def __init__(self) -> None:
        self._state = State.NEW

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def delivers(self) -> bool:
        """Whether frames are expected to arrive."""
        return self._state in (State.SUBSCRIBING, State.LIVE)

    def handle(self, event: Event) -> State:
        """Move on and return the new state. Raises ``IllegalTransitionError`` and changes nothing for other pairs."""
        self._state = next_state(TRANSITIONS, self._state, event)
        return self._state
