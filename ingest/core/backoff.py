"""Full-jitter exponential back-off as an iterator of seconds, testable without sleeping."""

from collections.abc import Callable, Iterator


def full_jitter(*, initial: float, maximum: float, uniform: Callable[[float, float], float]) -> Iterator[float]:
    """Yield waiting times in seconds without end: each uniform in [0, min(maximum, initial * 2**n)].

    ``uniform`` is ``random.uniform`` or a seeded one. It never ends: a collector that gives up loses data.
    """
    ceiling = initial
    while True:
        yield uniform(0.0, ceiling)
        ceiling = min(maximum, ceiling * 2)
