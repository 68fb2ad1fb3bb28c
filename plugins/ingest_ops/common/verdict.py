"""The three answers of every check: yes, no, and that it cannot be known."""

from collections.abc import Collection
from enum import StrEnum


class Verdict(StrEnum):
    """Missing data is INCONCLUSIVE and never a PASS."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


def together(verdicts: Collection[Verdict]) -> Verdict:
    """FAIL if any fails, else INCONCLUSIVE if any is, or if there is none at all, else PASS."""
    if Verdict.FAIL in verdicts:
        return Verdict.FAIL
    return Verdict.INCONCLUSIVE if not verdicts or Verdict.INCONCLUSIVE in verdicts else Verdict.PASS
