"""Memory growth with an interval that stays valid for late, bursty, autocorrelated and load-driven growth.

The window after the warm-up is cut into equal blocks; the level of a block is its second-lowest sample. The differences
between consecutive levels (increments) add up to the growth, whatever its shape, and their spread bounds the error:

- Noise that wanders like a random walk has independent increments; Student's t interval of their sum is then exact.
  White or autocorrelated noise makes consecutive increments cancel; the interval is then wider than necessary.
- A late leak, a step, a burst, a spike that decays or a daily wave makes the increments unequal; the interval widens
  until nothing can be concluded from it.

Conditions that the interval alone does not state are checked beside it: the pace of the second half, the highest level
of the last minutes and the level of the last samples above the first and above the lowest block (a leak that starts in
the last hour or minutes, also while memory falls), and whether the pace slackens as a warm-up does.

Memory that follows the load may be judged without what the load explains, but a load that rises and stays explains any
growth. A leak only adds: what the memory loses while the load falls is a lower bound of its dependence on the load,
what it gains while the load rises an upper bound. The verdict must hold at both bounds; where the load never falls the
lower bound is zero, and the memory must pass as it is.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest_ops.common.verdict import Verdict

Array = NDArray[np.float64]

METHOD = (
    "The warm-up is left out. The rest is cut into equal blocks; the level of a block is its second-lowest sample: "
    "memory that the garbage collector will free does not count. The increments between consecutive levels add up to "
    "the growth; Student's t gives its interval (one-sided error 0.5 %). PASS if the upper end, the pace of the second "
    "half and the level of the last minutes all stay below the limit. FAIL if the lower end reaches the limit and the "
    "pace does not slacken, or if the level of the last hours exceeds all levels of the first half by the limit. "
    "INCONCLUSIVE otherwise. If the message rate changes, the verdict must also hold without what may follow the rate: "
    "at least what the memory loses when the rate falls, at most what it gains when the rate rises."
)
"""For the reports."""

T995 = (63.66, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106, 3.055)
"""Student's t, one-sided 0.5 %, for 1, 2, ... degrees of freedom; the last one is also used for more."""
T95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782)
"""The same, one-sided 5 %: for the level of the last minutes, which a random walk may have lowered meanwhile."""
AVERAGING = 1.5**0.5
"""Levels of a random walk are averages over a block: their increments correlate (0.25) and show two thirds of the
variance that their sum has."""
STEPS = 2.0
"""Steps of the resolution by which growth may be hidden: one at each end."""
T84 = 1.0
"""Standard errors added to the pace of the second half: that check is about shape, not about noise."""
LEAST_BLOCKS = 5
FINE_PARTS = 276
"""The window holds so many of the short slots in which the last level is measured: 5 minutes of 23 hours."""
MOST_SLACKENING = 0.3
"""Share of its pace that growth may lose over the window and still FAIL: a warm-up as long as the window loses 0.9."""
LOAD_LAGS = 24
LEAST_LOAD_R2 = 0.5
"""Share of the hourly changes that the load must explain before the memory is regressed on it."""
LEAST_LOAD_SWING = 0.05
"""Smallest difference between two hours of the load, relative to its mean, that counts as a change of the load. Even
memory that is proportional to the load does not change by a larger share."""
LEAST_CHANGES = 12
"""Fewer changes agree with the load by chance."""
LEAST_TURN = 0.3
"""Share of its swing by which the load must have risen, and fallen, before a bound is taken from it."""
LEAST_STEP = 0.03
"""Share of the swing: smaller changes from one 24th of the window to the next are noise."""
STEP_SAMPLES = 8
"""Samples on either side of a step of the resolution; at the end of the series ``LEAST_STEP_SAMPLES``."""
LEAST_STEP_SAMPLES = 2
FALL_SHARE, HELD_SHARE = 0.02, 0.1
"""Parts of the limit: memory that fell by more, and then grew by more, may be falling still beside a leak."""
FALL_NOISE = 5.0
"""Spreads of the increments, as their own changes show them, that count as noise of a fall."""
BOUND_ERRORS = 2.83
"""Standard errors added to either bound: Student's t for 22 degrees of freedom, one-sided 0.5 %."""


