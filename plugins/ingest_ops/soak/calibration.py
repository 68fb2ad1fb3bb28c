"""Error rates of the memory verdict on series with known truth: ``make soak-calibration``.

Each family of ``families.py`` is judged with leaks of 0 to 4 times the limit by the code that judges a soak. False
PASS: the leak reaches 1.2 times the limit (60 MB in 24 h) and the verdict is PASS. False FAIL: leak and warm-up stay
below the limit, or there is no leak, and the verdict is FAIL. A leak exactly at the limit must not pass, either: its
rate is measured apart. *Recorded* noise is the residual of a real soak of this
service (``noise.json``), cut into blocks and put together at random, so that its size and correlation are kept.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest_ops.common.trend import trend
from ingest_ops.common.verdict import Verdict
from ingest_ops.render.files import write_json
from ingest_ops.soak.error_rates import PROMISE, Cell, FamilyRates, Rates
from ingest_ops.soak.families import Family, Noise, Series, families, series
from ingest_ops.soak.memory import growth_of
from ingest_ops.soak.plan import PLANS, Plan

Array = NDArray[np.float64]

RECORDING = Path(__file__).with_name("noise.json")
"""The resident memory of a real soak of this service: made by the soak test, kept beside the code."""
NOISE_BLOCK = 10
"""Samples to a block of recorded noise."""
SHARES = (0.0, 0.8, 1.0, 1.2, 2.0, 4.0)
"""Planted leaks as parts of the limit: for 24 h 0, 40, 50, 60, 100 and 200 MB."""
LEAK_SHARE = 1.2
"""From here on PASS counts as wrong."""
MOST_DRAWS = 6
"""Series that are drawn for one that is wanted: a leak that ends within the discarded warm-up is none to find."""


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

    Blocks of ten samples are drawn from anywhere in it and put together. Raises ``ValueError`` if it is too short.
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


def judged(plan: Plan, one: Series) -> Verdict:
    """The product's verdict on one simulated soak."""
    at: Array = np.arange(len(one.sizes), dtype=np.float64) * plan.sample_seconds
    found = growth_of(plan, at, one.sizes, one.load)
    return Verdict.INCONCLUSIVE if found is None else found.verdict(plan.growth_mb)[0]


def truth(plan: Plan, one: Series, share: float) -> str:
    """What is known of a series: leak, clean, exactly at the limit, or between them."""
    if share >= LEAK_SHARE:
        # A leak that ends within the discarded warm-up is not growth that this plan can see.
        return "leak" if one.judged_leak_mb >= LEAK_SHARE * plan.growth_mb * 0.999 else "between"
    if share == 1.0:
        return "limit" if one.judged_leak_mb >= plan.growth_mb * 0.999 else "between"
    if share == 0.0 or one.leak_mb + one.residual_warm_up_mb < plan.growth_mb:
        return "clean"
    return "between"


def calibrate(plan: Plan, chosen: Sequence[Family], noise: Noise | None, count: int, seed: int = 1) -> list[Cell]:
    """All planted leaks in all families."""
    return [cell for family in chosen for share in SHARES for cell in _cells(plan, family, share, noise, count, seed)]


def _cells(plan: Plan, family: Family, share: float, noise: Noise | None, count: int, seed: int) -> list[Cell]:
    """One family with one leak: a cell for each truth, that which the leak stands for filled with ``count`` series."""
    random = np.random.default_rng([seed, int(share * 1000), *family.name.encode()])
    counts: dict[str, dict[Verdict, int]] = {}
    wanted = "clean" if share < 1.0 else "limit" if share < LEAK_SHARE else "leak"
    for drawn in range(MOST_DRAWS * count):
        filled = sum(counts.get(wanted, {}).values())
        if drawn >= count and (filled >= count or not filled):
            break
        one = series(family, plan, share * plan.growth_mb, noise, random)
        row = counts.setdefault(truth(plan, one, share), dict.fromkeys(Verdict, 0))
        row[judged(plan, one)] += 1
    return [
        Cell(
            plan=plan.name,
            family=family.name,
            half=family.half,
            promised=family.promised(plan),
            leak_mb=share * plan.growth_mb,
            truth=kind,
            series=sum(row.values()),
            passed=row[Verdict.PASS],
            failed=row[Verdict.FAIL],
            inconclusive=row[Verdict.INCONCLUSIVE],
        )
        for kind, row in sorted(counts.items())
    ]


def table(rates: Rates, plan: Plan) -> str:
    """The rates of one plan as text: a row for each family."""
    mine = rates.of(plan.name)
    least = LEAK_SHARE * plan.growth_mb
    lines = [
        f"{plan.name}: {mine.series} series a cell, limit {plan.growth_mb:g} MB. PASS/FAIL/INCONCLUSIVE in %",
        f"{'':9}{'family':78}{'no leak':>13}{f'{least:g} MB':>13}{'false PASS':>12}{'false FAIL':>12}",
    ]
    for one in mine.families():
        shares = [
            "/".join(f"{100 * n / cell.series:.0f}" for n in (cell.passed, cell.failed, cell.inconclusive))
            for cell in (one.clean, one.least_leak)
        ]
        note = "" if one.kept else "  WRONG" if one.beyond_chance else f"  within chance of {PROMISE:.0%}"
        note = note if one.promised else "  (not promised)"
        lines.append(
            f"{one.half:9}{one.family[:77]:78}{shares[0]:>13}{shares[1]:>13}"
            f"{one.false_pass:>12.2%}{one.false_fail:>12.2%}{note}"
        )
    return "\n".join([*lines, *mine.summary()])


def broken(rates: Rates) -> list[FamilyRates]:
    """The families in which more than the promised share of verdicts is wrong."""
    return [one for one in rates.families() if not one.kept]


def measure(count: int, recording: Path | None, names: Sequence[str], processes: int = 1) -> Rates:
    """The rates of the named plans over all families. Raises ``OSError`` or ``ValueError``."""
    known = Recording.load(recording) if recording is not None else None
    source = "generated" if known is None else f"recorded soak ({known.source}) and generated kinds"
    parts = [(PLANS[name], one, known, count) for name in names for one in families() if one.applies(PLANS[name])]
    if processes == 1:
        return Rates(source, count, [cell for part in parts for cell in _family(part)])
    with ProcessPoolExecutor(processes) as pool:
        return Rates(source, count, [cell for found in pool.map(_family, parts, chunksize=8) for cell in found])


def _family(part: tuple[Plan, Family, Recording | None, int]) -> list[Cell]:
    plan, family, known, count = part
    return calibrate(plan, [family], recorded(known, plan) if known is not None else None, count)


def run(
    count: int,
    recording: Path | None,
    output: Path | None,
    names: Sequence[str] = ("24h", "12h", "1h"),
    processes: int = 1,
) -> tuple[str, bool]:
    """Calibrate: the tables as text, and whether the promise holds. The rates go to ``output`` for the reports."""
    rates = measure(count, recording, names, processes)
    if output is not None:
        write_json(output, rates.as_json(), indent=None)
    wrong = broken(rates)
    parts = [f"Noise: {rates.source}.", *(table(rates, PLANS[name]) for name in names)]
    parts.append(
        f"{len(wrong)} families with more than {PROMISE:.0%} wrong verdicts"
        + (": " + "; ".join(one.family for one in wrong) if wrong else "")
    )
    return "\n\n".join(parts), not wrong
