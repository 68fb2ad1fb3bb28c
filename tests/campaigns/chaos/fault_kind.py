"""What a fault is, and those that are the simulator's."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.campaigns.chaos.environment import ChaosEnvironment

Undo = Callable[[], None]
Act = Callable[[ChaosEnvironment, dict[str, Any]], Undo | None]
"""Does it; returns what takes it back, where it lasts. None from a fault that found nothing to strike is no fault."""


@dataclass(frozen=True)
class Fault:
    """One kind of fault."""

    name: str
    row: int
    """Of the fault table; 0 for what it does not list."""
    act: Act
    weight: float
    seconds: tuple[float, float] = (0.0, 0.0)
    """How long it lasts, where it lasts."""
    draw: Callable[[random.Random], dict[str, Any]] = lambda _: {}
    after_end: bool = False
    """Recovery is measured from its end: nothing can be committed before."""
    group: str = ""
    """Of a group the next fault waits until the last one is over and something was committed since: what never gets
    to its feet between two blows proves nothing. Faults of different groups do overlap."""


class NothingToStrike(Exception):
    """The env is in no state for this fault: it is tried again a moment later."""


class NeverHere(Exception):
    """What this machine cannot do is left out."""


def ignore(_: object) -> None:
    """Make an undo of something that answers."""


def simulated(kind: str) -> Act:
    def act(env: ChaosEnvironment, options: dict[str, Any]) -> None:
        env.stack.simulator.fault(kind, **options)

    return act


def undone(kind: str, back: dict[str, Any]) -> Act:
    def act(env: ChaosEnvironment, options: dict[str, Any]) -> Undo:
        env.stack.simulator.fault(kind, **options)
        return lambda: ignore(env.stack.simulator.fault(kind, **back))

    return act
