"""What an example is: its name, the kind of trouble, the right value, and the function that plays it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.campaigns.field.environment import Environment, audited
from tests.harness.stack import Stack

Play = Callable[[Environment], str]
"""Plays one example; returns what was observed. Raises ``WrongOutcome`` if that is not the right value."""


class WrongOutcome(AssertionError):
    """The product did something else than the right value; the text says what."""


class NotPlayable(Exception):
    """A part that the example needs is missing here; the text says which."""


@dataclass(frozen=True)
class Example:
    """One example of a kind of trouble."""

    name: str
    """Section and number, e.g. ``A.1``; the part before the dot is what ``ONLY`` chooses by."""
    kind: str
    right: str
    play: Play
    quick: bool
    """Takes seconds: part of the suite."""

    @property
    def section(self) -> str:
        """The entry that it belongs to."""
        return self.name.partition(".")[0]


EXAMPLES: dict[str, Example] = {}


def example(name: str, kind: str, right: str, *, quick: bool = False) -> Callable[[Play], Play]:
    """Register a function as an example."""

    def register(play: Play) -> Play:
        if name in EXAMPLES:
            raise ValueError(f"example {name} is defined twice")
        EXAMPLES[name] = Example(name, kind, right, play, quick)
        return play

    return register


def cases(prefix: str, kind: str, right: str, plays: Iterable[Play], *, quick: bool = False) -> None:
    """Register variations of one example as ``prefix``1, ``prefix``2 and so on."""
    for number, play in enumerate(plays, 1):
        example(f"{prefix}{number}", kind, right, quick=quick)(play)


def require(condition: object, wrong: str) -> None:
    """Raise ``WrongOutcome`` unless the condition holds."""
    if not condition:
        raise WrongOutcome(wrong)


def clean(stack: Stack, *options: str) -> str:
    """Stop the market, audit once the last trade is in Kafka, and return "audit PASS". Raises ``WrongOutcome``."""
    code, report = audited(stack, *options)
    require(code == 0, f"{report['verdict']}: {report['reason']}")
    return f"audit {report['verdict']}"
