"""The rows: how each fault is injected, when it is over, and what besides the audit must hold."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ingest.audit.model import KINDS
from tests.campaigns.faults.environment import FaultEnvironment

SLOW_MACHINE = 5.0
LEAST_LIMIT = 30.0
"""So many times a row's limit, and so many seconds in any case, are still no failure."""

Inject = Callable[[FaultEnvironment, int], float | None]
"""Injects the n-th fault; returns seconds of recovery where the row measures its own, else None."""
Check = Callable[[FaultEnvironment, "Played"], list[str]]


@dataclass
class Played:
    """What came of a row."""

    recoveries: list[float] = field(default_factory=list)
    rest_calls: int = 0
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    note: str = ""

    def grown(self, name: str) -> float:
        """By how much a metric has grown in this row."""
        return self.after.get(name, 0.0) - self.before.get(name, 0.0)


@dataclass(frozen=True)
class Row:
    """One row of the fault table."""

    number: int
    title: str
    inject: Inject
    times: int = 3
    limit: float = 15.0
    """Seconds of recovery at most, on a machine with nothing else to do."""
    no_rest: bool = False
    """No REST call may be spent on it."""
    check: Check = lambda _field, _played: []
    to_head: bool = True
    true_findings: frozenset[str] = frozenset()
    """What the auditor may find, because the exchange does it; anything else is a problem."""


METRICS = (
    "ingest_gaps_found_total", "ingest_duplicates_dropped_total", "ingest_content_mismatches_total",
    "ingest_rejected_total", "binance_reconnects_total", "binance_connection_rotations_total",
    "ingest_symbols_frozen", "process_memory_rss_bytes",
)  # fmt: skip


def play(field_: FaultEnvironment, row: Row, times: int | None = None) -> Played:
    """Play a row: inject, wait until everything is in Kafka, audit."""
    played = Played()
    played.before = {name: field_.metric(name) for name in METRICS}
    calls = field_.settled() if row.no_rest else field_.rest_calls()
    for number in range(times or row.times):
        own = row.inject(field_, number)
        if own is not None:
            played.recoveries.append(own)
        elif row.to_head:
            played.recoveries.append(field_.wait_committed(field_.heads()))
    played.rest_calls = field_.rest_calls() - calls
    time.sleep(1.1)  # metrics are published once a second
    played.after = {name: field_.metric(name) for name in METRICS}
    code, audit = field_.audited(to_head=row.to_head)
    played.audit = audit["totals"]
    found = {kind for kind in (*KINDS, "unjudged") if played.audit[kind]}
    if code != 0 and not (found and found <= row.true_findings):
        played.problems.append(f"audit: {audit['verdict']}: {audit['reason']}")
    slowest = max(played.recoveries, default=0.0)
    if slowest > max(LEAST_LIMIT, row.limit * SLOW_MACHINE):
        played.problems.append(
            f"{slowest:.1f} s until all was in Kafka, {row.limit:g} s are allowed on a quiet machine"
        )
    if row.no_rest and played.rest_calls:
        played.problems.append(f"{played.rest_calls} REST calls where none is needed")
    played.problems += row.check(field_, played)
    return played


# --- connections ---


def _reset(f: FaultEnvironment, number: int) -> float:
    live = _live(f)
    reconnects = f.metric("binance_reconnects_total")
    f.fault("reset", connection="oldest")
    recovery = f.wait_committed(f.heads())
    # The next reset must not meet the only connection: without either of them REST is asked rightly.
    f.until(lambda: f.metric("binance_reconnects_total") > reconnects, "a reconnect")
    f.until(lambda: _live(f) >= live, "both connections")
    return recovery


def _live(f: FaultEnvironment) -> int:
    return sum(one["state"] == "live" for one in f.service.status()["connections"])


def _black_hole(f: FaultEnvironment, number: int) -> None:
    f.fault("black_hole", connection="all", seconds=60.0)
    time.sleep(1.0)


def _frozen(f: FaultEnvironment, number: int) -> None:
    f.service.pause()
    time.sleep(8.0)
    f.service.resume()


