"""Error rates of the verdict, as ``make soak-calibration`` measured them: kept beside the code, shown in reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import exp, lgamma, log, log1p
from pathlib import Path
from typing import Any

RATES = Path(__file__).with_name("calibration.json")
"""The committed rates: measured again whenever the method or the families change."""
PROMISE = 0.01
"""Highest share of wrong verdicts in any one family."""
AT_LIMIT = 0.02
"""Highest share of PASS in any one family where the growth is exactly the limit."""
CHANCE = 0.001
"""A family may show more wrong verdicts than promised, by chance, in so small a share of measurements."""


CONFIDENCE = 0.95


def upper_bound(wrong: int, series: int) -> float:
    """The highest rate that ``wrong`` of ``series`` verdicts leave possible at 95 % confidence (Clopper-Pearson)."""
    if wrong >= series:
        return 1.0
    low, high = wrong / series, 1.0
    while high - low > 1e-5:
        rate = (low + high) / 2
        chance = sum(_binomial(series, count, rate) for count in range(wrong + 1))
        low, high = (rate, high) if chance > 1 - CONFIDENCE else (low, rate)
    return high


def allowed(series: int, rate: float = PROMISE) -> int:
    """How many wrong verdicts of ``series`` the rate explains but for a chance of one in a thousand."""
    tail, count = 1.0, 0
    while tail > CHANCE:
        tail -= _binomial(series, count, rate)
        count += 1
    return count - 1


def _binomial(series: int, count: int, rate: float) -> float:
    choices = lgamma(series + 1) - lgamma(count + 1) - lgamma(series - count + 1)
    return exp(choices + count * log(rate) + (series - count) * log1p(-rate))


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The verdicts on ``series`` soaks of one family with one planted leak."""

    plan: str
    family: str
    half: str
    """named, drawn (used while the method was chosen) or held-out."""
    promised: bool
    """Whether the promise covers this family in this plan; otherwise its rates are shown only."""
    leak_mb: float
    """Growth planted over the plan's required time."""
    truth: str
    """leak or limit, which is growth of exactly the limit (PASS is wrong), clean (FAIL is wrong), or between."""
    series: int
    passed: int
    failed: int
    inconclusive: int

    @property
    def wrong_count(self) -> int:
        """Wrong verdicts."""
        return {"leak": self.passed, "limit": self.passed, "clean": self.failed}.get(self.truth, 0)

    @property
    def wrong(self) -> float:
        """Share of wrong verdicts."""
        return self.wrong_count / self.series

    @property
    def beyond_chance(self) -> bool:
        """Whether more verdicts are wrong than the promise explains by chance."""
        return self.wrong_count > allowed(self.series, AT_LIMIT if self.truth == "limit" else PROMISE)

    @property
    def wrong_bound(self) -> float:
        """What the share may be at most, with 95 % confidence."""
        return upper_bound(self.wrong_count, self.series)

    def as_json(self) -> dict[str, Any]:
        """Plain data, with the rates that the truth makes wrong."""
        return {
            **self.__dict__,
            "false_pass": self.wrong if self.truth in ("leak", "limit") else None,
            "false_fail": self.wrong if self.truth == "clean" else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Cell":
        """The cell of a stored table."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class FamilyRates:
    """The rates of one family in one plan, over all planted leaks."""

    family: str
    half: str
    promised: bool
    false_pass: float
    """Highest share of PASS over the leaks of 1.2 times the limit and more."""
    false_fail: float
    """Highest share of FAIL over the series that do not reach the limit."""
    at_limit: float
    """Share of PASS where the growth is exactly the limit."""
    beyond_chance: bool
    """Whether a share lies further above the promise than so few series explain."""
    clean: Cell
    """The series without a leak."""
    least_leak: Cell
    """The series with the smallest leak that must never pass."""

    @property
    def kept(self) -> bool:
        """Whether the promise holds."""
        return not self.promised or (max(self.false_pass, self.false_fail) <= PROMISE and self.at_limit <= AT_LIMIT)


KINDS = (("PASS", "leak"), ("FAIL", "clean"), ("PASS exactly at the limit", "limit"))


def _wrong(what: str, cells: Sequence[Cell], truth: str) -> str:
    """The cell with the highest share of wrong verdicts, its bound, and all cells together."""
    mine = [one for one in cells if one.truth == truth]
    if not mine:
        return f"{what} not measured"
    worst = max(mine, key=lambda one: one.wrong)
    mean = sum(one.wrong_count for one in mine) / sum(one.series for one in mine)
    return f"{what} at most {worst.wrong:.2%} (below {worst.wrong_bound:.2%} with 95 % confidence, mean {mean:.2%})"


@dataclass(frozen=True)
class Rates:
    """All cells, and where the recorded noise came from."""

    source: str
    series: int
    cells: Sequence[Cell]

    def of(self, plan: str) -> "Rates":
        """Those of one plan."""
        return Rates(self.source, self.series, [one for one in self.cells if one.plan == plan])

    def families(self) -> list[FamilyRates]:
        """The rates by plan and family, in the order of the cells."""
        found = []
        for (_, name), group in groupby(self.cells, key=lambda one: (one.plan, one.family)):
            cells = list(group)
            leaks = [one for one in cells if one.truth == "leak"]
            found.append(
                FamilyRates(
                    family=name,
                    half=cells[0].half,
                    promised=cells[0].promised,
                    false_pass=max((one.wrong for one in leaks), default=0.0),
                    false_fail=max((one.wrong for one in cells if one.truth == "clean"), default=0.0),
                    at_limit=max((one.wrong for one in cells if one.truth == "limit"), default=0.0),
                    beyond_chance=any(one.beyond_chance for one in cells),
                    clean=cells[0],
                    least_leak=leaks[0] if leaks else cells[-1],
                )
            )
        return found

    def summary(self) -> list[str]:
        """One line for each half: families, highest and mean error rates, share of INCONCLUSIVE."""
        lines = []
        for half in ("named", "drawn", "held-out"):
            mine = [one for one in self.families() if one.half == half and one.promised]
            if not mine:
                continue
            names = {one.family for one in mine}
            cells = [cell for cell in self.cells if cell.family in names]
            wrong = (_wrong(f"false {what}", cells, truth) for what, truth in KINDS)
            inconclusive = sum(one.clean.inconclusive / one.clean.series for one in mine) / len(mine)
            lines.append(
                f"{half}: {len(mine)} families; {', '.join(wrong)}; {sum(not one.kept for one in mine)} families above "
                f"{PROMISE:.0%}; INCONCLUSIVE without a leak {inconclusive:.0%} on average"
            )
        return lines

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"source": self.source, "series": self.series, "cells": [one.as_json() for one in self.cells]}

    @classmethod
    def load(cls, path: Path = RATES) -> "Rates":
        """The stored rates. Raises ``OSError`` or ``ValueError``."""
        data = json.loads(path.read_text(encoding="utf-8"))
        try:
            return cls(data["source"], data["series"], [Cell.from_json(one) for one in data["cells"]])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{path}: no rates: {error!r}") from error
