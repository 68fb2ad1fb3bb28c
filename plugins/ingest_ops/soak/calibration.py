"""How often the soak's memory verdict is wrong: ``make soak-calibration``.

Planted leaks on noise of two origins. *Real*: the residuals of a recorded soak of this service (its report is named on
the command line) are cut into blocks and put together again at random, so that their size and correlation are kept.
*Generated*: kinds of noise that are worse than what was recorded, for the verdict must not depend on good luck.

False PASS: the leak is at or above the limit and the verdict is PASS. False FAIL: it is below and the verdict is FAIL.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest_ops.soak.memory import judge_memory
from ingest_ops.soak.plan import MB, PLANS, Plan
from ingest_ops.soak.samples import Sample
from ingest_ops.soak.trend import trend
from ingest_ops.verdict import Verdict

Array = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Array]
"""``count`` values in MB, one each ``sample_seconds``."""

REAL = "recorded soak"
WARM_UP_MB = 15.0
WARM_UP_CONSTANT = 400.0
NOISE_BLOCK = 10
"""Samples to a block of recorded noise."""


@dataclass(frozen=True)
class Cell:
    """The verdicts on ``series`` soaks with one planted leak on one kind of noise."""

    plan: str
    noise: str
    leak_mb: float
    """Growth planted over the plan's required time."""
    limit_mb: float
    series: int
    passed: int
    failed: int
    inconclusive: int

    @property
    def false_pass(self) -> float | None:
        """Share of PASS where that is wrong; ``None`` below the limit."""
        return self.passed / self.series if self.leak_mb >= self.limit_mb else None

    @property
    def false_fail(self) -> float | None:
        """Share of FAIL where that is wrong; ``None`` at or above the limit."""
        return self.failed / self.series if self.leak_mb < self.limit_mb else None


def white(random: np.random.Generator, count: int) -> Array:
    """Independent noise of 0.5 MB."""
    return random.normal(0.0, 0.5, count)


def wandering(random: np.random.Generator, count: int) -> Array:
    """Noise of 2 MB that forgets in about 50 samples."""
    steps = random.normal(0.0, 2.0 * (1.0 - 0.98**2) ** 0.5, count)
    found = np.empty(count)
    value = float(random.normal(0.0, 2.0))
    for index, step in enumerate(steps):
        found[index] = value
        value = 0.98 * value + step
    return found


def saw_tooth(random: np.random.Generator, count: int) -> Array:
    """Teeth of 30 MB, 5 to 20 samples long: a garbage collector that runs now and then."""
    period, phase = random.uniform(5, 20), random.uniform(0, 20)
    teeth: Array = 30.0 * (((np.arange(count) + phase) % period) / period) + random.normal(0.0, 0.5, count)
    return teeth


def long_teeth(random: np.random.Generator, count: int) -> Array:
    """Teeth of 30 MB, 20 to 180 samples long: the 1 h plan cannot tell their flank from a leak."""
    period, phase = random.uniform(20, 180), random.uniform(0, 180)
    teeth: Array = 30.0 * (((np.arange(count) + phase) % period) / period) + random.normal(0.0, 0.5, count)
    return teeth


GENERATED: dict[str, Noise] = {
    "white, 0.5 MB": white,
    "wandering, 2 MB": wandering,
    "saw-tooth, 30 MB, 5 to 20 min": saw_tooth,
    "saw-tooth, 30 MB, 20 to 180 min": long_teeth,
}


