"""Message rate by shard, and silent symbols."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ingest_ops.common.report_settings import DAY, Limits
from ingest_ops.common.verdict import Verdict, together
from ingest_ops.validation.check import FAIL, INCONCLUSIVE, PASS, Check, Finding, decide
from ingest_ops.validation.day import Array, Raw
from ingest_ops.validation.day_view import DayView, runs
from ingest_ops.validation.evidence import Evidence
from ingest_ops.validation.exchange_counts import COUNT
from ingest_ops.validation.symbol_counts import COMMITTED, DOUBLED, SILENT
from ingest_ops.validation.symbol_counts import RECEIVED as RECEIVED_KEY

RECEIVED = "ingest_messages_received_total"
ACTIVE = "ingest_writer_active"


def received_by_slot(view: DayView, limits: Limits, shard: str) -> Array:
    """Messages that arrived at writing processes of a shard, slot by slot, from one window before midnight on.

    Not a number where it is unknown. Messages over a gap in the scrapes are spread over it, if the gap is no longer
    than the window of the rate, or if they prove a window below the limit; otherwise it is unknown when they came.
    """
    return view.once(("received", limits.rate_window_seconds, shard), lambda: _received(view, limits, shard))


def lead(view: DayView, limits: Limits) -> int:
    """Slots before midnight that belong to the first window of the day."""
    return max(1, round(limits.rate_window_seconds / view.step)) - 1


def _received(view: DayView, limits: Limits, shard: str) -> Array:
    before = lead(view, limits)
    total = np.full(before + view.slots, np.nan)
    writing = np.zeros(before + view.slots, dtype=np.bool_)
    unknown = np.zeros(before + view.slots, dtype=np.bool_)
    for instance in view.shards.get(shard, ()):
        actives, received = view.series(ACTIVE, instance), view.series(RECEIVED, instance)
        if not actives or not received or not len(received[0].t):
            continue
        active = view.in_slots(actives[0], before=before)
        gained = _gained(view, limits, received[0], before)
        writing |= active > 0
        # A process that may have been the writer, and was not scraped: nothing is known of these slots.
        unknown |= np.isnan(gained) & _around(active)
        total = np.where(np.isnan(gained), total, np.nan_to_num(total) + np.where(_carried(active) > 0, gained, 0.0))
    return np.where(unknown & ~writing, np.nan, total)


def _carried(active: Array) -> Array:
    """Whether the process wrote, slot by slot; a gap in the samples takes the value after it."""
    known = np.flatnonzero(~np.isnan(active))
    if not len(known):
        return np.zeros(len(active))
    index = np.searchsorted(known, np.arange(len(active)))
    found: Array = active[known[np.minimum(index, len(known) - 1)]]
    return found


def _around(active: Array) -> NDArray[np.bool_]:
    """Where the process wrote, or where its last known sample says that it did."""
    known = np.flatnonzero(~np.isnan(active))
    if not len(known):
        return np.zeros(len(active), dtype=np.bool_)
    index = np.searchsorted(known, np.arange(len(active)), side="right") - 1
    found: NDArray[np.bool_] = (index >= 0) & (active[known[np.maximum(index, 0)]] > 0)
    return found


def _gained(view: DayView, limits: Limits, one: Raw, before: int) -> Array:
    """What a process received in each slot; not a number where that is unknown."""
    found = np.full(before + view.slots, np.nan)
    gained, at = view.increments(one), view.slot_of(one.t, one.instance) + before
    since = _since(view, one)
    for index in range(len(at)):
        slot = int(at[index])
        proves = gained[index] <= limits.rate_per_second * since[index]
        if not 0 <= slot < len(found) or not (since[index] <= limits.rate_window_seconds or proves):
            continue
        first = slot
        if index and slot - at[index - 1] > 1:
            first = max(0, int(at[index - 1]) + 1)
        part = found[first : slot + 1]
        share = float(gained[index]) / (slot - first + 1)
        found[first : slot + 1] = np.where(np.isnan(part), share, part + share)
    return found


def _since(view: DayView, one: Raw) -> Array:
    """Over how many seconds each sample's increment was gained: since the sample before, or since its process began."""
    before = np.diff(one.t, prepend=one.t[0] - np.inf)
    alive = one.t - view.clock(one.instance).at(one.t)
    return np.fmin(before, alive)


def shards_of(view: DayView, evidence: Evidence) -> list[str]:
    """Every shard that should be there: those of the day, of other days, and of the settings."""
    named = {*view.shards, *evidence.expected.shards} - {""}
    return sorted(named) if named else [""]