def _pings(f: FaultEnvironment, number: int) -> float:
    before = f.counters()
    time.sleep(8.0)
    now = f.counters()
    sent, answered, late = (
        now.get(name, 0) - before.get(name, 0) for name in ("pings_sent", "pongs_received", "pong_timeouts")
    )
    if late or answered < sent * 0.8:
        raise AssertionError(f"{sent} pings, {answered} pongs, {late} connections closed for want of one")
    return 0.0


def _old_age(f: FaultEnvironment, number: int) -> None:
    rotations = f.metric("binance_connection_rotations_total")
    f.order("rotate")
    f.until(lambda: f.metric("binance_connection_rotations_total") > rotations, "a rotation")


def _shutdown(f: FaultEnvironment, number: int) -> None:
    f.fault("server_shutdown", connection="oldest", lead_s=5.0)
    time.sleep(6.0)


def _no_way(f: FaultEnvironment, number: int) -> None:
    f.fault("refuse_connects", seconds=3.0)
    f.fault("reset")
    time.sleep(3.0)


def _refused(f: FaultEnvironment, number: int) -> None:
    f.fault("handshake", status=(451, 403, 418)[number % 3], attempts=2, retry_after=2)
    f.fault("reset")


def _storm(f: FaultEnvironment, number: int) -> None:
    for _ in range(5):
        f.fault("reset")
        time.sleep(0.2)


def _few_attempts(f: FaultEnvironment, played: Played) -> list[str]:
    attempts = f.metric("binance_connection_attempts_total")
    played.note = f"{attempts:.0f} connection attempts since the start, budget 280 in five minutes"
    return [f"{attempts:.0f} attempts"] if attempts > 300 else []


# --- REST ---


def _rest_refused(status: int, pause: int) -> Inject:
    def inject(f: FaultEnvironment, number: int) -> None:
        before = f.counters()
        f.fault(f"rest_{status}", calls=1, retry_after=pause)
        f.fault("gap", count=20)
        name = f"rest_{status}"
        f.until(lambda: f.counters()[name] > before[name], "a refused call")
        time.sleep(1.0)  # calls that were under way have been counted by then
        calls = f.rest_calls()
        time.sleep(max(0.0, pause - 5.0))
        if f.rest_calls() != calls:
            raise AssertionError(f"{f.rest_calls() - calls} calls while HTTP {status} forbids them")

    return inject


def _gap(f: FaultEnvironment, number: int) -> None:
    f.fault("gap", count=25)
    time.sleep(0.5)


# --- content ---


def _trades(kind: str, options: Sequence[dict[str, Any]], *, count: int = 3) -> Inject:
    def inject(f: FaultEnvironment, number: int) -> None:
        f.fault(kind, count=count, **options[number % len(options)])
        time.sleep(0.5)

    return inject


def _malformed(f: FaultEnvironment, number: int) -> None:
    form = ("cut", "trailing", "utf8", "empty", "array", "number")[number % 6]
    f.fault("malformed", form=form, count=2)
    time.sleep(0.5)


def _huge(f: FaultEnvironment, number: int) -> None:
    f.fault(("huge_frame", "deflate_bomb")[number % 2], connection="oldest")
    time.sleep(0.5)


def _light(f: FaultEnvironment, played: Played) -> list[str]:
    grown = (f.service.rss() - played.before["process_memory_rss_bytes"]) / 2**20
    played.note = f"{grown:+.1f} MB resident"
    return [f"{grown:.0f} MB more resident"] if grown > 25 else []


def _strange(f: FaultEnvironment, number: int) -> None:
    f.fault(("unknown_event", "error_object", "array", "binary")[number % 4])


def _repeated(f: FaultEnvironment, number: int) -> None:
    if number % 3 == 2:
        f.fault("replay", connections=2, trades=50)
        f.fault("reset", connection="oldest")
    else:
        f.fault(("duplicate", "altered_duplicate")[number % 3], count=5)
    time.sleep(0.5)


def _new_count(f: FaultEnvironment, number: int) -> float:
    frozen = f.metric("ingest_symbols_frozen")
    began = time.monotonic()
    quiet = sorted(f.heads())[number]
    f.fault(("giant_jump", "id_reset")[number % 2], symbol=quiet, **({} if number % 2 == 0 else {"to": 5}))
    f.until(lambda: f.metric("ingest_symbols_frozen") > frozen, "a frozen symbol")
    return time.monotonic() - began


