"""What a day should show, from the other days: a shard or a symbol that is gone all day cannot be missed in it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ingest_ops.validation.day import Day


@dataclass(frozen=True)
class Expected:
    """The shards that were seen in any day, and for each symbol the most messages that any day had."""

    shards: tuple[str, ...] = ()
    symbols: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, days: Iterable[Day], shards: Iterable[str] = ()) -> "Expected":
        """From the days of the window and those before it; ``shards`` are named by the settings."""
        seen, most = set(shards), dict[str, int]()
        for day in days:
            seen |= {one.labels["shard"] for one in day.series if one.labels.get("shard")}
            for symbol, counts in day.symbols.items():
                most[symbol] = max(most.get(symbol, 0), counts.get("received", 0))
        return cls(tuple(sorted(seen)), most)
