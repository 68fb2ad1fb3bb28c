"""The table of planted faults, and how they are planted."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ingest.core.trade import Position, Void
from ingest.kafka import transactional_writer

Patch = Callable[[Any, str, Any], None]
"""(module or class, attribute, replacement)."""
UNSEEN = ""
"""The plan of what no topic shows: that a symbol halts, where it begins, how often history is asked. The models do."""


@dataclass(frozen=True)
class Mutant:
    """One planted fault."""

    name: str
    breaks: str
    apply: Callable[[Patch], None]
    seeds: int
    """It must be caught within so many seeds of the deterministic tier; 0: it cannot show there."""
    plan: str
    """What it is hunted with first on the real processes, see ``plans``; ``UNSEEN``: with nothing."""
    streams: bool = False
    """Whether it breaks a promise about the streams besides trades: it needs them."""
    first: int = 0
    """The seed to begin with, where few show it."""


MUTANTS: dict[str, Mutant] = {}


def mutant(
    breaks: str, *, seeds: int, plan: str, streams: bool = False, first: int = 0
) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Register a mutant under its function's name."""

    def register(apply: Callable[[Patch], None]) -> Callable[[Patch], None]:
        name = apply.__name__.replace("_", "-")
        MUTANTS[name] = Mutant(name, breaks, apply, seeds, plan, streams, first)
        return apply

    return register


class Applied:
    """Applies a mutant while the context is open."""

    def __init__(self, name: str) -> None:
        self._mutant = MUTANTS[name]
        self._before: list[tuple[Any, str, Any]] = []

    def _patch(self, owner: Any, name: str, value: Any) -> None:
        self._before.append((owner, name, owner.__dict__[name]))
        setattr(owner, name, value)

    def __enter__(self) -> None:
        try:
            self._mutant.apply(self._patch)
        except BaseException:
            self.__exit__()  # half a mutant must not stay behind for the tests that follow
            raise

    def __exit__(self, *_: object) -> None:
        for owner, name, value in reversed(self._before):
            setattr(owner, name, value)


def unguarded(patch: Patch) -> Callable[..., dict[str, Position]]:
    """Positions follow whatever is written; returns what computes them now."""

    def advance(
        before: dict[str, Position],
        records: Iterable[tuple[str, int, bytes]],
        voids: Iterable[Void],
        baselines: dict[str, int],
        last_times_us: Mapping[str, int],
    ) -> dict[str, Position]:
        after: dict[str, Position] = {}

        def known(symbol: str, first_id: int) -> Position:
            return (
                after.get(symbol)
                or before.get(symbol)
                or Position(baselines.get(symbol, first_id), baselines.get(symbol, first_id) - 1, 0)
            )

        def moved(old: Position, symbol: str, last_id: int, count: int) -> None:
            after[symbol] = Position(old.first_id, max(old.last_id, last_id), count, last_times_us.get(symbol))

        for symbol, trade_id, _ in records:
            old = known(symbol, trade_id)
            moved(old, symbol, trade_id, old.count + 1)
        for void in voids:
            old = known(void.symbol, void.first_id)
            moved(old, void.symbol, void.last_id, old.count)
        for symbol, first_id in baselines.items():
            if symbol not in before:
                after.setdefault(symbol, known(symbol, first_id))
        return after

    patch(transactional_writer, "validate_and_advance_positions", advance)
    return advance
