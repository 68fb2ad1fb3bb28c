"""How often the leak score is wrong: ``make leak-score`` (``python -m tests.harness.leak_score``).

Each series is three hours of samples, 30 s apart, with autocorrelated noise. The score slides over it as in the service
(a window of 120 samples). A harmless series raises a false alarm when the score reaches the threshold at *any* sample;
a leak is missed when it does not. Beside it, on the same series, the origin's score: the slope of an ordinary
regression on the same scale, weighted by R².

*As deployed* is the alert BinanceMemoryLeakDetected on six hours: four fifths of the scores of a quarter of an hour
above the threshold, or growth of more than 25 MB in each of four hours.
"""

import argparse
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ingest.core.leak import MB, leak_score, on_scale

INTERVAL = 30.0
SAMPLES = 360
WINDOW = 120
STRIDE = 4
ALARM = 0.8
WARNING = 0.5

Shape = Callable[[float], float]
"""Megabytes above the base as a function of seconds since the start."""
Maker = Callable[[random.Random], Shape]


def leak(rate: float, start: float = 0.0) -> Shape:
    return lambda t: rate * max(0.0, t - start) / 3600.0


def warm_up(size: float, constant: float) -> Shape:
    return lambda t: size * (1.0 - math.exp(-t / constant))


def step(size: float, at: float) -> Shape:
    return lambda t: size if t >= at else 0.0


def saw_tooth(size: float, period: float, phase: float) -> Shape:
    return lambda t: size * (((t + phase) % period) / period)


def stairs(rate: float, arena: float, phase: float = 0.0) -> Shape:
    """A leak that the allocator shows in whole arenas of ``arena`` megabytes."""
    return lambda t: math.floor(rate * (t + phase) / 3600.0 / arena) * arena


def plus(*shapes: Shape) -> Shape:
    return lambda t: sum(shape(t) for shape in shapes)


HARMLESS: dict[str, tuple[Maker, float]] = {
    "flat": (lambda r: leak(0.0), 0.3),
    "flat, noise 2 MB": (lambda r: leak(0.0), 2.0),
    "warm-up, constant 2 to 10 min": (lambda r: warm_up(r.uniform(10, 80), r.uniform(120, 600)), 0.3),
    "warm-up, constant 10 to 30 min": (lambda r: warm_up(r.uniform(10, 80), r.uniform(600, 1800)), 0.3),
    "warm-up, constant 60 min": (lambda r: warm_up(r.uniform(10, 80), 3600), 0.3),
    "one step": (lambda r: step(r.uniform(10, 100), r.uniform(0, 10800)), 0.3),
    "three steps": (lambda r: plus(*(step(r.uniform(5, 60), r.uniform(0, 10800)) for _ in range(3))), 0.3),
    "saw-tooth, 1 to 20 min": (lambda r: saw_tooth(r.uniform(5, 60), r.uniform(60, 1200), r.uniform(0, 1200)), 0.3),
    "saw-tooth, 20 to 45 min": (lambda r: saw_tooth(r.uniform(5, 60), r.uniform(1200, 2700), r.uniform(0, 999)), 0.3),
    "warm-up and saw-tooth": (
        lambda r: plus(
            warm_up(r.uniform(10, 60), r.uniform(120, 900)),
            saw_tooth(r.uniform(5, 30), r.uniform(60, 1200), r.uniform(0, 999)),
        ),
        0.3,
    ),
    "step and saw-tooth": (
        lambda r: plus(
            step(r.uniform(10, 60), r.uniform(0, 10800)),
            saw_tooth(r.uniform(5, 30), r.uniform(60, 1200), r.uniform(0, 999)),
        ),
        0.3,
    ),
}

LEAKS: dict[str, tuple[Maker, float, float]] = {
    "steady 15 MB/h": (lambda r: leak(15), 0.3, WARNING),
    "steady 20 MB/h": (lambda r: leak(20), 0.3, WARNING),
    "steady 20 MB/h, noise 2 MB": (lambda r: leak(20), 2.0, WARNING),
    "steady 50 MB/h": (lambda r: leak(50), 0.3, ALARM),
    "steady 50 MB/h, noise 2 MB": (lambda r: leak(50), 2.0, ALARM),
    "50 MB/h in arenas of 1 MB": (lambda r: stairs(50, 1.0), 0.3, ALARM),
    "50 MB/h from the second hour": (lambda r: leak(50, 3600), 0.3, ALARM),
    "50 MB/h after a warm-up": (lambda r: plus(leak(50), warm_up(r.uniform(10, 80), r.uniform(120, 900))), 0.3, ALARM),
    "50 MB/h with a step": (lambda r: plus(leak(50), step(r.uniform(10, 60), r.uniform(0, 10800))), 0.3, ALARM),
    "50 MB/h under a saw-tooth": (
        lambda r: plus(leak(50), saw_tooth(r.uniform(5, 30), r.uniform(60, 1200), r.uniform(0, 999))),
        0.3,
        ALARM,
    ),
}

