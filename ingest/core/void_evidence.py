"""The rule that decides what to do about a gap: read on, wait, or declare a void. Pure.

History is a lagging database: an id that is absent counts only when the reply holds an id beyond it, in several
replies, over a time. A void covers what no source has had: it ends before the lowest id that any reply held, and before
the first trade that was received, whatever history lacks. An id that was received and could not be kept is waited for,
and then left to an operator. Every wait grows until history delivers again.
"""

from typing import Literal, NamedTuple

from ingest.core.limiter import RollingWindow

GapReason = Literal["exchange_hole", "unrepresentable"]

LAG_SECONDS = (0.25, 30.0)
"""First and longest wait for history to catch up with the stream; each wait is twice the one before."""
EVIDENCE_LAG_SECONDS = 5.0
"""Longest wait while evidence of absence is being collected."""
SPACING_SECONDS = 30.0
"""Longest pause between two replies that count as evidence."""
UNUSABLE_SECONDS = 5.0
"""A price or quantity that has no exact record is settled after this time: waiting would not change it."""

LIMIT_WINDOW_SECONDS = 600.0
VOIDS_PER_SYMBOL = 10
"""Voids of one symbol in the window; the next one halts the symbol."""
UNREPRESENTABLE_PER_SHARD = 30
"""Trades of all symbols without an exact record in the window; the next one halts its symbol."""


class Finding(NamedTuple):
    """What a reply of history shows about the id that is missing now."""

    next_id: int
    unusable: bool
    """History has the id, and no exact record can be made of it."""
    first_beyond: int | None
    """The lowest id above ``next_id`` in the reply, usable or not."""
    full: bool
    """The reply has as many trades as a page may have: history goes on."""
    damaged: bool = False
    """It is unusable because the reply is damaged there (a missing field, another type, no possible time): another
    reply may have it whole, so that it is absent like any other id until then."""


class Wait(NamedTuple):
    """Ask again after ``seconds``; 0.0 is at once."""

    seconds: float
    first_evidence: bool = False
    """The first reply that lacks the id."""
    unproven: bool = False
    """History has not shown the id for as long as a void takes to confirm, and nothing beyond it either."""


class Declare(NamedTuple):
    """No source has the ids from ``first_id`` to ``last_id``."""

    first_id: int
    last_id: int
    reason: GapReason
    evidence: dict[str, str | int]


class Refuse(NamedTuple):
    """History lacks an id of a trade that was received: no void is declared without an operator."""


LOST_FACTOR = 6
"""Such an id is waited for this many times as long as a void takes to confirm."""


class GapEvidence:
    """What history has said about one symbol's gap so far."""

    def __init__(self, *, confirm_seconds: float, confirm_replies: int) -> None:
        self._confirm_seconds = confirm_seconds
        self._confirm_replies = confirm_replies
        self._missing: tuple[int, GapReason] | None = None
        self._since = 0.0
        self._replies = 0
        self._next_found = 0
        self._empty = 0
        self._empty_since = 0.0

    def judge(self, finding: Finding, first_received: int | None, now: float) -> Wait | Declare | Refuse:
        """Decide after a reply. ``first_received`` is the lowest id of a received trade, the missing one included."""
        if finding.unusable:
            return self._unusable(finding, now)
        if finding.first_beyond is not None:
            return self._absent(finding.next_id, finding.first_beyond - 1, "exchange_hole", first_received, now)
        if finding.full:
            self._empty = 0
            return Wait(0.0)
        return self._behind(now)

    def _unusable(self, finding: Finding, now: float) -> Wait | Declare | Refuse:
        decision = self._absent(finding.next_id, finding.next_id, "unrepresentable", None, now, damaged=finding.damaged)
        if isinstance(decision, Wait) and finding.damaged:
            first, longest = LAG_SECONDS
            # Damage passes, as a rule soon.
            return decision._replace(seconds=min(longest, first * 2.0 ** min(self._replies - 1, 16)))
        return decision

    def _behind(self, now: float) -> Wait:
        """History ends before the missing id: no evidence for or against it."""
        if self._empty == 0:
            self._empty_since = now
        self._empty += 1
        if self._missing is not None:
            return Wait(min(EVIDENCE_LAG_SECONDS, self._spacing()))
        first, longest = LAG_SECONDS
        unproven = self._empty >= self._confirm_replies and now - self._empty_since >= self._confirm_seconds
        return Wait(min(longest, first * 2.0 ** min(self._empty - 1, 16)), unproven=unproven)

    def _absent(
        self,
        first_id: int,
        last_id: int,
        reason: GapReason,
        first_received: int | None,
        now: float,
        *,
        damaged: bool = False,
    ) -> Wait | Declare | Refuse:
        if self._missing != (first_id, reason):
            self._missing, self._since, self._replies, self._next_found = (first_id, reason), now, 0, last_id + 1
        self._empty = 0
        self._replies += 1
        # One reply that lacks more than the others is no evidence for the rest.
        self._next_found = min(self._next_found, last_id + 1)
        age = now - self._since
        settled_soon = reason == "unrepresentable" and not damaged
        needed = min(UNUSABLE_SECONDS, self._confirm_seconds) if settled_soon else self._confirm_seconds
        if self._replies < self._confirm_replies or age < needed:
            wait = max(LAG_SECONDS[0], min(self._spacing(), needed - age))
            return Wait(wait, first_evidence=self._replies == 1)
        if first_received == first_id:
            return Refuse() if age >= LOST_FACTOR * needed else Wait(self._spacing())
        end = self._next_found if first_received is None else min(self._next_found, first_received)
        evidence: dict[str, str | int] = {
            "replies": self._replies,
            "seconds": round(age),
            "next_id_found": self._next_found,
        }
        if first_received is not None and first_received < self._next_found:
            evidence["next_id_received"] = first_received
        self._missing = None
        return Declare(first_id, end - 1, reason, evidence)

    def _spacing(self) -> float:
        return min(SPACING_SECONDS, max(LAG_SECONDS[0], self._confirm_seconds / (2 * self._confirm_replies)))


class VoidLimit:
    """How many voids may be declared in a window before a symbol halts: hundreds are a fault of ours, not history."""

    def __init__(
        self, *, per_symbol: int = VOIDS_PER_SYMBOL, unrepresentable_per_shard: int = UNREPRESENTABLE_PER_SHARD
    ) -> None:
        self._per_symbol = per_symbol
        self._per_shard = unrepresentable_per_shard
        self._symbols: dict[str, RollingWindow] = {}
        self._shard = RollingWindow(limit=self._per_shard, window=LIMIT_WINDOW_SECONDS)

    def allows(self, symbol: str, reason: GapReason, now: float) -> bool:
        """Whether one more void may be declared; it is counted then."""
        window = self._symbols.get(symbol)
        if window is None:
            window = self._symbols[symbol] = RollingWindow(limit=self._per_symbol, window=LIMIT_WINDOW_SECONDS)
        counted = [window, self._shard] if reason == "unrepresentable" else [window]
        if any(one.wait(now) > 0.0 for one in counted):
            return False
        for one in counted:
            one.note(now)
        return True

    def reset(self, symbol: str) -> None:
        """Reset the count of a symbol after an operator has looked at it, and the shard's count."""
        self._symbols.pop(symbol, None)
        self._shard = RollingWindow(limit=self._per_shard, window=LIMIT_WINDOW_SECONDS)
