"""State machines as tables: (state, event) -> state. The connection, the role and the deployment each have one."""

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)


class IllegalTransitionError(Exception):
    """An event that a state has no transition for: a bug, never to be passed over."""


def next_state(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    """Return the state after an event. Raises ``IllegalTransitionError`` where the table has no entry."""
    try:
        return table[state, event]
    except KeyError:
        raise IllegalTransitionError(f"{event.value} is not possible in state {state.value}") from None
