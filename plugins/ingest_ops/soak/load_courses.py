"""Courses of the load that soaks are simulated with: constant, daily, and those that rise or fall and stay.

Times are parts of the run, 0 to 1; the load is 1 on average or at its start.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Random = np.random.Generator

LASTING = (
    "rises", "step", "late step", "squared", "quarter sine", "stairs", "falls", "step down", "rising wave", "drifting",
    "last hours",
)  # fmt: skip
"""Courses of the load that end elsewhere than they began."""
RETURNING = ("peak", "on and off", "partial return")
"""Courses that come back, the last one in part."""


def busy(phase: float) -> float:
    """When a third of the run under load begins."""
    return 0.05 + 0.6 * phase


def course(load: str, x: Array, phase: float, random: Random) -> Array:
    """The load without its jitter, 1 on average or at its start."""
    if load in LASTING or load in RETURNING:
        return _unusual(load, x, random)
    match load:
        case "daily":
            return 1.0 + 0.7 * np.sin(2 * np.pi * (x + phase))
        case "working hours":
            begin = busy(phase)
            return np.where((x >= begin) & (x < begin + 1 / 3), 2.0, 0.5)
        case "noisy":
            return np.exp(0.4 * autocorrelated(random, len(x), 0.02 * len(x)))
        case _:
            return np.ones(len(x))


def _unusual(load: str, x: Array, random: Random) -> Array:
    """Loads that take any course; ``size`` is what they gain or lose, relative to their start."""
    size, at = random.uniform(0.3, 3.0), random.uniform(0.1, 0.85)
    lost = 0.1 + 0.25 * size
    courses: dict[str, Callable[[], Any]] = {
        "rises": lambda: 1.0 + size * x,
        "step": lambda: 1.0 + size * (x >= at),
        "late step": lambda: 1.0 + size * (x >= 0.75),
        "squared": lambda: 1.0 + size * x * x,
        "quarter sine": lambda: 1.0 + size * np.sin(np.pi / 2 * x),
        "stairs": lambda: 1.0 + size * np.floor(x * 4) / 4,
        "falls": lambda: 1.0 - lost * x,
        "step down": lambda: 1.0 - lost * (x >= at),
        "rising wave": lambda: 1.0 + size * x + 0.5 * np.sin(2 * np.pi * (2 * x + at)),
        "drifting": lambda: np.exp(np.cumsum(random.normal(0.0, 0.6 / len(x) ** 0.5, len(x)))),
        "last hours": lambda: 1.0 + size * np.maximum(0.0, x - 11 / 12) * 12,
        "peak": lambda: 1.0 + size * np.exp(-(((x - at) / 0.08) ** 2)),
        "on and off": lambda: 1.0 + size * (np.floor((x + at) * 8) % 2),
        "partial return": lambda: 1.0 + size * (x >= at) * np.where(x >= (1 + at) / 2, 0.5, 1.0),
    }
    return np.asarray(courses[load](), dtype=np.float64)


def autocorrelated(random: Random, count: int, memory: float) -> Array:
    """Unit noise (AR 1) that forgets in ``memory`` samples."""
    keep = float(np.exp(-1.0 / max(memory, 1e-6)))
    steps = random.normal(0.0, (1.0 - keep * keep) ** 0.5, count)
    steps[0] = random.normal()
    # An exact recursion in chunks: keep ** -i would overflow over the whole series.
    found, value = np.empty(count), 0.0
    width = max(1, int(min(count, 30.0 * max(memory, 1e-6))))
    for first in range(0, count, width):
        part = steps[first : first + width]
        powers = keep ** np.arange(len(part))
        found[first : first + width] = powers * (np.cumsum(part / powers) + keep * value)
        value = float(found[min(first + width, count) - 1])
    return found
