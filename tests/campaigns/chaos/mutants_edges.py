"""Planted faults at the edges: what is read from the exchange's history, and how a batch reaches Kafka."""

import itertools
from collections.abc import Sequence
from typing import Any

import msgspec

from ingest.binance.aggregates import Aggregate
from ingest.core.batch import Batch
from ingest.core.trade import Trade
from ingest.kafka import client, transaction_pacing, transactional_writer
from ingest.service import aggregate_source
from ingest.service.numbered_lane import NumberedLane
from ingest.settings import Settings
from tests.campaigns.chaos.mutant_table import Patch, mutant, unguarded

SMALL = 2000
"""Bytes: every batch of the plans is split."""

# --- the exchange ---


@mutant("an aggregate of several trades is taken for its first trade", seeds=0, plan="exchange")
def aggregate_taken_for_a_trade(patch: Patch) -> None:
    def trades(symbol: str, found: Sequence[Aggregate], first_id: int, last_id: int) -> list[Trade]:
        return [
            Trade(symbol, each.first_id, each.price, each.quantity, each.time_us, each.buyer_is_maker)
            for each in found
            if first_id <= each.first_id <= last_id
        ]

    patch(aggregate_source, "trades_from_aggregates", trades)


@mutant("buyer and seller are confused in trades that history gives", seeds=0, plan="exchange")
def history_swaps_sides(patch: Patch) -> None:
    original = NumberedLane.on_history

    def on_history(self: NumberedLane, trades: list[Trade]) -> int:
        return original(
            self, [msgspec.structs.replace(trade, buyer_is_maker=not trade.buyer_is_maker) for trade in trades]
        )

    patch(NumberedLane, "on_history", on_history)


# --- Kafka ---


@mutant("the colours place a symbol by different hashes", seeds=0, plan="takeovers")
def partitioner_by_colour(patch: Patch) -> None:
    original = client.producer

    def producer(settings: Settings, **options: Any) -> dict[str, Any]:
        config = original(settings, **options)
        if settings.service.instance_id == "green":
            config["partitioner"] = "consistent_random"
        return config

    patch(client, "producer", producer)


def _split(patch: Patch, cut: Any) -> None:
    """Split every batch, and change its parts."""
    unguarded(patch)
    original = transaction_pacing.split

    def split(batch: Batch, limit: int) -> list[Batch]:
        parts = original(batch, limit)
        cut(parts)
        return parts

    patch(transactional_writer, "split", split)
    before = transaction_pacing.TransactionSize.__init__

    def begin(self: transaction_pacing.TransactionSize) -> None:
        before(self)
        self.limit = SMALL

    patch(transaction_pacing.TransactionSize, "__init__", begin)
    patch(transaction_pacing.TransactionSize, "committed", lambda _self, _size, _seconds: None)


@mutant("a batch that is split repeats a record at each cut", seeds=0, plan="few")
def parts_overlap(patch: Patch) -> None:
    def cut(parts: list[Batch]) -> None:
        for earlier, later in itertools.pairwise(parts):
            later.records.insert(0, earlier.records[-1])

    _split(patch, cut)


@mutant("a batch that is split loses the last record before each cut", seeds=0, plan="few")
def parts_lose_a_record(patch: Patch) -> None:
    def cut(parts: list[Batch]) -> None:
        for part in parts[:-1]:
            part.records.pop()

    _split(patch, cut)


@mutant("a batch that is split is committed from its end", seeds=0, plan="few")
def parts_in_reverse(patch: Patch) -> None:
    _split(patch, list[Batch].reverse)
