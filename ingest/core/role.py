"""What this instance is allowed to do: one enum of states, one of events, one table. An illegal pair raises.

The order of a take-over is the whole point: a standby fences its predecessor first and reads the positions second
(design, "Exactly once"). Only ``ACTIVE`` writes trades.
"""

import enum

from ingest.core.transitions import next_state


class Role(enum.Enum):
    """The states of an instance."""

    STANDBY = "standby"
    SHADOW = "shadow"
    TAKING_OVER = "taking_over"
    ACTIVE = "active"
    FENCED = "fenced"
    DRAINING = "draining"
    STOPPED = "stopped"


class RoleEvent(enum.Enum):
    """What can happen to an instance."""

    WATCH = "watch"
    """Compare with what the writer commits."""
    UNWATCH = "unwatch"
    TAKE_OVER = "take_over"
    """A person, a deployment or an expired lease says: you write."""
    TOOK_OVER = "took_over"
    """Fenced the predecessor, read the positions, committed the own generation."""
    STAND_DOWN = "stand_down"
    """A newer generation writes."""
    FENCED = "fenced"
    """The broker says that another producer holds the id."""
    RETRY = "retry"
    """Fenced, but no newer generation is recorded: the id is still ours to take."""
    RELEASE = "release"
    """A person says: stop writing, stay warm."""
    DRAIN = "drain"
    STOP = "stop"


_TABLE: dict[tuple[Role, RoleEvent], Role] = {
    (Role.STANDBY, RoleEvent.WATCH): Role.SHADOW,
    (Role.SHADOW, RoleEvent.UNWATCH): Role.STANDBY,
    (Role.STANDBY, RoleEvent.TAKE_OVER): Role.TAKING_OVER,
    (Role.SHADOW, RoleEvent.TAKE_OVER): Role.TAKING_OVER,
    (Role.TAKING_OVER, RoleEvent.TOOK_OVER): Role.ACTIVE,
    (Role.TAKING_OVER, RoleEvent.STAND_DOWN): Role.STANDBY,
    (Role.TAKING_OVER, RoleEvent.FENCED): Role.FENCED,
    (Role.ACTIVE, RoleEvent.TOOK_OVER): Role.ACTIVE,  # the producer was recycled
    (Role.ACTIVE, RoleEvent.FENCED): Role.FENCED,
    (Role.ACTIVE, RoleEvent.STAND_DOWN): Role.STANDBY,
    (Role.ACTIVE, RoleEvent.RELEASE): Role.STANDBY,
    (Role.FENCED, RoleEvent.STAND_DOWN): Role.STANDBY,
    (Role.FENCED, RoleEvent.RETRY): Role.TAKING_OVER,
    (Role.FENCED, RoleEvent.TOOK_OVER): Role.ACTIVE,
    (Role.STANDBY, RoleEvent.DRAIN): Role.DRAINING,
    (Role.SHADOW, RoleEvent.DRAIN): Role.DRAINING,
    (Role.TAKING_OVER, RoleEvent.DRAIN): Role.DRAINING,
    (Role.ACTIVE, RoleEvent.DRAIN): Role.DRAINING,
    (Role.FENCED, RoleEvent.DRAIN): Role.DRAINING,
    (Role.DRAINING, RoleEvent.TOOK_OVER): Role.DRAINING,
    (Role.DRAINING, RoleEvent.FENCED): Role.DRAINING,
    (Role.DRAINING, RoleEvent.STAND_DOWN): Role.DRAINING,
    (Role.DRAINING, RoleEvent.STOP): Role.STOPPED,
}


def transition(role: Role, event: RoleEvent) -> Role:
    """The state after an event. Raises ``IllegalTransitionError`` where there is none; nothing changes then."""
    return next_state(_TABLE, role, event)


def may_write(role: Role) -> bool:
    """Whether trades may be handed to the writer."""
    return role in (Role.ACTIVE, Role.DRAINING)