@dataclass(frozen=True)
class Growth:
    """Growth over the required time, in the unit of the samples."""

    estimate: float
    low: float
    high: float
    second_half: float
    """Upper end of the growth that the pace of the second half alone would give."""
    last_level: float
    """The highest short-term level near the end, scaled likewise: above the first block (upper end, error 5 %) or above
    the lowest one, whichever is more."""
    late_rise: float
    """Level of the last 12th of the window above the highest of the first half, noise subtracted; not scaled."""
    slackening: float
    """Share of the pace that was lost over the window, with one standard error: 0 for a line, above 0.5 a warm-up."""
    per_load: float | None = None
    """Memory per unit of load that was removed before judging; ``None`` if it does not follow the load."""
    levels: tuple[tuple[float, float], ...] = ()
    """Begin of each block, and its level."""
    bounds: tuple["Growth", ...] = ()
    """The same with the least and the most removed that may follow the load; empty if the load is constant."""
    load_rose: bool = False
    """Whether the load ended above its start, and the memory is not shown to follow it both ways: the load may explain
    growth of any shape."""
    load_fell: bool = False
    """Whether the load fell and did not rise again: memory that this freed may hide growth of any size."""
    fall: float = 0.0
    """The largest fall from one short block's level to a later one, noise subtracted; not scaled."""
    after_fall: float = 0.0
    """Upper end of the growth since then, scaled; infinite if too little is left to know it."""
    beside_peaks: float | None = None
    """Growth at the pace outside of the times in which the load reached a new maximum; ``None`` if it did not."""

    def verdict(self, limit: float) -> tuple[Verdict, str]:
        """PASS, FAIL or INCONCLUSIVE against ``limit``, and why."""
        found, why = self._alone(limit)
        if found is Verdict.PASS and self.load_fell:
            return Verdict.INCONCLUSIVE, "the load fell and did not rise again: memory that this freed may hide growth"
        if found is Verdict.PASS and self.fall >= FALL_SHARE * limit and self.after_fall >= HELD_SHARE * limit:
            return (
                Verdict.INCONCLUSIVE,
                f"the memory fell by {self.fall:.1f} and did not stay there: what goes on to fall may hide growth",
            )
        if found is Verdict.FAIL and self.beside_peaks is not None and self.beside_peaks < limit:
            return Verdict.INCONCLUSIVE, "it grew while the load reached a new maximum, which an allocator may keep"
        for one in self.bounds:
            other, doubt = one._alone(limit)
            if found is Verdict.PASS and other is not Verdict.PASS:
                return Verdict.INCONCLUSIVE, f"at another dependence on the load, {doubt or 'the growth is too much'}"
            if found is Verdict.FAIL and (other is Verdict.PASS or (self.load_rose and other is not Verdict.FAIL)):
                return Verdict.INCONCLUSIVE, "the load may explain the growth: it rose together with the memory"
        return found, why

    def highest(self, name: str) -> float:
        """The highest value of a field at any dependence on the load that the samples leave possible."""
        return max(float(getattr(one, name)) for one in (self, *self.bounds))

    def _alone(self, limit: float) -> tuple[Verdict, str]:
        if self.high < limit and self.second_half < limit and self.last_level < limit:
            return Verdict.PASS, ""
        if self.low >= limit and self.slackening < MOST_SLACKENING:
            return Verdict.FAIL, ""
        if self.late_rise >= limit:
            return Verdict.FAIL, f"the last levels lie {self.late_rise:.1f} above all of the first half"
        return Verdict.INCONCLUSIVE, self._doubt(limit)

    def _doubt(self, limit: float) -> str:
        if self.low >= limit:
            return "the growth slackens: a long warm-up, or a leak that cannot be told from it"
        if self.high >= limit:
            return "the interval contains the limit"
        if self.last_level >= limit:
            return f"the level of the last minutes lies up to {self.last_level:.1f} above the first or the lowest"
        return f"the pace of the second half could reach {self.second_half:.1f}"

    def __str__(self) -> str:
        return f"{self.estimate:+.1f} MB (99 % interval {self.low:+.1f} to {self.high:+.1f})"


