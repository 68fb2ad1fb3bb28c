"""Families of simulated memory series with a known leak, on which the error rates of the verdict are measured.

A family is one choice for each ingredient: shape of the leak, warm-up, noise, daily wave, load, quantisation, spikes.
The *named* families are those in which earlier methods were wrong. The *drawn* ones come from seeds whose families
were known while the method was chosen. The *held-out* ones come from a seed that was drawn after the method's last
change and measured once. Times are parts of the run, sizes are parts of the limit: one family serves every plan; the
sizes in the names are those of the 24 h plan (limit 50 MB).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ingest_ops.soak.load_courses import LASTING, RETURNING, autocorrelated, busy, course
from ingest_ops.soak.plan import Plan

Array = NDArray[np.float64]
Random = np.random.Generator
Noise = Callable[[Random, int], Array]
"""``count`` values in MB, one each ``sample_seconds``."""

UNIT = 50.0
"""Sizes below are in MB of a plan whose limit this is."""
BASE_MB = 70.0
RATE = 2000.0
USED = {0xB008D38D: 40, 0xE921C08A: 40}
"""Seeds and numbers of the drawn families. Both were held out once. 0xB008D38D found a family with 1.2 %
false PASS in 12 h, a leak in the last hour while the memory falls, and the method was changed for it."""
USED_WITH_LOADS = {17: 40, 0x3D847B7E: 40}
"""The same of families whose load takes any course: the earlier ones had none that rises or falls and stays."""
HELD_OUT = 0x4624007E
"""Seed of the held-out families: the begin of the Git hash of ``common/growth.py``, so that it was not chosen. A change
of the method needs a new one; ``test_calibration.py`` compares them."""
LEAST_PROMISE = 3600.0
"""Seconds: shorter plans promise no error rates."""
NAMED, DRAWN, UNSEEN = "named", "drawn", "held-out"


@dataclass(frozen=True, kw_only=True)
class Family:
    """One composition. ``x`` below is the time as a part of the run, 0 to 1."""

    name: str = ""
    half: str = NAMED
    trend: str = "linear"
    """linear, late, late2 (the last 12th), load (a third of the run), exponential, bursts, accelerating, step (at a
    random time), last minutes (a step four samples before the end), while load rises, while load falls, by messages."""
    warm_up: tuple[float, float] = (15.0, 0.005)
    """MB, and the time constant as a part of the run."""
    noise: str = "recorded"
    noise_mb: float = 0.5
    noise_memory: float = 0.04
    """How long autocorrelated noise remembers, or the longest period of a saw-tooth, as a part of the run."""
    wave_mb: float = 0.0
    """Peak to peak of a wave with the run as its period (a day)."""
    wave_of_load: bool = False
    """Whether that wave is the load's, and the memory follows it."""
    load: str = "constant"
    """constant, daily, working hours, noisy, or one of ``LASTING`` and ``RETURNING``."""
    follows_mb: float = 0.0
    """What the memory gains from the lowest load to the highest, and loses again."""
    quantum_mb: float = 0.0
    jitter_mb: float = 0.0
    """White noise on top of the steps: without it every sample lies exactly on one."""
    drop_mb: float = 0.0
    """What the memory loses at a random time, for another reason than the load."""
    decay: tuple[float, float] = (0.0, 1.0)
    """MB that the memory begins with and loses, and the time constant as a part of the run."""
    keeps_mb: float = 0.0
    """What an allocator keeps of the highest load so far, from the lowest load to the highest."""
    spike_mb: float = 0.0
    """A back-fill spike at a random time that decays over a quarter of the run."""
    plans: tuple[str, ...] = ()
    """The plans that it is made for; empty for all."""
    beyond: bool = False
    """Beyond what a smoke test can know, whatever its ingredients say."""

    def applies(self, plan: Plan) -> bool:
        """Whether the plan is measured on it."""
        return not self.plans or plan.name in self.plans

    def promised(self, plan: Plan) -> bool:
        """Whether the promised rates cover it.

        A smoke test cannot tell a swing longer than its window from a leak; minutes find a flood only.
        """
        if plan.run_seconds < LEAST_PROMISE:
            return False
        # An hour cannot tell what goes on to fall from what grows.
        return not (plan.smoke and (self.wave_mb or self.beyond or self.decay[0]))

    def describe(self) -> str:
        """The ingredients that differ from the plain family."""
        warm = f"warm-up {self.warm_up[0]:.0f} MB/{24 * self.warm_up[1]:.1f} h"
        noise = f"{self.noise} noise"
        if self.noise != "recorded":
            noise += f" {self.noise_mb:.1f} MB"
            noise += "" if self.noise == "white" else f"/{24 * self.noise_memory:.1f} h"
        parts = [self.trend, warm, noise]
        if self.wave_mb:
            parts.append(f"wave {self.wave_mb:.0f} MB{' with the load' if self.wave_of_load else ''}")
        if self.load != "constant" and not self.wave_of_load:
            parts.append(f"load: {self.load}")
        if self.follows_mb:
            parts.append(f"memory follows it by {self.follows_mb:.0f} MB")
        if self.quantum_mb:
            parts.append(f"steps of {self.quantum_mb:.0f} MB{', jitter' if self.jitter_mb else ''}")
        if self.drop_mb:
            parts.append(f"a drop of {self.drop_mb:.0f} MB")
        if self.decay[0]:
            parts.append(f"{self.decay[0]:.0f} MB that decay over {24 * self.decay[1]:.0f} h")
        if self.keeps_mb:
            parts.append(f"keeps {self.keeps_mb:.0f} MB of the highest load")
        if self.spike_mb:
            parts.append(f"spike {self.spike_mb:.0f} MB")
        return ", ".join(parts)


