"""What a report consists of: frozen values without any markup."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ingest_ops.common.verdict import Verdict

Tone = Literal["good", "bad", "warn", "info"]
"""How a mark is meant. Each tone has a colour and a shape: no meaning depends on colour alone."""

_HREF = re.compile(r"^(https?://[^\s]+|#[\w.-]+|[\w.-]+(/[\w.-]+)*)$")


@dataclass(frozen=True)
class Link:
    """A link. ``href`` is http(s), a fragment (``#memory``) or a relative path; raises ``ValueError`` otherwise."""

    text: str
    href: str

    def __post_init__(self) -> None:
        if not _HREF.match(self.href) or ".." in self.href.split("/"):
            raise ValueError(f"no link that a report may have: {self.href!r}")


@dataclass(frozen=True)
class Code:
    """Text set in a fixed width: a query, a command, a digest."""

    text: str


@dataclass(frozen=True)
class Judged:
    """A value with its verdict beside it, for the cells of a day-by-check table."""

    verdict: Verdict
    text: str = ""


@dataclass(frozen=True)
class Spark:
    """A small line in a table's cell, its axis fitted to the data; ``limit`` is drawn where it is near the data."""

    points: Sequence[tuple[float, float]]
    limit: float | None = None


Cell = str | int | float | Verdict | Link | Code | Judged | Spark | None
"""What a table's cell or a fact may hold. ``None`` is shown as a dash: no value. Numbers get thousands separators."""


@dataclass(frozen=True)
class Fact:
    """One term and what is known of it."""

    term: str
    value: Cell


@dataclass(frozen=True)
class Facts:
    """A definition list."""

    facts: Sequence[Fact]


@dataclass(frozen=True)
class Text:
    """A paragraph; line breaks are kept where ``code`` is set (a log, a query)."""

    text: str
    code: bool = False


@dataclass(frozen=True)
class Column:
    """A table's column; numeric ones are right-aligned with figures of one width."""

    title: str
    numeric: bool = False


@dataclass(frozen=True)
class Table:
    """A table. The first column names the row and stays in sight when a narrow screen scrolls the rest.

    Raises ``ValueError`` where a row has another length than ``columns``.
    """

    columns: Sequence[str | Column]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    empty: str = "None."
    """Shown in place of a table without rows."""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells for {len(self.columns)} columns: {row!r}")


@dataclass(frozen=True)
class Series:
    """One line of a chart. ``y`` of ``None`` or not finite breaks the line, as does a step in x beyond ``max_gap``."""

    name: str
    points: Sequence[tuple[float, float | None]]
    style: Literal["line", "dashed", "dots"] = "line"


@dataclass(frozen=True)
class Threshold:
    """A horizontal line with its label: a limit."""

    value: float
    label: str


@dataclass(frozen=True)
class Band:
    """An area between two lines, as ``(x, low, high)``: the interval of a trend."""

    name: str
    points: Sequence[tuple[float, float, float]]


@dataclass(frozen=True)
class Span:
    """A stretch of x that is marked on a chart: a hole in the data, a warm-up."""

    start: float
    end: float
    label: str
    tone: Tone = "info"


@dataclass(frozen=True, kw_only=True)
class _ChartOptions:
    unit: str
    series: Sequence[Series]
    thresholds: Sequence[Threshold] = ()
    bands: Sequence[Band] = ()
    spans: Sequence[Span] = ()
    x: Literal["time", "number"] = "time"
    """``time``: x is seconds since 1970, shown in UTC. ``number``: x is a number with the unit ``x_unit``."""
    x_unit: str = ""
    x_range: tuple[float, float] | None = None
    """The axis; without it, the data's own range."""
    from_zero: bool = True
    """Whether the y axis must contain 0. Thresholds are always on it."""
    max_gap: float | None = None
    """A greater distance between two points is a hole: the line is broken there."""
    note: str = ""


@dataclass(frozen=True)
class Chart(_ChartOptions):
    """A line chart. Lines are thinned to 1,440 points each, keeping every slot's lowest and highest value."""

    title: str


@dataclass(frozen=True)
class Event:
    """Something on a lane of the time line, at a moment or up to ``until``."""

    at: float
    label: str
    until: float | None = None
    tone: Tone = "info"
    detail: str = ""


@dataclass(frozen=True)
class Lane:
    """The events of one kind. An empty lane is shown, too: nothing happened is also a statement."""

    name: str
    events: Sequence[Event] = ()


@dataclass(frozen=True)
class Timeline:
    """Lanes over one axis of time, and below them the same events as a table."""

    start: float
    end: float
    lanes: Sequence[Lane]
    rows: int = 200
    """Events that the table lists at most; it says how many more there are."""


@dataclass(frozen=True)
class Details:
    """Blocks that are folded away on the screen and open in print."""

    summary: str
    blocks: "Sequence[Block]"


Block = Facts | Text | Table | Chart | Timeline | Details


@dataclass(frozen=True)
class Section:
    """A heading with its blocks. ``id`` is made from the title where it is not given."""

    title: str
    blocks: Sequence[Block] = ()
    verdict: Verdict | None = None
    id: str = ""

    @property
    def anchor(self) -> str:
        """What a link's ``#`` may name."""
        return self.id or re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report. ``verdict`` is ``None`` only where nothing is judged (a benchmark)."""

    kind: str
    title: str
    verdict: Verdict | None
    summary: str
    """One sentence: what the verdict rests on, or the first reason why it is not PASS."""
    coverage: Sequence[Fact] = ()
    """How much of the data there should be was seen. Shown beside the verdict, before anything else."""
    reasons: Sequence[str] = ()
    """Why the verdict is not PASS, one line each."""
    sections: Sequence[Section] = ()
    facts: Sequence[Fact] = ()
    """Provenance: versions, digests, addresses, the command. Shown last."""
    generated_at: str = ""
    """When it was made, RFC 3339 UTC: the only text that may differ between two runs over the same data."""
    label: str = ""
    """A short mark beside the verdict where the verdict alone could mislead: "trial", "compressed 24x", "example"."""
    links: Sequence[Link] = field(default=())
