"""What a day should show, from the other days: a shard or a symbol that is gone all day cannot be missed in it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ingest_ops.validation.day import Day
from ingest_ops.validation.exchange_counts import COUNT


@dataclass(frozen=True)
class Expected:
    """The shards that were seen in any day, and for each symbol the most messages that any day had.

    ``exchange``: whether the exchange's own counts are there in any day, or are asked for by the settings.
    """

    shards: tuple[str, ...] = ()
    symbols: Mapping[str, int] = field(default_factory=dict)
    exchange: bool = False

    @classmethod
    def of(
        cls, days: Iterable[Day], shards: Iterable[str] = (), symbols: Iterable[str] = (), *, exchange: bool = False
    ) -> "Expected":
        """From the days of the window and those before it; ``shards`` and ``symbols`` are named by the settings."""
        seen, most = set(shards), dict.fromkeys(symbols, 0)
        for day in days:
            seen |= {one.labels["shard"] for one in day.series if one.labels.get("shard")}
            for symbol, counts in day.symbols.items():
                most[symbol] = max(most.get(symbol, 0), counts.get("received", 0))
                exchange |= COUNT in counts
        return cls(tuple(sorted(seen)), most, exchange)
