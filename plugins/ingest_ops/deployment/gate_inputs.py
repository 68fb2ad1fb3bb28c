"""What a gate reads: each input declares its series and the children that there must be.

Input that is absent, sparse, doubled or relabelled has a ``problem``; a gate with such an input does not pass.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from ingest_ops.deployment.plan import Plan
from ingest_ops.deployment.prometheus import NoAnswer, Queries, Sampled

GAP_SCRAPES = 3.5
"""A longer silence within a window, or at one of its ends, makes an input sparse whatever its number of samples."""
OTHER = "other"
"""The label of the symbols beyond the service's limit of labelled ones."""

Samples = list[tuple[float, float]]


class Children(Enum):
    """Which children an input must have, where that is not a fixed set."""

    SYMBOLS = "the symbols that the predecessor records"
    LIKE_LIVE = "those of the predecessor"


class Window(Enum):
    """From when to when an input is read."""

    STATE = "the state's window"
    BASELINE = "the window in which the predecessor was watched as the writer"


@dataclass(frozen=True, kw_only=True)
class Input:
    """One metric of one slot."""

    metric: str
    slot: str = "candidate"
    """``candidate`` or ``live``."""
    child: str = ""
    """The label by which its children differ; empty for a metric with exactly one series."""
    children: frozenset[str] | Children = frozenset({""})
    least: frozenset[str] = frozenset()
    """With ``LIKE_LIVE``: children that both slots must have. Without them a loss in both slots would go unseen."""
    where: str = ""
    """Further matchers."""
    window: Window = Window.STATE


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What is judged: two slots over a window."""

    plan: Plan
    candidate: str
    live: str
    start: float
    end: float
    baseline: tuple[float, float] | None = None
    symbols: frozenset[str] = frozenset()
    """What the predecessor records; empty where that is not known."""

    def slot(self, name: str) -> str:
        """The slot's colour."""
        return self.candidate if name == "candidate" else self.live

    def span(self, window: Window) -> tuple[float, float] | None:
        """Start and end of a window."""
        return (self.start, self.end) if window is Window.STATE else self.baseline


@dataclass(frozen=True, kw_only=True)
class Read:
    """An input as read. ``children`` holds what is there even where there is a ``problem``."""

    selector: str = ""
    children: Mapping[str, Samples] = field(default_factory=dict)
    expected: int = 0
    """Samples that each child should have."""
    found: int = 0
    """Samples of the child that has fewest."""
    seconds: float = 0.0
    """Length of the window."""
    problem: str = ""
    ambiguous: bool = False
    """Whether the problem is one of identity: then no value can be trusted, not even a bad one."""

    @property
    def one(self) -> Samples:
        """The samples of the only child."""
        return next(iter(self.children.values()), [])


def needed(expected: int, coverage: float) -> int:
    """The samples that must be there. A window's edges may cost one, whatever its length."""
    return max(1, min(math.floor(expected * coverage + 1e-9), expected - 1))


def slot_matchers(plan: Plan, slot: str) -> str:
    """The matchers of one slot's targets: of the plan's shard where there are several."""
    return f'slot="{slot}",shard="{plan.shard}"' if plan.shard else f'slot="{slot}"'


def selector_of(wanted: Input, scope: Scope) -> str:
    """The PromQL selector."""
    matchers = [slot_matchers(scope.plan, scope.slot(wanted.slot)), *([wanted.where] if wanted.where else [])]
    return f"{wanted.metric}{{{','.join(matchers)}}}"


def read(inputs: Mapping[str, Input], scope: Scope, queries: Queries) -> dict[str, Read]:
    """Read the inputs; each ``LIKE_LIVE`` is held against the input of the same metric of the predecessor."""
    order = sorted(inputs, key=lambda name: inputs[name].children is Children.LIKE_LIVE and inputs[name].slot != "live")
    found: dict[str, Read] = {}
    for name in order:
        wanted = inputs[name]
        like = next(
            (
                set(found[other].children)
                for other in found
                if inputs[other].metric == wanted.metric and inputs[other].slot == "live"
            ),
            None,
        )
        found[name] = _read(wanted, scope, queries, like)
    return _with_unlabelled(inputs, scope, found)


