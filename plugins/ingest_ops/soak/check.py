"""One criterion of a soak and its verdict."""

from dataclasses import dataclass
from typing import Any

from ingest_ops.common.verdict import Verdict


@dataclass(frozen=True)
class Check:
    """One criterion and what came out. ``binding``: it counts for the verdict. ``plain``: one of the plain criteria."""

    id: str
    title: str
    criterion: str
    value: float | None
    unit: str
    verdict: Verdict
    reason: str
    binding: bool = True
    plain: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain data for the report."""
        return {**self.__dict__, "verdict": str(self.verdict)}
