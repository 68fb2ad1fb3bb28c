"""The three answers of every check: yes, no, and that it cannot be known."""

from enum import StrEnum


class Verdict(StrEnum):
    """Missing data is INCONCLUSIVE and never a PASS."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