@dataclass(frozen=True)
class Series:
    """One simulated soak: MB and messages per second at each sample, and what truly happened."""

    sizes: Array
    load: Array
    leak_mb: float
    judged_leak_mb: float
    """What the leak adds after the time that the plan leaves out, extrapolated to the required time, at most
    ``leak_mb``."""
    residual_warm_up_mb: float
    """What the warm-up still adds after the time that the plan leaves out."""


def named() -> tuple[Family, ...]:
    """The families that earlier methods judged wrongly, and the plain one."""
    quiet = Family(noise="white", noise_mb=0.5)
    correlated = replace(quiet, noise="autocorrelated", noise_mb=10.0, noise_memory=0.25)
    walk = replace(quiet, noise="random walk", noise_mb=20.0)
    load_wave = replace(quiet, wave_of_load=True, load="daily")
    back_fill = replace(quiet, spike_mb=200.0)
    families = {
        "recorded soak": Family(),
        "white noise": quiet,
        "daily wave 20 MB": replace(quiet, wave_mb=20.0),
        "daily wave 30 MB": replace(quiet, wave_mb=30.0),
        "daily wave 60 MB": replace(quiet, wave_mb=60.0),
        "memory follows the load, 30 MB": replace(load_wave, wave_mb=30.0),
        "memory follows the load, 60 MB": replace(load_wave, wave_mb=60.0),
        "warm-up 100 MB, 6 h": replace(quiet, warm_up=(100.0, 0.25)),
        "warm-up 100 MB, 12 h": replace(quiet, warm_up=(100.0, 0.5)),
        "noise 10 MB that remembers 6 h": correlated,
        "random walk 20 MB": walk,
        "late, from 18 h on": replace(quiet, trend="late"),
        "in the last two hours": replace(quiet, trend="late2"),
        "under load only, 8 of 24 h": replace(quiet, trend="load", load="working hours"),
        "exponential, e-fold 3 h": replace(quiet, trend="exponential"),
        "linear and a back-fill spike of 200 MB": back_fill,
        "late and a back-fill spike of 200 MB": replace(back_fill, trend="late"),
        "in four bursts": replace(quiet, trend="bursts"),
        "RSS in steps of 16 MB": replace(quiet, quantum_mb=16.0),
        "RSS in steps of 8 MB, wandering": replace(
            quiet, noise="autocorrelated", noise_mb=2.0, quantum_mb=8.0
        ),
        "saw-tooth 30 MB, up to 20 min": replace(quiet, noise="saw-tooth", noise_mb=30.0, noise_memory=20 / 1440),
        "saw-tooth 30 MB, up to 3 h": replace(quiet, noise="saw-tooth", noise_mb=30.0, noise_memory=180 / 1440),
    }  # fmt: skip
    return (
        *(replace(family, name=name) for name, family in {**families, **_loads(quiet), **_others(quiet)}.items()),
        *_hours(quiet),
    )


