"""How much a window of memory samples looks like a leak, as a score from 0 to 1.

The scale: a steady leak of 10 MB/h scores 0.5, one of 50 MB/h or more scores 1.0, straight lines between. MB is 2**20.

A leak is memory that is never given back, at a pace that does not slacken. Each half of that sentence is one step:

1. *Never given back.* Each sample is replaced by the lowest one from there to the end of the window. A saw-tooth, of
   garbage collection or of buffers that fill and drain, has a flat floor; a leak has a rising one.
2. *At a pace that does not slacken.* The floor's pace is measured in each quarter of the window. The leak's pace is the
   median of the four, so that one step changes nothing; the slowest quarter says how steady it is, so that a few steps
   with nothing between score 0; the last quarter against those before says whether it slackens, as a warm-up does.

What it cannot tell apart: a warm-up with a time constant as long as the window, and a saw-tooth longer than the window.
``make leak-score`` prints how often it is wrong on a corpus of generated series, beside the R²-weighted regression that
it replaces.
"""

from collections.abc import Sequence
from itertools import pairwise
from statistics import median

MB = 2**20
QUARTERS = 4
STEADY = (0.1, 0.5)
"""Slowest quarter over the median one: below the first value it is no leak, above the second it counts in full."""
SLACKENING = (0.4, 0.75)
"""Last quarter over the median of those before: likewise."""
MINIMUM_SAMPLES = 8
"""Two to a quarter: fewer have no pace."""


def leak_score(samples: Sequence[tuple[float, float]]) -> float:
    """Score ``(seconds, resident bytes)`` samples, oldest first: 0.0 no leak, 0.5 at 10 MB/h, 1.0 at 50 MB/h.

    Give it a whole window (the service: 120 samples, 30 s apart): over a shorter time a warm-up is as straight as a
    leak. Fewer than 8 samples, or samples that span no time, score 0.0. Costs about 50 µs for 120 samples.
    """
    paces = _quarterly_paces(samples)
    slowest, pace = min(paces), median(paces)
    if slowest <= 0.0:
        return 0.0
    steady = _ramp(slowest / pace, STEADY)
    lasting = _ramp(paces[-1] / median(paces[:-1]), SLACKENING)
    return on_scale(pace) * steady * lasting


def on_scale(megabytes_per_hour: float) -> float:
    """The score of a steady leak of that pace."""
    if megabytes_per_hour <= 10.0:
        return max(0.0, megabytes_per_hour / 20.0)
    return min(1.0, 0.5 + (megabytes_per_hour - 10.0) / 80.0)


def retained(values: Sequence[float]) -> list[float]:
    """For each value the lowest one from there on: what was never given back within the window."""
    floor = list(values)
    for index in range(len(floor) - 2, -1, -1):
        floor[index] = min(floor[index], floor[index + 1])
    return floor


def _quarterly_paces(samples: Sequence[tuple[float, float]]) -> list[float]:
    """MB/h of the retained memory in each quarter of the window; all 0.0 where there is nothing to judge."""
    last = len(samples) - 1
    if len(samples) < MINIMUM_SAMPLES:
        return [0.0] * QUARTERS
    floor = retained([size for _, size in samples])
    around = max(1, len(samples) // 24)
    times: list[float] = []
    levels: list[float] = []
    for quarter in range(QUARTERS + 1):
        middle = round(quarter * last / QUARTERS)
        near = slice(max(0, middle - around), middle + around + 1)
        times.append(median(seconds for seconds, _ in samples[near]))
        levels.append(median(floor[near]))
    if any(end <= start for start, end in pairwise(times)):
        return [0.0] * QUARTERS
    return [
        (levels[quarter + 1] - levels[quarter]) / MB / (times[quarter + 1] - times[quarter]) * 3600.0
        for quarter in range(QUARTERS)
    ]


def _ramp(value: float, bounds: tuple[float, float]) -> float:
    low, high = bounds
    return min(1.0, max(0.0, (value - low) / (high - low)))
