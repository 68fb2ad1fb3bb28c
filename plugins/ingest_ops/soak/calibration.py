"""How often the soak's memory verdict is wrong: ``make soak-calibration``.

Planted leaks on noise of two origins. *Real*: the residuals of a recorded soak of this service (``noise.json``) are cut
into blocks and put together again at random, so that their size and correlation are kept. *Generated*: kinds of noise
that are worse than what was recorded, for the verdict must not depend on good luck.

False PASS: the leak is at or above the limit and the verdict is PASS. False FAIL: it is below and the verdict is FAIL.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest_ops.common.trend import trend
from ingest_ops.common.verdict import Verdict
from ingest_ops.render.files import write_json
from ingest_ops.soak.error_rates import Cell, Rates
from ingest_ops.soak.memory import judge_memory
from ingest_ops.soak.plan import MB, PLANS, Plan
from ingest_ops.soak.samples import Sample

Array = NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Array]
"""``count`` values in MB, one each ``sample_seconds``."""

RECORDING = Path(__file__).with_name("noise.json")
"""The resident memory of a real soak of this service: made by the soak test, kept beside the code."""

REAL = "recorded soak"
WARM_UP_MB = 15.0
WARM_UP_CONSTANT = 400.0
NOISE_BLOCK = 10
"""Samples to a block of recorded noise."""


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


@dataclass(frozen=True)
class Recording:
    """The resident memory of a real soak, as finely as it was scraped."""

    source: str
    every_seconds: float
    sizes_mb: Sequence[float]

    @classmethod
    def load(cls, path: Path) -> "Recording":
        """Raises ``OSError`` or ``ValueError``."""
        data = json.loads(path.read_text(encoding="utf-8"))
        try:
            return cls(data["source"], float(data["every_seconds"]), [float(one) for one in data["sizes_mb"]])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: no recording of memory: {error!r}") from error

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"source": self.source, "every_seconds": self.every_seconds, "sizes_mb": list(self.sizes_mb)}


def recorded(recording: Recording, plan: Plan) -> Noise:
    """The noise of a recording: what the memory did beside its own trend, its own warm-up left out.

    Blocks of ten samples are drawn from anywhere in it and put together. Raises ``ValueError`` where it is too short.
    """
    every = recording.every_seconds
    warm_up = int(min(PLANS["1h"].warm_up_seconds / every, len(recording.sizes_mb) / 2))
    kept = np.asarray(recording.sizes_mb[warm_up:])
    step = max(1, round(plan.sample_seconds / every))
    last = len(kept) - NOISE_BLOCK * step
    if last < step:
        raise ValueError(f"{len(kept)} samples after the warm-up are too few to know the noise")
    at = np.arange(len(kept)) * every
    found = trend(at[::step].tolist(), kept[::step].tolist(), block=NOISE_BLOCK)
    residual = kept - (found.slope if found is not None else 0.0) * at
    residual = residual - np.median(residual)

    def noise(random: np.random.Generator, count: int) -> Array:
        starts = random.integers(0, last, size=-(-count // NOISE_BLOCK))
        drawn: Array = residual[(starts[:, None] + np.arange(NOISE_BLOCK) * step).ravel()[:count]]
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
    random = np.random.default_rng([seed, int(leak_mb * 1000), *kind.encode()])
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


def run(
    series: int, recording: Path | None, output: Path | None, names: Sequence[str] = ("24h", "12h", "1h", "3min")
) -> str:
    """Calibrate and return the table; the rates go to ``output``, where the reports take them from."""
    cells: list[Cell] = []
    known = Recording.load(recording) if recording is not None else None
    for name in names:
        plan = PLANS[name]
        real = {} if known is None else {REAL: recorded(known, plan)}
        cells += calibrate(plan, real | GENERATED, series)
    source = "generated alone" if known is None else f"{REAL} ({known.source}), and generated kinds that are worse"
    rates = Rates(source, series, cells)
    if output is not None:
        write_json(output, rates.as_json(), indent=1)
    return f"{series} series of each kind. Noise: {source}.\n\n{table(cells)}"
