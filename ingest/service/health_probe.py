"""Health, judged from outside the event loop. docs/reference/health.md says what each signal means.

The loop leaves a beat and a snapshot each second; the HTTP thread reads them and knows the time itself. A hung loop, or
a dead supervisor, is therefore unhealthy within seconds, while every scrape still answers.

``status`` requests a new snapshot, so that it never shows less than an earlier answer of ``/metrics`` did. The loop
makes at most ten a second; a hung loop is waited for half a second, then the last snapshot is shown with its age.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from ingest.control.server import Health
from ingest.core.data_due import Overdue
from ingest.core.role import Role
from ingest.core.symbol_sequence import SymbolSequence
from ingest.metrics import Metrics

NOT_OVERDUE = Overdue()
LOOP_SECONDS = 10.0
"""A loop without a beat for this long is hung."""
SPACING_SECONDS = 0.1
"""Between the snapshots that requests cause, however many there are."""
FRESH_SECONDS = 0.5
"""A request waits this long for the loop to make one."""


def every_symbol_halted(sequences: Iterable[SymbolSequence]) -> str:
    """Why not one symbol is written, "" where at least one is, or where there is none."""
    reasons = Counter(sequence.halted for sequence in sequences)
    if None in reasons or not reasons:
        return ""
    found = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items(), key=str))
    return f"every symbol is halted ({found}): see /status"


class Snapshot:
    """What the loop last said of itself. Replaced as a whole, never changed."""

    __slots__ = (
        "at", "connections_live", "every_symbol_halted", "last_commit", "lease_seen", "overdue", "refusal", "role",
        "status", "waiting_since",
    )  # fmt: skip

    def __init__(
        self,
        *,
        at: float,
        role: Role,
        last_commit: float | None,
        lease_seen: float,
        connections_live: int,
        status: dict[str, Any],
        overdue: Overdue = NOT_OVERDUE,
        waiting_since: float | None = None,
        refusal: str = "",
        every_symbol_halted: str = "",
    ) -> None:
        """``waiting_since``: since when it waits for the exchange's symbols or the schema, None once it has them.

        ``refusal``: why it must not become the writer, if so.

        ``every_symbol_halted``: why, where not one symbol is written; "" otherwise.
        """
        self.at = at
        self.role = role
        self.last_commit = last_commit
        self.lease_seen = lease_seen
        self.connections_live = connections_live
        self.overdue = overdue
        self.waiting_since = waiting_since
        self.every_symbol_halted = every_symbol_halted
        self.status = status
        self.refusal = refusal


class ServiceProbe:
    """Answers the health questions; safe to call from any thread."""

    def __init__(
        self,
        metrics: Metrics,
        *,
        max_commit_age: float,
        max_data_overdue: float = 30.0,
        monotonic: Callable[[], float],
        request_snapshot: Callable[[], object] | None = None,
    ) -> None:
        """``request_snapshot`` wakes the loop for a beat; it is called from any thread."""
        self._metrics = metrics
        self._request_snapshot = request_snapshot
        self._max_data_overdue = max_data_overdue
        self._max_commit_age = max_commit_age
        self._monotonic = monotonic
        self._started = monotonic()
        self._lock = threading.Condition()
        self._snapshot: Snapshot | None = None

    def beat(self, snapshot: Snapshot) -> None:
        """Take the loop's word (on the loop, once a second)."""
        with self._lock:
            self._snapshot = snapshot
            self._lock.notify_all()
        self._metrics.healthy.set(1 if self.ready().ok else 0)

    def _last(self) -> tuple[Snapshot | None, float]:
        with self._lock:
            return self._snapshot, self._monotonic()

    def live(self) -> Health:
        """Whether the process works at all: the loop turns."""
        snapshot, now = self._last()
        since = snapshot.at if snapshot is not None else self._started
        lag = now - since
        ok = lag < LOOP_SECONDS
        reason = "" if ok else f"the event loop has not run for {lag:.1f} s"
        return Health(ok=ok, reason=reason, details={"loop_seconds": round(lag, 3)})

    def ready(self) -> Health:
        """Whether it does its job: an active instance records what is traded, a standby is warm."""
        live = self.live()
        snapshot, now = self._last()
        if not live.ok or snapshot is None:
            self._metrics.healthy.set(0)
            return Health(ok=False, reason=live.reason or "starting", details=live.details)
        details: dict[str, Any] = {**live.details, "role": snapshot.role.value}
        details["data_overdue_seconds"] = round(snapshot.overdue.seconds, 3)
        reason = self._not_ready(snapshot, now, details)
        self._metrics.healthy.set(0 if reason else 1)
        return Health(ok=not reason, reason=reason, details=details)

    def _not_ready(self, snapshot: Snapshot, now: float, details: dict[str, Any]) -> str:
        """Return why it does not do its job, "" where it does."""
        if snapshot.role is Role.ACTIVE:
            age = now - snapshot.last_commit if snapshot.last_commit is not None else float("inf")
            details["commit_age_seconds"] = round(age, 3) if age != float("inf") else None
            if age > self._max_commit_age:
                return f"nothing was committed for {age:.1f} s (at most {self._max_commit_age:g} s)"
            if snapshot.every_symbol_halted:
                return snapshot.every_symbol_halted
        elif snapshot.role in (Role.STANDBY, Role.SHADOW):
            details["connections_live"] = snapshot.connections_live
            if snapshot.connections_live == 0:
                return "no connection to the exchange is live"
            if snapshot.refusal:
                return snapshot.refusal
        else:
            return f"this instance is {snapshot.role.value}"
        waited = now - snapshot.waiting_since if snapshot.waiting_since is not None else 0.0
        if waited > self._max_data_overdue:
            return f"starting: no answer about the symbols or the schema for {waited:.0f} s"
        if snapshot.overdue.seconds > self._max_data_overdue:
            return f"no data for {snapshot.overdue.seconds:.0f} s: {snapshot.overdue.reason}"
        return ""

    def status(self) -> dict[str, Any]:
        """Return the state of the loop as of now, and how old that is if the loop does not answer."""
        self._refresh()
        snapshot, now = self._last()
        if snapshot is None:
            return {"state": "starting"}
        return {**snapshot.status, "snapshot_age_seconds": round(now - snapshot.at, 3)}

    def _refresh(self) -> None:
        """Wait for a snapshot that is not older than this call; give up after ``FRESH_SECONDS``."""
        snapshot, wanted = self._last()
        if snapshot is None or self._request_snapshot is None:
            return
        with self._lock:
            pause = snapshot.at + SPACING_SECONDS - wanted
            if pause > 0 and self._lock.wait_for(lambda: self._newer_than(wanted), pause):
                return
            try:
                self._request_snapshot()
            except RuntimeError:  # the loop is closed: the process ends
                return
            self._lock.wait_for(lambda: self._newer_than(wanted), FRESH_SECONDS)

    def _newer_than(self, moment: float) -> bool:
        return self._snapshot is not None and self._snapshot.at >= moment