def _loads(quiet: Family) -> dict[str, Family]:
    """Loads that rise or fall and stay, with leaks that they could explain or hide; and steps near the end."""
    late = replace(quiet, trend="late")
    families = {f"late, load: {load}": replace(late, load=load) for load in LASTING}
    families |= {f"while the load rises, load: {load}": replace(quiet, trend="while load rises", load=load)
                 for load in (*LASTING, *RETURNING, "daily", "noisy")}  # fmt: skip
    families |= {f"while the load falls, memory follows it, load: {load}": replace(
                 quiet, trend="while load falls", load=load, follows_mb=60.0)
                 for load in ("falls", "step down", "peak", "on and off", "rising wave")}  # fmt: skip
    families |= {f"memory follows the load by 60 MB, load: {load}": replace(quiet, load=load, follows_mb=60.0)
                 for load in (*LASTING, *RETURNING, "noisy")}  # fmt: skip
    return families | {
        "by messages, load: rises": replace(quiet, trend="by messages", load="rises"),
        "one step, load: step": replace(quiet, trend="step", load="step"),
        "one step at a random time": replace(quiet, trend="step"),
        "a step in the last four samples": replace(quiet, trend="last minutes"),
    }


def _others(quiet: Family) -> dict[str, Family]:
    """Steps with jitter, memory that falls for another reason than the load, and what an allocator keeps."""
    late = replace(quiet, trend="late")
    families = {
        f"RSS in steps of {step} MB, jitter, {trend}": replace(
            quiet, trend=trend, quantum_mb=float(step), jitter_mb=0.05, noise_mb=0.0
        )
        for step in (16, 32, 48)
        for trend in ("linear", "late2")
    }
    families |= {
        f"a drop of {drop} MB, {one.trend}": replace(one, drop_mb=float(drop))
        for drop in (20, 40)
        for one in (quiet, late)
    }
    families |= {
        f"{size} MB that decay over {24 * over:.0f} h": replace(quiet, decay=(float(size), over))
        for size, over in ((100, 0.5), (300, 0.5), (100, 1.0), (300, 1.0))
    }
    return families | {
        f"RSS keeps {size} MB of the highest load: {load}": replace(quiet, load=load, keeps_mb=float(size))
        for size in (60, 100)
        for load in ("peak", "working hours", "partial return", "daily")
    }


def _hours(quiet: Family) -> tuple[Family, ...]:
    """Families of one hour whose true sizes do not shrink with its limit (times 5 here)."""
    wandering = replace(quiet, noise="autocorrelated", noise_mb=10.0, noise_memory=0.1)
    teeth = replace(quiet, noise="saw-tooth", noise_mb=150.0)
    families = {
        "1 h: noise 2 MB that remembers 6 min": wandering,
        "1 h: RSS in steps of 8 MB": replace(quiet, quantum_mb=40.0),
        "1 h: warm-up 40 MB, 20 min": replace(quiet, warm_up=(200.0, 1 / 3)),
        "1 h: warm-up 40 MB, 30 min": replace(quiet, warm_up=(200.0, 0.5)),
        "1 h: saw-tooth 30 MB, up to 20 min": replace(teeth, noise_memory=1 / 3),
        "1 h: warm-up 40 MB, 60 min": replace(quiet, warm_up=(200.0, 1.0), beyond=True),
        "1 h: saw-tooth 30 MB, up to 3 h": replace(teeth, noise_memory=3.0, beyond=True),
    }
    return tuple(replace(family, name=name, plans=("1h",)) for name, family in families.items())