def assess(
    t: Array,
    y: Array,
    *,
    over: float,
    blocks: int = 8,
    start: float | None = None,
    load: Array | None = None,
    step: float | None = None,
) -> Growth | None:
    """The growth of ``y`` over ``over`` seconds, from samples in order of time ``t``.

    ``start`` is where the window begins (default: the first sample). ``load`` is the message rate at each sample.
    ``step`` is the resolution of the samples, if more is known of it than these samples show (``resolution``).
    Returns ``None`` if a block holds no sample: an interval over a hole is not known.
    """
    if len(t) < 2 * LEAST_BLOCKS or blocks < LEAST_BLOCKS or t[-1] <= t[0]:
        return None
    begin = float(t[0]) if start is None else start
    window = float(t[-1]) - begin
    step = resolution(y) if step is None else step
    effect = _load_effect(t, y, load, begin, window) if load is not None else None
    if effect is None or load is None:
        return _without(0.0, t, y, y, step, begin, window, over, blocks)
    peaks = _beside_peaks(t, y, load, begin, window, over)
    smooth = _smoothed(t, load, begin, window, effect.slots)

    def judged(per_load: float) -> Growth | None:
        return _without(per_load, t, y, smooth - smooth.mean(), step, begin, window, over, blocks)

    found = judged(effect.likely)
    bounds = [one for at in effect.bounds if at != effect.likely and (one := judged(at)) is not None]
    return found and replace(
        found, bounds=tuple(bounds), load_rose=effect.rose, load_fell=effect.fell, beside_peaks=peaks
    )


def _without(
    per_load: float, t: Array, y: Array, load: Array, step: float, begin: float, window: float, over: float,
    blocks: int,
) -> Growth | None:  # fmt: skip
    """The growth of what is left once ``per_load`` times the load is subtracted."""
    if per_load:
        y = y - per_load * load
    levels = _lowest(t, y, begin, window, blocks)
    if levels is None:
        return None
    found = _judge(t, y, levels, step, begin, window, over)
    width = window / blocks
    at = tuple((begin + slot * width, float(level)) for slot, level in enumerate(levels))
    return Growth(**found, per_load=per_load or None, levels=at)


