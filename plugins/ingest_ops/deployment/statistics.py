"""Intervals for comparisons: the difference of two means, the ratio of two counts, and the slope of a series."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

LEVEL = 0.975
"""Each side of a 95 % interval."""
_T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_Z = NormalDist().inv_cdf(LEVEL)

MOST_CORRELATION = 0.6
LEAST_EFFECTIVE = 4
"""A short series says little about its own correlation: beyond these the interval would say nothing at all."""

Samples = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


def t_quantile(degrees: float) -> float:
    """Student's t at 97.5 %; conservative below eleven degrees of freedom, within 0.1 % above."""
    if degrees < len(_T975) + 1:
        return _T975[max(1, math.floor(degrees)) - 1]
    return _Z + (_Z**3 + _Z) / (4 * degrees) + (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / (96 * degrees**2)


def _effective(residuals: Sequence[float], fitted: int) -> float:
    """How many independent values a series is worth, by its lag-1 autocorrelation.

    ``fitted``: parameters that were estimated before; each biases the autocorrelation of a short series downwards.
    """
    size = len(residuals)
    total = sum(one * one for one in residuals)
    if total == 0 or size < 3 * fitted + 3:
        return float(size)
    rho = sum(one * two for one, two in itertools.pairwise(residuals)) / total
    rho = (size * rho + fitted) / (size - 3 * fitted)  # Kendall's correction
    rho = min(MOST_CORRELATION, max(0.0, rho))
    return max(float(LEAST_EFFECTIVE), size * (1 - rho) / (1 + rho))


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Estimate | None:
    """Mean of ours minus mean of theirs (Welch, with autocorrelation); None below three values on either side."""
    if min(len(ours), len(theirs)) < 3:
        return None
    parts = []
    for values in (ours, theirs):
        mean = fmean(values)
        variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
        size = _effective([value - mean for value in values], 1)
        parts.append((mean, variance / size, size))
    (mean_a, error_a, size_a), (mean_b, error_b, size_b) = parts
    error = error_a + error_b
    value = mean_a - mean_b
    if error == 0:
        return Estimate(value, value, value)
    degrees = error**2 / (error_a**2 / (size_a - 1) + error_b**2 / (size_b - 1))
    half = t_quantile(degrees) * math.sqrt(error)
    return Estimate(value, value - half, value + half)


def ratio(ours: float, theirs: float) -> Estimate:
    """Ratio of two counts of events, with the interval of two Poisson counts."""
    value = (ours + 0.5) / (theirs + 0.5)
    spread = math.exp(_Z * math.sqrt(1 / (ours + 0.5) + 1 / (theirs + 0.5)))
    return Estimate(value, value / spread, value * spread)


def slope(samples: Samples) -> Estimate | None:
    """Least-squares slope per second, with autocorrelation; None below four samples."""
    if len(samples) < 4:
        return None
    times = [at - samples[0][0] for at, _ in samples]
    values = [value for _, value in samples]
    middle, mean = fmean(times), fmean(values)
    spread = sum((at - middle) ** 2 for at in times)
    if spread == 0:
        return None
    rise = sum((at - middle) * (value - mean) for at, value in zip(times, values, strict=True)) / spread
    fitted = [mean + rise * (at - middle) for at in times]
    residuals = [value - fit for value, fit in zip(values, fitted, strict=True)]
    size = _effective(residuals, 2)
    squares = sum(one * one for one in residuals)
    degrees = max(1.0, size - 2)
    error = math.sqrt(squares / (len(values) - 2) * len(values) / size / spread)
    half = t_quantile(degrees) * error
    return Estimate(rise, rise - half, rise + half)


def increase(samples: Samples) -> float:
    """What a counter gained; a value that falls is a restart from zero."""
    values = [value for _, value in samples]
    return sum(after - before if after >= before else after for before, after in itertools.pairwise(values))


def increases(ours: Samples, theirs: Samples) -> tuple[float, float]:
    """What two counters gained in the same time: from the later beginning to the earlier end.

    The two are scraped at times of their own, and a window of few scrapes has one more of one than of the other.
    A counter with fewer than two samples gained nothing; then the other is counted over its whole time.
    """
    if min(len(ours), len(theirs)) < 2:
        return increase(ours), increase(theirs)
    began, ended = max(ours[0][0], theirs[0][0]), min(ours[-1][0], theirs[-1][0])
    return _gained(ours, began, ended), _gained(theirs, began, ended)


def _gained(samples: Samples, began: float, ended: float) -> float:
    """What a counter gained within a time; where that begins or ends between two scrapes, its share of theirs."""
    total = 0.0
    for (start, before), (stop, after) in itertools.pairwise(samples):
        inside = min(stop, ended) - max(start, began)
        if inside > 0:
            total += (after - before if after >= before else after) * inside / (stop - start)
    return total


def rates(samples: Samples, over: int = 1) -> list[float]:
    """The counter's rates per second, each over so many scrapes; restarts are left out."""
    found = []
    for (began, before), (ended, after) in zip(samples, samples[over:], strict=False):
        if ended > began and after >= before:
            found.append((after - before) / (ended - began))
    return found


def quotients(top: Samples, bottom: Samples) -> list[float]:
    """Per scrape what ``top`` gained divided by what ``bottom`` gained; scrapes without a gain are left out."""
    below = dict(bottom)
    pairs = [(value, below[at]) for at, value in top if at in below]
    found = []
    for (sum_before, count_before), (sum_after, count_after) in itertools.pairwise(pairs):
        if count_after > count_before and sum_after >= sum_before:
            found.append((sum_after - sum_before) / (count_after - count_before))
    return found