def drawn(seed: int, count: int, half: str, *, loads: bool = True) -> tuple[Family, ...]:
    """``count`` compositions: the same seed gives the same families. ``loads``: also loads of any course."""
    random, courses = np.random.default_rng(seed), np.random.default_rng([seed, 1])

    def pick(*choices: tuple[str, float]) -> str:
        weights = np.array([weight for _, weight in choices])
        return choices[int(random.choice(len(choices), p=weights / weights.sum()))][0]

    found = []
    for _ in range(count):
        trend = pick(
            ("linear", 3), ("late", 1.5), ("late2", 0.5), ("load", 1), ("exponential", 1), ("bursts", 1),
            ("accelerating", 1),
        )  # fmt: skip
        long_warm_up = random.random() < 0.3
        warm_up = (
            (random.uniform(30, 100), random.uniform(0.1, 0.5)) if long_warm_up else (random.uniform(0, 30), 0.005)
        )
        noise = pick(("recorded", 1), ("white", 1), ("autocorrelated", 2), ("random walk", 1), ("saw-tooth", 1.5))
        size = {"white": (0.2, 3), "autocorrelated": (1, 12), "random walk": (2, 25), "saw-tooth": (5, 35)}
        wave = random.random() < 0.35
        follows = wave and random.random() < 0.5
        family = Family(
            half=half,
            trend=trend,
            warm_up=warm_up,
            noise=noise,
            noise_mb=random.uniform(*size.get(noise, (0.5, 0.5))),
            noise_memory=float(np.exp(random.uniform(np.log(0.004), np.log(0.125 if noise == "saw-tooth" else 0.3)))),
            wave_mb=random.uniform(10, 60) if wave else 0.0,
            wave_of_load=follows,
            load="daily" if follows else pick(("constant", 2), ("daily", 1), ("working hours", 1), ("noisy", 1)),
            quantum_mb=float(random.choice([0, 0, 0, 1, 4, 8, 16])),
            spike_mb=random.uniform(50, 250) if random.random() < 0.25 else 0.0,
        )
        if loads:
            family = _any_load(family, courses)
        found.append(replace(family, name=family.describe()))
    return tuple(found)


def _any_load(family: Family, random: Random) -> Family:
    """Two of three with a load of any course, half of them with memory that follows it, a third with such a leak."""
    if random.random() < 1 / 3:
        return family
    load = str(random.choice([*LASTING, *RETURNING, "noisy", "daily"]))
    family = replace(family, load=load, wave_of_load=False)
    if random.random() < 0.5:
        family = replace(family, follows_mb=random.uniform(10, 100))
    if random.random() < 1 / 3:
        family = replace(family, trend=str(random.choice(["while load rises", "while load falls", "by messages"])))
    return replace(family, trend="step") if random.random() < 0.15 else family


def families() -> tuple[Family, ...]:
    """Named, drawn and held-out ones."""
    known = [family for seed, count in USED.items() for family in drawn(seed, count, DRAWN, loads=False)]
    known += [family for seed, count in USED_WITH_LOADS.items() for family in drawn(seed, count, DRAWN)]
    return (*named(), *known, *drawn(HELD_OUT, 40, UNSEEN))