def _judge(t: Array, y: Array, levels: Array, step: float, begin: float, window: float, over: float) -> dict[str, Any]:
    increments = np.diff(levels)
    count = len(increments)
    scale = over / (window * count / (count + 1))
    spread = float(increments.std(ddof=1))
    deviation = AVERAGING * spread * count**0.5
    freedom = min(count - 1, len(T995)) - 1
    error = T995[freedom] * deviation + STEPS * step
    total = float(increments.sum())
    half = increments[count // 2 :]
    pace = float(half.mean()) + T84 * spread / len(half) ** 0.5
    last = _last_level(t, y, begin, window)
    above_first = last - float(levels[0]) + T95[freedom] * deviation
    # A leak that begins while the memory falls (a spike, a wave) does not reach the first level.
    above_lowest = last - float(levels.min())
    return {
        "estimate": scale * total,
        "low": scale * (total - error),
        "high": scale * (total + error),
        "second_half": scale * count * pace,
        "last_level": (max(above_first, above_lowest) + STEPS * step) * over / window,
        "late_rise": _late_rise(t, y, levels, step, begin, window),
        "slackening": _slackening(increments),
        **_fall(t, y, levels, step, begin, window, over),
    }


def _fall(t: Array, y: Array, levels: Array, step: float, begin: float, window: float, over: float) -> dict[str, float]:
    """The largest fall between levels, and the growth since then."""
    parts = max(len(levels), min(LOAD_LAGS, len(t) // 5))
    fine = _lowest(t, y, begin, window, parts)
    if fine is None:
        return {"fall": 0.0, "after_fall": 0.0}
    # Of white noise the changes of the increments have three times the variance of the increments; a curve has neither.
    quiet = 1.4826 / 3.0**0.5 * float(np.median(np.abs(np.diff(fine, 2))))
    below = np.maximum.accumulate(fine) - fine
    last = int(np.argmax(below))
    fall = float(below[last]) - FALL_NOISE * quiet - step
    left = parts - 1 - last
    if left < parts // 4:
        return {"fall": fall, "after_fall": float("inf")}
    return {"fall": fall, "after_fall": (float(fine[last:].max() - fine[last]) + quiet) * over / window * parts / left}


def resolution(y: Array) -> float:
    """The resolution of the samples in order of time: growth below one step does not show.

    The smallest difference, or the largest step by which all of a few samples lie above all of those before: memory
    that grows in steps has that resolution, whatever single samples do beside. Pages are far below the noise.
    """
    values = np.unique(y)
    smallest = float(np.diff(values).min()) if len(values) > 1 else 0.0
    if len(y) < 2 * STEP_SAMPLES:
        return smallest
    highest = np.lib.stride_tricks.sliding_window_view(y, STEP_SAMPLES).max(axis=1)
    # A step near the end has fewer samples behind it.
    padded = np.concatenate([y, np.full(STEP_SAMPLES - LEAST_STEP_SAMPLES, np.inf)])
    lowest = np.lib.stride_tricks.sliding_window_view(padded, STEP_SAMPLES).min(axis=1)
    steps = lowest[STEP_SAMPLES:] - highest[: len(lowest) - STEP_SAMPLES]
    return max(smallest, float(steps.max(initial=0.0)))


def _block_of(t: Array, begin: float, window: float, blocks: int) -> NDArray[np.int64]:
    slots: NDArray[np.int64] = np.minimum((t - begin) * blocks / window, blocks - 1).astype(np.int64)
    return slots


def _lowest(t: Array, y: Array, begin: float, window: float, blocks: int) -> Array | None:
    """The second-lowest sample of each block, so that one wrong sample changes nothing; ``None`` if one has too few."""
    edges = [*np.searchsorted(_block_of(t, begin, window, blocks), np.arange(blocks)), len(t)]
    if min(np.diff(edges)) < 2:
        return None
    return np.array([np.partition(y[first:last], 1)[1] for first, last in pairwise(edges)])


def _last_level(t: Array, y: Array, begin: float, window: float) -> float:
    """The highest of the short slots' minima in the last 24th of the window: one low sample does not hide a rise.

    The last two samples are such a slot, too: a step shortly before the end.
    """
    fine = max(window / FINE_PARTS, 2.0 * window / (len(t) - 1))
    late = t > begin + window * (1 - 1 / 24) - fine
    # Slots are counted back from the end, so that the last one is whole.
    slots = ((t[-1] - t[late]) // fine).astype(np.int64)[::-1]
    edges = np.searchsorted(slots, np.unique(slots))
    return max(float(np.minimum.reduceat(y[late][::-1], edges).max()), float(y[-2:].min()))


def _late_rise(t: Array, y: Array, levels: Array, step: float, begin: float, window: float) -> float:
    """How far the last two of up to 24 short blocks lie above the first half; negative infinity if the memory falls."""
    parts = max(len(levels), min(LOAD_LAGS, len(t) // 5))
    fine = _lowest(t, y, begin, window, parts)
    if fine is None:
        return float("-inf")
    # Most increments are quiet unless the growth is spread out, and then the interval decides.
    increments = np.diff(levels)
    quiet = 1.4826 * float(np.median(np.abs(increments - np.median(increments))))
    if fine[-1] < fine[-4:].max() - quiet or fine[-1] < fine[-2]:
        return float("-inf")
    return float(fine[-2:].min() - fine[: parts // 2].max()) - 3.0 * quiet - STEPS * step


def _slackening(increments: Array) -> float:
    count = len(increments)
    mean = float(increments.mean())
    if mean <= 0.0:
        return float("inf")
    x = np.arange(count) - (count - 1) / 2
    square = float((x * x).sum())
    slope = float((x * increments).sum()) / square
    residual = increments - mean - slope * x
    error = float(np.sqrt((residual * residual).sum() / (count - 2) / square))
    return (-slope + error) * count / mean


def _smoothed(t: Array, load: Array, begin: float, window: float, lags: int) -> Array:
    """The mean load of a quarter of an hour (of a day's window) around each sample."""
    slots = _block_of(t, begin, window, 4 * lags)
    sums = np.bincount(slots, load, 4 * lags)
    counts = np.bincount(slots, minlength=4 * lags)
    smooth: Array = (sums / np.maximum(counts, 1))[slots]
    return smooth


def _beside_peaks(t: Array, y: Array, load: Array, begin: float, window: float, over: float) -> float | None:
    """The growth, scaled, outside of the short blocks in which the load exceeds all before, and the blocks after them.

    An allocator keeps what the highest load needed: the memory of a process without a leak rises with each new maximum
    of its load, and stays. A leak goes on in between.
    """
    parts = min(LOAD_LAGS, len(t) // 5)
    fine = _lowest(t, y, begin, window, parts)
    if fine is None:
        return None
    slots = _block_of(t, begin, window, parts)
    levels = np.bincount(slots, load, parts) / np.maximum(np.bincount(slots, minlength=parts), 1)
    highest = np.maximum.accumulate(levels)
    new = np.diff(highest) > LEAST_STEP * max(float(np.ptp(levels)), LEAST_LOAD_SWING * abs(float(load.mean())))
    if not new.any():
        return None
    peaks = new | np.concatenate([[False], new[:-1]])
    outside = np.diff(fine)[~peaks]
    if len(outside) < parts // 4:
        return float("-inf")
    return float(outside.mean()) * parts * over / window


@dataclass(frozen=True)
class _LoadEffect:
    """Memory per unit of load. ``likely`` is what is removed: 0 if the memory is not shown to follow the load."""

    slots: int
    likely: float
    bounds: tuple[float, ...]
    rose: bool
    fell: bool


def _load_effect(t: Array, y: Array, load: Array, begin: float, window: float) -> _LoadEffect | None:
    """What may follow the load, from the changes from one 24th of the window to the next; ``None`` if it is constant.

    Changes, not levels: memory that follows the load falls with it. A leak only adds to a change, so that the falls of
    the load give a lower bound and its rises an upper one, wherever in the window the leak is. Neither has an
    intercept: a steady leak shifts both outwards, too.
    """
    lags = min(LOAD_LAGS, len(t) // 4)
    held, slots = np.unique(_block_of(t, begin, window, lags), return_inverse=True)
    counts = np.bincount(slots)
    levels = np.bincount(slots, load) / counts
    change = LEAST_LOAD_SWING * abs(float(load.mean()))
    if len(held) < LEAST_BLOCKS or np.ptp(levels) <= change:
        return None
    lower, likely, upper = _dependence(np.diff(levels), np.diff(np.bincount(slots, y) / counts), float(np.ptp(levels)))
    fell = float(levels[:2].max() - levels[-2:].min()) > change
    rose = float(levels[-2:].max() - levels[:2].min()) > change
    if upper is None:
        return _LoadEffect(lags, 0.0, (), rose=False, fell=fell)
    if likely:
        return _LoadEffect(lags, likely, (lower, upper), rose=False, fell=False)
    return _LoadEffect(lags, 0.0, (upper,), rose=rose, fell=False)


def _dependence(x: Array, z: Array, swing: float) -> tuple[float, float, float | None]:
    """Memory per unit of load, from the changes ``z`` and ``x``: at least, likely, at most.

    Where the load hardly falls the least is 0, where it hardly rises the most is not known (``None``).
    """
    up, down = x > LEAST_STEP * swing, x < -LEAST_STEP * swing
    rises, falls = (abs(float(x[one].sum())) > LEAST_TURN * swing for one in (up, down))
    error = _residual(x, z, up, down)
    lower = max(0.0, _slope(x[down], z[down], -error)) if falls else 0.0
    if not rises:
        return lower, 0.0, None
    upper = max(0.0, _slope(x[up], z[up], error))
    likely = _likely(x, z) if falls and len(x) >= LEAST_CHANGES else 0.0
    return lower, min(max(likely, lower), upper) if likely else 0.0, upper


def _slope(x: Array, z: Array, error: float) -> float:
    """Change of memory per change of load, and ``BOUND_ERRORS`` times its error on top."""
    square = float(x @ x)
    return float(x @ z) / square + BOUND_ERRORS * error / float(np.sqrt(square))


def _residual(x: Array, z: Array, up: NDArray[np.bool_], down: NDArray[np.bool_]) -> float:
    """The standard deviation of what neither rises nor falls explain."""
    rest = z.copy()
    for part in (up, down):
        if part.any():
            rest[part] -= float(x[part] @ z[part]) / float(x[part] @ x[part]) * x[part]
    return float(np.sqrt(rest @ rest / max(1, len(rest) - 2)))


def _likely(x: Array, z: Array) -> float:
    """Memory per unit of load by plain regression of the changes; 0 if the load explains too little of them."""
    x, z = x - x.mean(), z - z.mean()
    xx, xz, zz = float(x @ x), float(x @ z), float(z @ z)
    if xx == 0.0 or zz == 0.0 or xz <= 0.0 or xz * xz / (xx * zz) < LEAST_LOAD_R2:
        return 0.0
    return xz / xx
