"""A day's counts of each symbol, from raw samples: what the writing process received, what was committed, and silences.

A warm standby receives the same trades, and a second replica of Prometheus has the same series: neither is added up.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ingest_ops.validation.counter_increments import clock_of, increments
from ingest_ops.validation.day import LOOK_BACK, Array, Raw
from ingest_ops.validation.identity import aliases, canonical

ACTIVE = "ingest_writer_active"
RECEIVED, COMMITTED = "received", "committed"
SILENT = "silent"
"""Key of the longest time in seconds in which samples of the writer show no message of the symbol."""
DOUBLED = "doubled"
"""Key that is there if copies of the series were dropped: what they differ in is not known to be harmless."""

Events = tuple[Array, Array]
"""Times, and what was gained up to each since the sample before."""


def symbol_rows(
    series: Sequence[Raw], received: Iterable[Raw], committed: Iterable[Raw], start: float, end: float
) -> dict[str, dict[str, int]]:
    """The counts of ``[start, end)`` by symbol. ``series``: the day's other ones, for process starts and the writer."""
    same = aliases(series)
    known = canonical(series, same).series
    writing = {one.instance: one for one in known if one.name == ACTIVE}
    until = max((float(one.t[one.v > 0].max()) for one in writing.values() if (one.v > 0).any()), default=start)
    arrivals, commits = canonical([*received], same), canonical([*committed], same)
    came = _events(known, arrivals.series, start - LOOK_BACK, end, writing)
    went = _events(known, commits.series, start - LOOK_BACK, end, None)
    rows: dict[str, dict[str, int]] = {}
    for symbol in sorted(came.keys() | went.keys()):
        arrived = came.get(symbol, [])
        rows[symbol] = {
            RECEIVED: _total(arrived, start),
            COMMITTED: _total(went.get(symbol, []), start),
            SILENT: round(_longest_silence(arrived, start, min(until, end))),
        }
        if arrivals.doubled or commits.doubled:
            rows[symbol][DOUBLED] = 1
    return rows


def _events(
    known: Sequence[Raw], counters: Iterable[Raw], begin: float, end: float, writing: Mapping[str, Raw] | None
) -> dict[str, list[Events]]:
    """From ``begin``, where the samples begin, by symbol and process; of ``writing`` processes alone, if given."""
    found: dict[str, list[Events]] = {}
    for one in counters:
        gained = increments(one, clock_of(known, one.instance), begin)
        keep = (one.t >= begin) & (one.t < end)
        if writing is not None:
            keep &= _wrote(writing.get(one.instance), one.t)
        found.setdefault(one.labels.get("symbol", ""), []).append((one.t[keep], gained[keep]))
    return found


def _wrote(active: Raw | None, t: Array) -> np.ndarray:
    """Whether the process was the writer at each time: by the same scrape or the last one before it."""
    if active is None or not len(active.t):
        return np.zeros(len(t), dtype=np.bool_)
    index = np.searchsorted(active.t, t, side="right") - 1
    return np.asarray((index >= 0) & (active.v[np.maximum(index, 0)] > 0))


def _total(parts: Sequence[Events], start: float) -> int:
    return sum(round(float(gained[t >= start].sum())) for t, gained in parts)


def _longest_silence(parts: Sequence[Events], start: float, end: float) -> float:
    """From a message to the last sample of the day that shows none. A gap in the scrapes alone proves nothing.

    The message may be one before midnight: else two silences would be counted there. Without one, the silence began at
    the first sample, or at ``start`` where that is earlier. A symbol that is not exported any more is silent until
    ``end``, the writer's last sample.
    """
    began = min([start, *(float(at[0]) for at, _ in parts if len(at))])
    t = np.concatenate([began, *(at for at, _ in parts), end], axis=None)
    gained = np.concatenate([1.0, *(by for _, by in parts), 0.0], axis=None)
    order = np.argsort(t, kind="stable")
    t, moved = t[order], gained[order] > 0
    since = np.maximum.accumulate(np.where(moved, t, began))
    return float(np.max(np.where(moved | (t < start), 0.0, t - since), initial=0.0))