STEPPED: dict[str, tuple[Maker, float]] = {
    "50 MB/h in steps of 12.5 MB": (lambda r: stairs(50, 12.5, r.uniform(0, 900)), 0.3),
    "50 MB/h in steps of 16 MB": (lambda r: stairs(50, 16.0, r.uniform(0, 1152)), 0.3),
    "100 MB/h in bursts of 25 MB": (lambda r: stairs(100, 25.0, r.uniform(0, 900)), 0.3),
    "100 MB/h in bursts of 50 MB": (lambda r: stairs(100, 50.0, r.uniform(0, 1800)), 0.3),
    "100 MB/h in bursts of 100 MB": (lambda r: stairs(100, 100.0, r.uniform(0, 3600)), 0.3),
}
"""Leaks in steps that an hour cannot tell from harmless steps: found by the alert, not by the score."""
DEPLOYED_SAMPLES = 720
HOURS, HOURLY_MB = 4, 25.0
"""The second condition of the alert: so many hours, each with more than so much growth."""

Series = list[tuple[float, float]]


def series(shape: Shape, rng: random.Random, noise: float, count: int = SAMPLES) -> Series:
    """Samples of the shape on a base of 70 MB, with noise of that deviation (MB), correlated by 0.8 per sample."""
    found: Series = []
    value = rng.gauss(0.0, noise)
    for index in range(count):
        seconds = index * INTERVAL
        found.append((seconds, (70.0 + shape(seconds) + value) * MB))
        value = 0.8 * value + rng.gauss(0.0, noise * 0.6)
    return found


def regression_score(samples: Sequence[tuple[float, float]]) -> float:
    """The origin's score: least squares on the same scale, weighted by R²."""
    n = len(samples)
    mean_t = sum(t for t, _ in samples) / n
    mean_y = sum(y for _, y in samples) / n
    tt = sum((t - mean_t) ** 2 for t, _ in samples)
    yy = sum((y - mean_y) ** 2 for _, y in samples)
    ty = sum((t - mean_t) * (y - mean_y) for t, y in samples)
    if tt == 0.0 or yy == 0.0:
        return 0.0
    return on_scale(ty / tt / MB * 3600.0) * (ty * ty / (tt * yy))


def highest(samples: Series, score: Callable[[Series], float]) -> float:
    """The highest score while the window slides over the series, from the first whole window on."""
    return max(score(samples[end - WINDOW : end]) for end in range(WINDOW, len(samples) + 1, STRIDE))


def alert_fires(samples: Series) -> bool:
    """Whether the alert fires at any time of the series."""
    scores = [leak_score(samples[end - WINDOW : end]) for end in range(WINDOW, len(samples) + 1, STRIDE)]
    per_quarter = int(900 / INTERVAL) // STRIDE + 1
    for end in range(per_quarter, len(scores) + 1):
        # The 0.2 quantile lies above the threshold.
        if sorted(scores[end - per_quarter : end])[int(0.2 * (per_quarter - 1))] > ALARM:
            return True
    sizes = [size / MB for _, size in samples]
    quarter, hour = int(900 / INTERVAL), int(3600 / INTERVAL)
    lows = [min(sizes[max(0, index - quarter) : index + 1]) for index in range(len(sizes))]
    return any(
        all(lows[at - n * hour] - lows[at - (n + 1) * hour] > HOURLY_MB for n in range(HOURS))
        for at in range(HOURS * hour + quarter, len(lows))
    )


@dataclass(frozen=True)
class Rate:
    """Share of series of one kind that the score got wrong, and the same of the regression."""

    kind: str
    threshold: float
    series: int
    wrong: float
    regression_wrong: float


@dataclass(frozen=True)
class Scale:
    """What a steady leak scores over one whole window: 5th, 50th and 95th percentile."""

    megabytes_per_hour: float
    expected: float
    low: float
    middle: float
    high: float


