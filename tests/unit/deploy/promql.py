"""Which series a PromQL expression selects, by which labels: enough of the language for our own expressions."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

WORDS = frozenset(
    {
        "abs",
        "sum",
        "min",
        "max",
        "avg",
        "count",
        "by",
        "on",
        "and",
        "or",
        "unless",
        "bool",
        "without",
        "ignoring",
        "absent",
    }
    | {"group", "offset", "label_replace"}
    | {"rate", "increase", "deriv", "changes", "time", "timestamp", "vector", "histogram_quantile"}
    | {f"{what}_over_time" for what in ("sum", "min", "max", "avg", "count", "last", "quantile")}
)
_GROUPING = re.compile(r"\b(by|on|ignoring|without)\s*\(([^)]*)\)")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?")
_TEXT = re.compile(r',\s*"[^"]*"')
"""Arguments of ``label_replace``; in a matcher a label comes before the text."""
_RANGE = re.compile(r"\[[^\]]*\]|\boffset \w+")


@dataclass
class Selector:
    """One vector selector: its metric and its matchers (label, operator, value)."""

    metric: str
    matchers: list[tuple[str, str, str]] = field(default_factory=list)


def selectors(expression: str) -> Iterator[Selector]:
    """Every vector selector of an expression."""
    text = _TEXT.sub("", _RANGE.sub("", _GROUPING.sub(" ", expression)))
    for name, matchers in _SELECTOR.findall(text):
        if name not in WORDS and not name.isdigit():
            yield Selector(name, [(label, operator, value) for label, operator, value in _MATCHER.findall(matchers)])


def grouped(expression: str) -> set[str]:
    """The labels that an expression groups or matches by."""
    return {
        label.strip() for _, labels in _GROUPING.findall(expression) for label in labels.split(",") if label.strip()
    }
