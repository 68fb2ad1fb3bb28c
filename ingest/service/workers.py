"""The tasks that need to know the symbols: back-fill, initial positions, checks and listings."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from ingest.binance.feed import Feed
from ingest.binance.history import History
from ingest.binance.server_time import clock_difference
from ingest.binance.stall_detector import StallDetector
from ingest.binance.symbols import Changes, refresh
from ingest.binance.tail_gap_check import TailGapCheck
from ingest.core.void_evidence import VoidLimit
from ingest.kafka.last_records import LastRecords
from ingest.kafka.position_search import RecordSearch
from ingest.metrics import Metrics
from ingest.service.backfill import Backfill
from ingest.service.clock_check import ClockCheck
from ingest.service.halt_check import HaltCheck
from ingest.service.initial_positions import InitialPositions
from ingest.service.pipeline import Pipeline
from ingest.service.position_trust import PositionTrust
from ingest.service.symbol_set import SymbolSet
from ingest.settings import Settings


def symbol_workers(
    settings: Settings,
    metrics: Metrics,
    pipeline: Pipeline,
    history: History,
    feed: Feed,
    symbols: SymbolSet,
    void_limit: VoidLimit,
    group: asyncio.TaskGroup,
    trust: PositionTrust,
    books_missing: Callable[[], bool] = lambda: False,
) -> dict[str, Coroutine[Any, Any, None]]:
    """Build them; returns name -> coroutine. New listings are handled by tasks of ``group``.

    ``books_missing``: whether order books wait for their first snapshot, which may then use the larger share of the
    request weight, too.
    """
    sequencer = pipeline.sequencer

    def on_catch_up(missing: bool) -> None:  # noqa: FBT001 -- of the back-fill's callback
        history.rest.set_catching_up(missing or books_missing())
        history.rest.trades_first = backfill.asking or initial_positions.holding

    def on_last_ids(last_ids: dict[str, int]) -> None:
        for symbol, last_id in last_ids.items():
            sequencer.observe_high_watermark(symbol, last_id, time.monotonic())

    backfill = Backfill(
        pipeline,
        history,
        grace_seconds=settings.binance.gap_grace_seconds,
        confirm_seconds=settings.binance.void_confirm_seconds,
        confirm_replies=settings.binance.void_confirm_replies,
        monotonic=time.monotonic,
        void_limit=void_limit,
        aggregates=history,
        on_catch_up=on_catch_up,
    )
    initial_positions = InitialPositions(
        pipeline,
        history,
        writing=lambda: sequencer.active,
        receiving=feed.receiving,
        monotonic=time.monotonic,
        recorded=LastRecords(settings),
    )

    def on_listed(changes: Changes) -> None:
        initial_positions.begin_at_first_trade(info.symbol for info in changes.listed)
        group.create_task(symbols.listed(changes), name="listings")

    refreshing = refresh(
        history,
        settings.binance,
        lambda: symbols.infos,
        on_listed,
        left_out=symbols.left_out,
        shard_index=settings.shard,
        shard_count=settings.service.shard_count,
    )
    return {
        "backfill": backfill.run(),
        "clock": ClockCheck(
            partial(clock_difference, history.rest), clock=time, on_measured=metrics.clock_ahead.set
        ).run(),
        "halts": HaltCheck(pipeline, history, monotonic=time.monotonic).run(),
        "positions": trust.run(RecordSearch(settings)),
        "missed": TailGapCheck(feed, history, on_last_ids).run(),
        "initial positions": initial_positions.run(),
        "stalls": StallDetector(settings.binance, metrics, feed, history, sequencer.next_ids, on_last_ids).run(),
        "symbols": refreshing,
        "stored symbols": symbols.run(),
    }
