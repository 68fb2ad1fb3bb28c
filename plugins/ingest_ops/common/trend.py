"""The memory's trend: minima, the Theil-Sen slope, and an interval that knows how correlated the noise is.

- The lowest sample of each slot is kept: what a garbage collector will still give back does not count as growth.
- The Theil-Sen slope is the median of the slopes between all pairs of minima: a third of them may be wild.
- The interval comes from a block bootstrap of the residuals: blocks keep the noise's correlation, the series is closed
  to a circle so that its ends (which move a slope most) are drawn as often as its middle. A series of ``b`` blocks says
  little about its own noise, so the interval is widened by sqrt(b / (b - 2)) and Student's t for b - 2 degrees of
  freedom. Without that a nominal 90 % interval held the truth in 65 to 80 % of runs (``make soak-calibration``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

METHOD = (
    "The warm-up is left out. The lowest resident size of each slot is kept, so that what the garbage collector will "
    "still give back does not count. The slope is Theil and Sen's: the median over all pairs of minima. Its 90 % "
    "interval comes from a moving-block bootstrap of the residuals on a circle, widened for the few blocks there are. "
    "PASS where the whole interval of the growth lies below the limit, FAIL where all of it lies at or above it, "
    "INCONCLUSIVE where it contains the limit."
)
"""For the report."""

LEAST_MINIMA = 5
DRAWS = 400
TAIL_Z = 1.6449
"""The normal quantile of a 90 % interval's upper end."""


@dataclass(frozen=True)
class Trend:
    """A slope in the y unit per x unit, its 90 % interval, and the line's value at x = 0."""

    slope: float
    low: float
    high: float
    intercept: float
    points: int

    def times(self, x: float) -> tuple[float, float, float]:
        """Slope, lower and upper bound over a distance of ``x``."""
        return self.slope * x, self.low * x, self.high * x

    def as_json(self) -> dict[str, Any]:
        """Plain data for the report."""
        return {
            "slope": self.slope,
            "low": self.low,
            "high": self.high,
            "intercept": self.intercept,
            "points": self.points,
        }


def minima(x: Sequence[float], y: Sequence[float], width: float) -> tuple[list[float], list[float]]:
    """The lowest y, and its x, of each slot of ``width`` from the first x on; slots without a sample are left out."""
    found: dict[int, tuple[float, float]] = {}
    for at, value in zip(x, y, strict=True):
        slot = int((at - x[0]) // width)
        if slot not in found or value < found[slot][1]:
            found[slot] = (at, value)
    ordered = [found[slot] for slot in sorted(found)]
    return [at for at, _ in ordered], [value for _, value in ordered]


def trend(x: Sequence[float], y: Sequence[float], *, block: int, seed: int = 0) -> Trend | None:
    """The trend of points in order of x; ``block`` is the length of the bootstrap's blocks in points.

    ``None`` for fewer than 5 points or a single x: that is no basis for a verdict. The draws are seeded, so that the
    same samples give the same verdict.
    """
    if len(x) < LEAST_MINIMA or x[0] == x[-1]:
        return None
    at, value = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    # The mean is taken off first: what is left has more digits than single precision loses.
    slope = float(_slopes(at, (value - value.mean())[None, :])[0])
    intercept = float(np.median(value - slope * at))
    residual = value - slope * at - intercept
    block = min(max(1, block), len(x) // 2)
    drawn = _slopes(at, _blocks(residual, block, np.random.default_rng(seed)))
    drawn = drawn - np.median(drawn)
    widening = small_sample(len(x) / block)
    low, high = (float(np.quantile(drawn, q)) * widening for q in (0.05, 0.95))
    return Trend(slope=slope, low=slope + low, high=slope + high, intercept=intercept, points=len(x))


def small_sample(blocks: float) -> float:
    """How much wider the interval must be because its spread was estimated from so few blocks."""
    freedom = max(1.0, blocks - 2.0)
    z = TAIL_Z
    student = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return math.sqrt(blocks / freedom) * student / z


def _slopes(x: Array, rows: Array) -> Array:
    """The Theil-Sen slope of each row.

    Single precision (7 digits, a hundredth of a page of memory) and one buffer that is filled lag by lag: three times
    as fast as gathering the pairs, and the median of 4,000 pairs in 400 rows is where all of the time goes.
    """
    count = len(x)
    narrow = rows.astype(np.float32)
    pairs = np.empty((len(rows), count * (count - 1) // 2), np.float32)
    apart = np.empty(pairs.shape[1])
    done = 0
    for lag in range(1, count):
        part = slice(done, done + count - lag)
        np.subtract(narrow[:, lag:], narrow[:, :-lag], out=pairs[:, part])
        apart[part] = x[lag:] - x[:-lag]
        done = part.stop
    keep = apart > 0
    if not keep.all():
        pairs, apart = pairs[:, keep], apart[keep]
    pairs *= (1.0 / apart).astype(np.float32)
    middle = pairs.shape[1] // 2
    pairs.partition(middle, axis=1)
    upper = pairs[:, middle]
    if pairs.shape[1] % 2:
        return upper.astype(np.float64)
    # Every value left of the middle is at most the middle one: the greatest of them is the other half of the median.
    slopes: Array = (upper.astype(np.float64) + pairs[:, :middle].max(axis=1)) / 2.0
    return slopes


def _blocks(residual: Array, block: int, random: np.random.Generator) -> Array:
    """Rows as long as the residual, each put together from blocks of it that start anywhere on the circle."""
    count = len(residual)
    starts = random.integers(0, count, size=(DRAWS, -(-count // block)))
    index = (starts[:, :, None] + np.arange(block)).reshape(DRAWS, -1)[:, :count] % count
    rows: Array = residual[index]
    return rows
