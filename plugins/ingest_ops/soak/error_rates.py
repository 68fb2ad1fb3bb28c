"""How often the verdict is wrong, as ``make soak-calibration`` measured it: kept beside the code, shown in reports."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RATES = Path(__file__).with_name("calibration.json")
"""The committed rates: made again whenever the method or the noise changes."""


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

    def as_json(self) -> dict[str, Any]:
        """Plain data, with the two rates."""
        return {**self.__dict__, "false_pass": self.false_pass, "false_fail": self.false_fail}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Cell":
        """The cell of a stored table."""
        return cls(**{name: data[name] for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Rates:
    """All cells, and where the noise came from."""

    source: str
    series: int
    cells: Sequence[Cell]

    def of(self, plan: str) -> "Rates":
        """Those of one plan."""
        return Rates(self.source, self.series, [one for one in self.cells if one.plan == plan])

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