def recorded(samples: Sequence[Sample], started: float, plan: Plan) -> Noise:
    """The noise of a recorded soak: what its resident memory did beside its own trend, after its warm-up.

    Raises ``ValueError`` where fewer than 20 samples are left.
    """
    kept = [one for one in samples if one.at - started >= plan.warm_up_seconds * min(1.0, plan.share) / plan.factor]
    if len(kept) < 2 * NOISE_BLOCK:
        raise ValueError(f"{len(kept)} samples after the warm-up are too few to know the noise")
    x = [one.at - started for one in kept]
    y = [one.values["rss"] / MB for one in kept]
    found = trend(x, y, block=NOISE_BLOCK)
    slope = found.slope if found is not None else 0.0
    residual = np.asarray(y) - slope * np.asarray(x)
    residual = residual - np.median(residual)

    def noise(random: np.random.Generator, count: int) -> Array:
        starts = random.integers(0, len(residual), size=-(-count // NOISE_BLOCK))
        index = (starts[:, None] + np.arange(NOISE_BLOCK)).ravel()[:count] % len(residual)
        drawn: Array = residual[index]
        return drawn

    return noise


def soak(plan: Plan, leak_mb: float, noise: Noise, random: np.random.Generator) -> list[Sample]:
    """The samples of one simulated soak: base, warm-up, leak and noise."""
    count = plan.expected_samples
    at = np.arange(count) * plan.sample_seconds
    warm = WARM_UP_MB * (1.0 - np.exp(-at / WARM_UP_CONSTANT))
    sizes = 70.0 + warm + leak_mb * at / plan.run_seconds + noise(random, count)
    return [Sample(float(second), {"rss": float(size) * MB}) for second, size in zip(at, sizes, strict=True)]


def cell(plan: Plan, kind: str, noise: Noise, leak_mb: float, series: int, seed: int) -> Cell:
    """Judge ``series`` soaks."""
    random = np.random.default_rng([seed, int(leak_mb * 1000), len(kind)])
    counts = dict.fromkeys(Verdict, 0)
    for _ in range(series):
        counts[judge_memory(plan, 0.0, soak(plan, leak_mb, noise, random)).verdict] += 1
    return Cell(
        plan.name,
        kind,
        leak_mb,
        plan.growth_mb,
        series,
        counts[Verdict.PASS],
        counts[Verdict.FAIL],
        counts[Verdict.INCONCLUSIVE],
    )


SHARES = (0.0, 0.4, 0.8, 1.0, 1.2, 2.0)
"""Planted leaks as parts of the limit: for 24 h 0, 20, 40, 50, 60 and 100 MB."""


def calibrate(plan: Plan, noises: dict[str, Noise], series: int, seed: int = 1) -> list[Cell]:
    """All planted leaks on all kinds of noise."""
    return [
        cell(plan, kind, noise, share * plan.growth_mb, series, seed)
        for kind, noise in noises.items()
        for share in SHARES
    ]


def table(cells: Sequence[Cell]) -> str:
    """The rates as text."""
    lines = [f"{'plan':5}{'noise':34}{'leak MB':>8}{'limit':>7}{'PASS':>8}{'FAIL':>8}{'INCONCL.':>10}  wrong"]
    for one in cells:
        shares = [count / one.series for count in (one.passed, one.failed, one.inconclusive)]
        wrong = one.false_pass if one.false_pass is not None else one.false_fail
        word = "false PASS" if one.false_pass is not None else "false FAIL"
        lines.append(
            f"{one.plan:5}{one.noise:34}{one.leak_mb:8.0f}{one.limit_mb:7.0f}"
            f"{shares[0]:8.1%}{shares[1]:8.1%}{shares[2]:10.1%}  {word} {wrong:.1%}"
        )
    return "\n".join(lines)


def run(series: int, report: Path | None, output: Path | None, names: Sequence[str] = ("24h", "1h")) -> str:
    """Calibrate and return the table; the rates go to ``output`` as JSON, where the report takes them from."""
    noises = dict(GENERATED)
    source = "generated noise only"
    if report is not None:
        data: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        samples = [Sample.from_json(row) for row in data["samples"]["candidate"]]
        start = samples[0].at
        noises = {REAL: recorded(samples, start, Plan.from_json(data["plan"]))} | noises
        source = f"{REAL}: {data['run_id']}"
    cells = [one for name in names for one in calibrate(PLANS[name], noises, series)]
    if output is not None:
        body = {"source": source, "series": series, "cells": [asdict(one) for one in cells]}
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    return f"{series} series of each kind; {source}\n\n{table(cells)}"
