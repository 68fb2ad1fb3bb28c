"""A row of the matrix of verdicts."""

from dataclasses import dataclass, field


@dataclass
class Row:
    """One part of the matrix."""

    part: str
    cases: int
    wrong: list[str] = field(default_factory=list)
    note: str = ""