def series(family: Family, plan: Plan, leak_mb: float, recorded: Noise | None, random: Random) -> Series:
    """One simulated soak of ``family`` in which the leak adds ``leak_mb`` over the run."""
    count = plan.expected_samples
    x = np.linspace(0.0, 1.0, count)
    unit = plan.growth_mb / UNIT
    phase = random.uniform(0, 1)
    shape_of_load = course(family.load, x, phase, random)
    load = RATE * shape_of_load * (1.0 + (0.0 if family.load == "noisy" else 0.02) * random.normal(size=count))
    warm_mb, constant = family.warm_up[0] * unit, family.warm_up[1]
    sizes = BASE_MB + warm_mb * (1.0 - np.exp(-x / constant))
    shape = _leak(family.trend, x, phase, shape_of_load, random)
    sizes += leak_mb * shape
    if family.follows_mb and (swing := float(np.ptp(shape_of_load))):
        sizes += unit * family.follows_mb * (shape_of_load - shape_of_load.min()) / swing
    if family.wave_mb:
        sizes += unit * family.wave_mb * (0.5 + 0.5 * np.sin(2 * np.pi * (x + phase)))
    sizes += _noise(family, x, unit, recorded, random)
    if family.spike_mb:
        after = x - random.uniform(0.0, 0.95)
        sizes += np.where(after >= 0, unit * family.spike_mb * np.exp(-np.maximum(after, 0) / 0.08), 0.0)
    sizes += _beside(family, x, unit, shape_of_load, random)
    if quantum := family.quantum_mb * unit:
        sizes = np.floor(sizes / quantum) * quantum
    if family.jitter_mb:
        sizes += random.normal(0.0, unit * family.jitter_mb, count)
    # A level needs two samples: what grows before them is before the first level.
    left = (plan.warm_up_seconds + 2 * plan.sample_seconds) / plan.required_seconds
    residual = warm_mb * float(np.exp(-left / constant) - np.exp(-1.0 / constant))
    share = float(1.0 - np.interp(left, x, shape)) / (1.0 - left)
    return Series(sizes, load, leak_mb, leak_mb * min(1.0, share), residual)


def _beside(family: Family, x: Array, unit: float, load: Array, random: Random) -> Array:
    """What the memory does for other reasons than leak, noise and load: it falls, or keeps what the load needed."""
    found = np.zeros(len(x))
    if family.drop_mb:
        found -= unit * family.drop_mb * (x >= random.uniform(0.1, 0.95))
    if family.decay[0]:
        found += unit * family.decay[0] * np.exp(-x / family.decay[1])
    if family.keeps_mb and (swing := float(np.ptp(load))):
        found += unit * family.keeps_mb * np.maximum.accumulate(load - load.min()) / swing
    return found


def _leak(trend: str, x: Array, phase: float, load: Array, random: Random) -> Array:
    """The leak's shape: from 0 at the begin of the run to 1 at its end."""
    match trend:
        case "late":
            return np.maximum(0.0, x - 0.75) / 0.25
        case "late2":
            return np.maximum(0.0, x - 11 / 12) * 12
        case "load":
            return np.clip((x - busy(phase)) * 3.0, 0.0, 1.0)
        case "exponential":
            grown: Array = (np.exp((x - 1.0) * 8.0) - np.exp(-8.0)) / (1.0 - np.exp(-8.0))
            return grown
        case "bursts":
            at = np.sort(random.uniform(0.05, 0.95, 4))
            return np.asarray((x[:, None] >= at).sum(axis=1) / 4.0, dtype=np.float64)
        case "accelerating":
            return x * x
        case "step":
            return np.where(x >= random.uniform(0.1, 0.95), 1.0, 0.0)
        case "last minutes":
            return np.where(np.arange(len(x)) >= len(x) - 4, 1.0, 0.0)
        case "while load rises":
            return _summed(np.maximum(np.diff(load), 0.0), x)
        case "while load falls":
            return _summed(np.maximum(-np.diff(load), 0.0), x)
        case "by messages":
            return _summed(load[1:], x)
        case _:
            return x


def _summed(parts: Array, x: Array) -> Array:
    """Their running sum from 0 to 1; a line if there is nothing to add up."""
    total = np.concatenate([[0.0], np.cumsum(parts)])
    return np.asarray(total / total[-1], dtype=np.float64) if total[-1] > 0 else x


def _noise(family: Family, x: Array, unit: float, recorded: Noise | None, random: Random) -> Array:
    count = len(x)
    if family.noise == "recorded" and recorded is not None:
        return recorded(random, count)
    size = unit * family.noise_mb
    match family.noise:
        case "autocorrelated":
            return size * autocorrelated(random, count, family.noise_memory * count)
        case "random walk":
            return np.cumsum(random.normal(0.0, size / count**0.5, count))
        case "saw-tooth":
            period = random.uniform(0.25, 1.0) * family.noise_memory
            teeth = ((x + random.uniform(0, 1)) % period) / period
            return size * teeth + random.normal(0.0, 0.5 * unit, count)
        case _:
            return random.normal(0.0, size, count)