def _with_unlabelled(inputs: Mapping[str, Input], scope: Scope, found: dict[str, Read]) -> dict[str, Read]:
    """A symbol may be counted under ``other`` only where all slots have reached the same limit of labels."""
    named = {name: one for name, one in found.items() if inputs[name].children is Children.SYMBOLS}
    full = (
        all(OTHER in one.children for one in named.values()) and len({len(one.children) for one in named.values()}) == 1
    )
    for name, one in named.items():
        missing = scope.symbols - one.children.keys()
        if OTHER in one.children and missing and not full and not one.problem:
            text = f"no data: {inputs[name].metric} of {_some(missing)}, under {OTHER} in one slot alone"
            found[name] = replace(one, problem=text)
    return found


def _read(wanted: Input, scope: Scope, queries: Queries, like: set[str] | None) -> Read:
    selector = selector_of(wanted, scope)
    span = scope.span(wanted.window)
    if span is None:
        return Read(selector=selector, problem="the predecessor has not been watched as the writer")
    start, end = span
    expected = max(0, math.floor((end - start) / scope.plan.scrape_seconds + 1e-6))
    if expected < 1:
        return Read(selector=selector, problem="the window is too short for a sample")
    try:
        series = queries.series(selector, start, end)
    except NoAnswer as error:
        return Read(selector=selector, expected=expected, problem=f"Prometheus does not answer: {error}")
    children, problem, ambiguous = _children(wanted, series, _due(wanted, scope, like))
    found = min((len(samples) for samples in children.values()), default=0)
    if not problem:
        problem = _sparse(wanted, children, expected, scope.plan, start, end)
    return Read(
        selector=selector, children=children, expected=expected, found=found, seconds=end - start,
        problem=problem, ambiguous=ambiguous,
    )  # fmt: skip


def _due(wanted: Input, scope: Scope, like: set[str] | None) -> frozenset[str]:
    """The children that there must be."""
    if isinstance(wanted.children, frozenset):
        return wanted.children
    if wanted.children is Children.SYMBOLS:
        return scope.symbols
    return wanted.least | (like or set())


def _children(wanted: Input, series: Sequence[Sampled], due: frozenset[str]) -> tuple[dict[str, Samples], str, bool]:
    """By child; what is wrong with them; and whether that leaves open which series is which."""
    children: dict[str, Samples] = {}
    for one in series:
        key = one.labels.get(wanted.child, "") if wanted.child else ""
        if key in children:
            return children, f"{len(series)} series of {wanted.metric} where {_number(due)} due", True
        if wanted.child and not key:
            return children, f"a series of {wanted.metric} has no label {wanted.child}", True
        children[key] = [sample for sample in one.samples if not math.isnan(sample[1])]
    if not due:
        return children, f"it is not known which series of {wanted.metric} there must be", False
    missing = due - children.keys()
    if OTHER in children and wanted.children is Children.SYMBOLS:
        missing = frozenset()  # see ``_with_unlabelled``
    if missing or not children:
        names = f" of {_some(missing)}" if missing - {""} else ""
        return children, f"no data: {wanted.metric}{names}", False
    # More symbols or reasons than the predecessor has are no fault: a listing, a new version's reason.
    foreign = children.keys() - due if isinstance(wanted.children, frozenset) else set()
    if foreign:
        return children, f"{wanted.metric} has an unknown {wanted.child}: {_some(foreign)}", False
    return children, "", False


def _sparse(wanted: Input, children: Mapping[str, Samples], expected: int, plan: Plan, start: float, end: float) -> str:
    for key, samples in children.items():
        name = f"{wanted.metric} {key}".strip()
        if len(samples) < needed(expected, plan.min_coverage):
            return f"only {len(samples)} of {expected} samples of {name} are there"
        if len(samples) > expected + 1:
            return f"{len(samples)} samples of {name} where {expected} are due: is it scraped twice?"
        times = [start, *(at for at, _ in samples), end]
        longest = max(after - before for before, after in itertools.pairwise(times))
        if longest > GAP_SCRAPES * plan.scrape_seconds:
            return f"{name} is silent for {longest:.0f} s of the window"
    return ""


def _number(due: frozenset[str]) -> str:
    return "one is" if len(due) == 1 else f"{len(due)} are"


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
