"""What an instance does about one shard: the state table of the supervisor. Pure; no processes, no clock.

The group says where a shard should be written, the transactional id who writes. Two rules follow:

- a writer goes on until its successor has fenced it, whatever the group says: a shard without an owner, or with one
  that cannot start, stays written;
- an instance takes over once for each assignment. If it was fenced afterwards, only a description of the group that is
  newer than the fence allows it again: an instance with an outdated assignment and the owner do not fence
  each other in turn.
"""

from enum import Enum, auto

import msgspec

TRANSACTION_SECONDS = 1.0
"""A transaction lasts so long at most, but on a broker that is slow."""
SILENT_HEARTBEATS = 2.5
"""Without a commit for so many heartbeats no instance writes."""
LINGER_SECONDS = 10.0
"""A child that is not needed is kept this long: a shard that comes back finds it warm."""
AGAIN_SECONDS = 5.0
"""Between two promotions: the first may be under way."""
STANDBY = "standby"
WRITING = frozenset({"active", "taking_over", "fenced"})
"""Roles that end by themselves: fenced either takes the id back or becomes a standby."""


class Action(Enum):
    """What to do now."""

    KEEP = auto()
    START = auto()
    PROMOTE = auto()
    END = auto()
    """Let the child commit what it has and end."""


class Pace(msgspec.Struct, frozen=True):
    """How long a warm successor waits."""

    settle_seconds: float
    """Before it takes over: what its predecessor has not committed yet must be in its own buffer."""
    silent_seconds: float
    """Without a commit or a heartbeat for so long no instance writes: a successor does not wait."""


def pace_of(*, commit_interval_ms: int, heartbeat_interval_ms: int) -> Pace:
    """The waits that belong to settings. A trade waits for a commit for the interval, and then for the transaction."""
    return Pace(
        commit_interval_ms / 1000 + TRANSACTION_SECONDS,
        SILENT_HEARTBEATS * max(commit_interval_ms, heartbeat_interval_ms) / 1000,
    )


class Child(msgspec.Struct, frozen=True):
    """A running child, by its latest report."""

    role: str
    warm_seconds: float | None = None
    """Since when it is warm; None: it is not."""
    lease_age: float = 0.0
    """Seconds since any writer of the shard committed."""
    promoted_seconds: float | None = None
    """Since the latest promotion was sent."""
    unwanted_seconds: float = 0.0


class Situation(msgspec.Struct, frozen=True):
    """One shard as this instance sees it."""

    child: Child | None = None
    assigned: bool = False
    """The group has given it to this instance."""
    took_over: bool = False
    """This instance has written it since it was assigned."""
    confirmed: bool = False
    """A description of the group, newer than the last change of the child's role, names this instance as the owner."""
    standby_duty: bool = False
    """This instance keeps a standby warm for it."""
    owner_gone: bool = False
    """The instance that owned it has left the group or died, and no other one has it yet."""
    leaving: bool = False
    """This instance was told to end and has left the group."""
    successors: bool = True
    """Another instance is in the group."""
    leave_over: bool = False
    """The time for leaving is over."""


def decide(now: Situation, pace: Pace) -> Action:
    """Return what to do about the shard."""
    child = now.child
    if child is None:
        return Action.START if (now.assigned or now.standby_duty) and not now.leaving else Action.KEEP
    if now.leaving:
        waits = child.role in WRITING and now.successors and not now.leave_over
        return Action.KEEP if waits else Action.END
    if child.role != STANDBY:
        return Action.KEEP
    if now.assigned:
        return Action.PROMOTE if _may_promote(now) and _ready(child, pace) else Action.KEEP
    if now.standby_duty:
        orphan = now.owner_gone and child.lease_age >= pace.silent_seconds
        return Action.PROMOTE if orphan and _ready(child, pace) else Action.KEEP
    return Action.END if child.unwanted_seconds >= LINGER_SECONDS else Action.KEEP


def _may_promote(now: Situation) -> bool:
    return not now.took_over or now.confirmed


def _ready(child: Child, pace: Pace) -> bool:
    """Whether it may take over now: warm, and sure to hold what its predecessor has not committed."""
    if child.promoted_seconds is not None and child.promoted_seconds < AGAIN_SECONDS:
        return False
    if child.warm_seconds is None:
        return False
    return child.warm_seconds >= pace.settle_seconds or child.lease_age >= pace.silent_seconds