def _clock(f: FaultEnvironment, number: int) -> None:
    f.fault("clock_skew", ms=(-3_600_000, 3_600_000)[number % 2])
    time.sleep(1.5)
    f.fault("clock_skew", ms=0)


def _own_clock(f: FaultEnvironment, number: int) -> float | None:
    """The service's own time of day jumps an hour and back, under load, while its monotonic clock goes on."""
    if f.wall_clock is None:
        return 0.0
    hour = (3600.0, -3600.0)[number % 2]
    f.wall_clock.jump(hour)
    try:
        f.until(lambda: abs(_committed_at(f) - time.time() - hour) < 1800.0, "a commit by the moved clock")  # noqa: TID251
        f.wait_committed(f.heads())
    finally:
        f.wall_clock.jump(0.0)
    return None


def _committed_at(f: FaultEnvironment) -> float:
    return f.metric("ingest_last_commit_timestamp_seconds")


def _no_reconnect(f: FaultEnvironment, played: Played) -> list[str]:
    number = played.grown("binance_reconnects_total")
    return [f"{number:.0f} reconnects"] if number else []


def _buried(f: FaultEnvironment, played: Played) -> list[str]:
    number = played.grown("ingest_rejected_total")
    played.note = f"{number:.0f} messages rejected and kept"
    return [] if number else ["nothing was rejected"]


def _dropped(f: FaultEnvironment, played: Played) -> list[str]:
    number = played.grown("ingest_duplicates_dropped_total")
    mismatches = played.grown("ingest_content_mismatches_total")
    played.note = f"{number:.0f} duplicates dropped, {mismatches:.0f} with other content"
    return [] if number else ["no duplicate was seen"]


DECIMALS = [{"value": value} for value in ("NaN", "-1.00000000", "1e5", "0.123456789", "", "1,5")]
FIELDS = [{"field": name} for name in ("t", "p", "q", "T", "m", "s")]

ROWS: tuple[Row, ...] = (
    Row(1, "TCP reset of one of two sockets", _reset, limit=1.0, no_rest=True),
    Row(2, "black hole", _black_hole, 2, 15.0),
    Row(3, "the service frozen for 8 s", _frozen, 1, 5.0),
    Row(4, "server pings each second", _pings, 1, 1.0, no_rest=True),
    Row(5, "rotation, as before the 24 h limit", _old_age, 3, 5.0, no_rest=True),
    Row(6, "serverShutdown", _shutdown, 2, 5.0, no_rest=True),
    Row(7, "no connection possible for 3 s", _no_way, 2, 10.0),
    Row(9, "HTTP 429 with Retry-After", _rest_refused(429, 8), 2),
    Row(10, "HTTP 418 with Retry-After", _rest_refused(418, 9), 2),
    Row(11, "handshake 451, 403, 418", _refused, 2, 40.0),
    Row(12, "storm of resets", _storm, 2, 10.0, check=_few_attempts),
    Row(13, "malformed JSON", _malformed, 6, 5.0, check=_buried),
    Row(14, "huge frame, deflate bomb", _huge, 4, 5.0, check=_light),
    Row(15, "unknown event, error object, array, binary", _strange, 8, 2.0, no_rest=True),
    Row(16, "negative, NaN, over-scale decimals", _trades("bad_decimal", DECIMALS), 6, 5.0, check=_buried),
    Row(17, "missing field", _trades("missing_field", FIELDS), 6, 5.0, check=_buried),
    Row(17, "mistyped field", _trades("mistyped_field", FIELDS), 6, 5.0, check=_buried),
    Row(18, "duplicate ids, some with other content", _repeated, 6, 5.0, check=_dropped),
    Row(19, "swapped ids", _trades("reorder", [{}]), 4, 5.0),
    Row(21, "the exchange's clock an hour off", _clock, 2, 5.0, check=_no_reconnect),
    Row(21, "the service's time of day jumps an hour", _own_clock, 4, 5.0, no_rest=True, check=_no_reconnect),
    Row(20, "ids jump or begin anew", _new_count, 2, 5.0, to_head=False, true_findings=frozenset({"id_reset"})),
)
"""
Row 8 needs certificates and is played apart (``tls.py``); row 20 comes last: it leaves symbols frozen. Its auditor
reports the ids that began anew, unless row 21 left a trade of a later hour before them.
"""