def rate_mean(view: DayView, limits: Limits, evidence: Evidence) -> Finding:
    """Over all slots that are known, of the slowest shard."""
    shards = shards_of(view, evidence)
    found = []
    for shard in shards:
        counts = received_by_slot(view, limits, shard)[lead(view, limits) :]
        known = counts[~np.isnan(counts)]
        if len(known):
            found.append((float(known.sum()) / (len(known) * view.step), shard))
    if len(found) < len(shards) or not found:
        return _rate(view, limits, len(shards), None, "")
    mean, shard = min(found)
    return _rate(view, limits, len(shards), mean, f"{mean:,.1f}/s on average{_of(shard)}")


def _of(shard: str) -> str:
    return f" in shard {shard}" if shard else ""


def rate_worst(view: DayView, limits: Limits, evidence: Evidence) -> Finding:
    """The lowest of all windows of any shard, moved on by one slot at a time; the first one ends in the first slot."""
    shards = shards_of(view, evidence)
    found = []
    for shard in shards:
        rates = window_rates(view, limits, shard)
        known = rates.dropna()
        if len(known):
            found.append((float(known.min()), shard, rates))
    if len(found) < len(shards) or not found:
        return _rate(view, limits, len(shards), None, "")
    worst, shard, rates = min(found, key=lambda one: one[:2])
    below = int((rates.dropna() <= limits.rate_per_second / len(shards)).sum())
    last = int(np.nanargmin(rates.to_numpy()))
    end = pd.Timestamp(view.day.start + (last + 1) * view.step, unit="s")
    minutes = limits.rate_window_seconds / 60
    reason = f"{worst:,.1f}/s in the {minutes:g} minutes to {end:%H:%M:%S}{_of(shard)}"
    reason += f"; {below:,} windows at or below" if below else ""
    longest = max(_longest_unknown(received_by_slot(view, limits, one)) for one in shards) * view.step
    if longest > limits.rate_window_seconds:
        reason = f"unknown for {longest:,.0f} s, in which a window may have been silent; {reason}"
    return _rate(view, limits, len(shards), worst, reason, doubt=longest > limits.rate_window_seconds)


def _longest_unknown(counts: Array) -> int:
    return max((end - begin for begin, end in runs(np.isnan(counts))), default=0)


def window_rates(view: DayView, limits: Limits, shard: str) -> pd.Series:
    """The rate of the window that ends with each slot of the day; not a number where a part of it is unknown."""
    before = lead(view, limits)
    width = before + 1
    sums: pd.Series = pd.Series(received_by_slot(view, limits, shard)).rolling(width, min_periods=width).sum()
    return (sums / (width * view.step)).iloc[before:].reset_index(drop=True)


def _rate(
    view: DayView, limits: Limits, shards: int, value: float | None, reason: str, *, doubt: bool = False
) -> Finding:
    """Each shard must have its part of the rate: one that stands still does not hide behind the others."""
    return decide(
        bad=value is not None and value <= limits.rate_per_second / max(1, shards),
        coverage=view.coverage((RECEIVED, ACTIVE)),
        limits=limits,
        value=value,
        reason=reason,
        doubt=doubt,
    )


LEAST_EXPECTED = 100
"""Messages a day: a symbol of which fewer are expected may be silent by chance."""
SILENT_SHARE = 0.02
EVEN_SHARE = 0.05
"""Of what the other symbols have of their best days: one that lost most of its messages evenly is in doubt below."""
LEAST_SILENCE = 3600.0
"""Seconds without a message that are looked at; in doubt if ``LEAST_EXPECTED`` messages would have been usual then."""
DOUBT_SHARE = 0.5
"""Below this share of the exchange's own count a symbol is in doubt; that count may begin and end an hour later."""


def symbols(view: DayView, _limits: Limits, evidence: Evidence) -> Finding:
    """Symbols of which hardly anything arrived, by the exchange's count of the day, else by other days.

    Silent though the exchange counted trades: FAIL. By other days alone a halted market looks the same: INCONCLUSIVE.
    """
    counts, most = view.day.symbols, evidence.expected.symbols
    names = sorted({*counts, *most})
    if not names:
        return Finding(None, INCONCLUSIVE, "no counts by symbol", 0, 1)
    exchange = evidence.expected.exchange
    share = max(SILENT_SHARE, EVEN_SHARE * _activity(counts, most))
    found = [(name, *_symbol(counts.get(name), most.get(name, 0), share, exchange=exchange)) for name in names]
    silent = sorted(((verdict is not FAIL, f"{name} {why}") for name, verdict, why in found if verdict is not PASS))
    reason = "; ".join(why for _, why in silent[:5]) + (f"; and {len(silent) - 5} more" if len(silent) > 5 else "")
    verdict = together([verdict for _, verdict, _ in found])
    return Finding(float(len(silent)), verdict, reason or f"{len(names)} symbols, each with messages", 1, 1)