def judge(count: int, seed: int) -> tuple[list[Rate], list[Rate], list[Scale]]:
    """False alarms (at 0.5 and 0.8), misses, and the scale."""
    rng = random.Random(seed)
    alarms: list[Rate] = []
    misses: list[Rate] = []
    for kind, (maker, noise) in HARMLESS.items():
        corpus = [series(maker(rng), rng, noise) for _ in range(count)]
        ours = [highest(one, leak_score) for one in corpus]
        theirs = [highest(one, regression_score) for one in corpus]
        alarms += [
            Rate(kind, threshold, count, _share(ours, threshold), _share(theirs, threshold))
            for threshold in (WARNING, ALARM)
        ]
    for kind, (maker, noise, threshold) in LEAKS.items():
        corpus = [series(maker(rng), rng, noise) for _ in range(count)]
        ours = [highest(one, leak_score) for one in corpus]
        theirs = [highest(one, regression_score) for one in corpus]
        misses.append(Rate(kind, threshold, count, 1 - _share(ours, threshold), 1 - _share(theirs, threshold)))
    scales = []
    for rate in (5.0, 10.0, 20.0, 30.0, 50.0):
        found = sorted(leak_score(series(leak(rate), rng, 0.3, WINDOW)) for _ in range(count))
        at = [found[int(q * (count - 1))] for q in (0.05, 0.5, 0.95)]
        scales.append(Scale(rate, on_scale(rate), *at))
    return alarms, misses, scales


def judge_alert(count: int, seed: int) -> list[tuple[str, float, bool]]:
    """For each kind the share of series in which the alert fires, and whether it should."""
    rng = random.Random(seed)
    kinds: list[tuple[str, Maker, float, bool]] = [
        *((kind, maker, noise, False) for kind, (maker, noise) in HARMLESS.items()),
        *((kind, maker, noise, True) for kind, (maker, noise, threshold) in LEAKS.items() if threshold == ALARM),
        *((kind, maker, noise, True) for kind, (maker, noise) in STEPPED.items()),
    ]
    return [
        (kind, sum(alert_fires(series(maker(rng), rng, noise, DEPLOYED_SAMPLES)) for _ in range(count)) / count, leaks)
        for kind, maker, noise, leaks in kinds
    ]


def _share(scores: Sequence[float], threshold: float) -> float:
    return sum(score >= threshold for score in scores) / len(scores)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=200, help="series of each kind")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, help="also write the rates here")
    arguments = parser.parse_args()
    alarms, misses, scales = judge(arguments.series, arguments.seed)
    lines = [f"{arguments.series} series of three hours of each kind, seed {arguments.seed}", ""]
    lines += [f"{'false alarms':36} {'at':>4} {'this score':>11} {'regression':>11}"]
    lines += [f"{r.kind:36} {r.threshold:4} {r.wrong:11.1%} {r.regression_wrong:11.1%}" for r in alarms]
    lines += ["", f"{'misses':36} {'at':>4} {'this score':>11} {'regression':>11}"]
    lines += [f"{r.kind:36} {r.threshold:4} {r.wrong:11.1%} {r.regression_wrong:11.1%}" for r in misses]
    lines += ["", f"{'steady leak, one window':36} {'scale':>6} {'p5':>6} {'p50':>6} {'p95':>6}"]
    lines += [
        f"{s.megabytes_per_hour:>10.0f} MB/h{'':21} {s.expected:6.2f} {s.low:6.2f} {s.middle:6.2f} {s.high:6.2f}"
        for s in scales
    ]
    print("\n".join(lines))  # noqa: T201 - the command's output
    fired = judge_alert(max(1, arguments.series // 4), arguments.seed)
    print(f"\nthe alert as deployed, {max(1, arguments.series // 4)} series of six hours of each kind")  # noqa: T201
    for kind, share, leaks in fired:
        print(f"{kind:36} {'missed' if leaks else 'false alarms':>13} {1 - share if leaks else share:7.1%}")  # noqa: T201
    if arguments.json:
        parts: dict[str, Sequence[Rate | Scale]] = {"false_alarms": alarms, "misses": misses, "scale": scales}
        arguments.json.write_text(
            json.dumps(
                {name: [asdict(one) for one in found] for name, found in parts.items()}
                | {"alert": [{"kind": kind, "fires": share, "leak": leaks} for kind, share, leaks in fired]},
                indent=1,
            )
            + "\n",
            encoding="utf-8",
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