def _activity(counts: Mapping[str, Mapping[str, int]], most: Mapping[str, int]) -> float:
    """The day's messages as a part of the best day's: of the middle symbol, so that one that lost its own is compared.

    0 with fewer than three symbols: a loss of one symbol and a quiet market look the same.
    """
    parts = [
        min(1.0, counts[name].get(RECEIVED_KEY, 0) / usual)
        for name, usual in most.items()
        if usual >= LEAST_EXPECTED and name in counts
    ]
    return float(np.median(parts)) if len(parts) >= 3 else 0.0


def _symbol(row: Mapping[str, int] | None, usual: int, share: float, *, exchange: bool) -> tuple[Verdict, str]:
    """One symbol: its counts of the day, the most messages of any other day, and whether the exchange's is due.

    ``share``: the part of the best day below which it is in doubt.
    """
    if row is None:
        return INCONCLUSIVE, "not exported" if usual == 0 else f"not exported, {usual:,} messages on another day"
    verdict, reason = _counted(row, usual, share)
    if verdict is PASS and (doubt := _doubt(row, exchange=exchange)):
        return INCONCLUSIVE, doubt
    return verdict, reason


def _counted(row: Mapping[str, int], usual: int, share: float) -> tuple[Verdict, str]:
    got = row.get(RECEIVED_KEY, 0)
    traded = row.get(COUNT)
    if traded is not None:
        # Trades that were filled in from history did not arrive as messages.
        got = max(got, row.get(COMMITTED, 0))
        if traded < LEAST_EXPECTED or got >= DOUBT_SHARE * traded:
            return PASS, ""
        verdict = FAIL if got < SILENT_SHARE * traded else INCONCLUSIVE
        return verdict, f"{got:,} messages, {traded:,} trades by the exchange's count"
    if got < share * usual and usual >= LEAST_EXPECTED:
        return INCONCLUSIVE, f"{got:,} messages, {usual:,} on another day"
    return (INCONCLUSIVE, "never a message") if got == 0 and usual == 0 else (PASS, "")


def _doubt(row: Mapping[str, int], *, exchange: bool) -> str:
    """Why the counts alone are not enough for a PASS."""
    if missing := [key for key in (RECEIVED_KEY, COMMITTED, SILENT) if key not in row]:
        return f"no count: {', '.join(missing)}"
    if exchange and COUNT not in row:
        return "no count of the exchange for this day"
    if DOUBLED in row:
        return "its series are doubled"
    # Trades that were filled in afterwards do not end a silence of the stream.
    usual = max(row[RECEIVED_KEY], row[COMMITTED]) / DAY * row[SILENT]
    if row[SILENT] >= LEAST_SILENCE and usual >= LEAST_EXPECTED:
        return f"silent for {row[SILENT] / 3600:.1f} h, in which {usual:,.0f} messages are usual"
    return ""


CHECKS = (
    Check(
        id="rate.mean",
        title="Message rate, mean",
        section="Message rate",
        unit="1/s",
        query=f"{RECEIVED}{{$selector}}[1d]",
        criterion=lambda limits: f"more than {limits.rate_per_second:g}/s",
        threshold=lambda limits: limits.rate_per_second,
        judge=rate_mean,
        join="mean",
        about=(
            "Messages received by the process that writes, over the whole day; with several shards that of the "
            "slowest, against its part of the limit."
        ),
    ),
    Check(
        id="rate.worst",
        title="Message rate, sustained",
        section="Message rate",
        unit="1/s",
        query=f"min_over_time(sum(rate({RECEIVED}{{$selector}}[5m]))[1d:15s])",
        criterion=lambda limits: (
            f"more than {limits.rate_per_second:g}/s in each window of {limits.rate_window_seconds / 60:g} minutes"
        ),
        threshold=lambda limits: limits.rate_per_second,
        judge=rate_worst,
        join="min",
        about=(
            "The lowest rate of any window of any shard, counted from the raw samples: an average hides a quiet hour. "
            "The first window of a day begins before midnight."
        ),
        params=lambda limits: {"rate_window_seconds": limits.rate_window_seconds},
    ),
    Check(
        id="symbols",
        title="Symbols, silent",
        section="Message rate",
        unit="",
        query="increase(binance_messages_received_total{$selector}[1d])",
        criterion=lambda _limits: (
            f"each symbol has at least {DOUBT_SHARE:.0%} of the trades that the exchange counted, or "
            f"{SILENT_SHARE:.0%} of the messages of its best day ({EVEN_SHARE:.0%} if the others have "
            f"theirs), where that is {LEAST_EXPECTED} or more, and is not silent for "
            f"{LEAST_SILENCE / 3600:g} h or more in which {LEAST_EXPECTED} messages are usual"
        ),
        threshold=lambda _limits: 0.0,
        judge=symbols,
        join="max",
        about=(
            "Each symbol against the exchange's own count of the day where it was read, else against the best of the "
            "days that are kept. By other days alone a halted market looks the same: INCONCLUSIVE, not FAIL."
        ),
    ),
)  # fmt: skip
