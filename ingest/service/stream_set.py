"""The streams besides the trades: their lanes, connections, repair and snapshots, built from their declarations."""

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from random import Random
from typing import Any, Final

from ingest.binance.dialer import Dialer
from ingest.binance.feed import Feed
from ingest.binance.history import History
from ingest.binance.stream_history import Snapshots, StreamHistory
from ingest.core.market_events import CONTENTS
from ingest.core.streams import BOOK_TICKER, Stream
from ingest.kafka.last_records import LastRecords
from ingest.kafka.schemas import resolve_stream_schema, stream_schema
from ingest.kafka.stream_encoding import encoder_for
from ingest.metrics import Metrics
from ingest.service.backfill import Backfill
from ingest.service.book_lane import BookLane
from ingest.service.book_snapshots import BookSnapshots
from ingest.service.halt_check import HaltCheck
from ingest.service.lane_counters import StreamCounters
from ingest.service.numbered_lane import NumberedLane
from ingest.service.pipeline import Pipeline
from ingest.service.quote_lane import TICK_SECONDS, QuoteLane
from ingest.service.records_guard import LaneBeginnings, RecordedIds
from ingest.service.span_lane import HELD_BYTES_OF_A_TRADE
from ingest.service.stream_stalls import LOOK_SECONDS, StreamStalls
from ingest.settings import Settings

HELD_SHARE: Final = 4
"""A numbered stream may hold a part of what the trades may: one in so many."""


class StreamSet:
    """All streams of the settings besides the trades. Their lanes are in ``pipeline.lanes``."""

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        pipeline: Pipeline,
        *,
        last_ids: Callable[[], Mapping[str, int]],
        on_schema: Callable[[str, int, str], None] = lambda _topic, _schema_id, _text: None,
        recorded: Callable[[Settings, Stream], RecordedIds] = LastRecords,
    ) -> None:
        """``last_ids`` returns sequence name -> its last id in Kafka; ``recorded`` what searches a stream's topic.

        ``on_schema`` gets topic, number and text of each schema once it is settled.
        """
        self._settings = settings
        self._metrics = metrics
        self._pipeline = pipeline
        self._last_ids = last_ids
        self._on_schema = on_schema
        self._recorded = recorded
        self._feeds: dict[str, Feed] = {}
        self._encoders: list[Any] = []
        self._trades: Feed | None = None
        for stream in settings.streams:
            pipeline.lanes[stream.name] = self._lane(stream)

    def _lane(self, stream: Stream) -> Any:
        settings, pipeline = self._settings, self._pipeline
        counters = StreamCounters(self._metrics, stream.name)
        letters, limit = settings.kafka.dead_letter_max_bytes, settings.service.buffer_max_trades // 2
        if stream.contract == "numbered":
            lane = NumberedLane(
                stream=stream, outbox=pipeline.outbox, counters=counters, encoder=None, limit=limit // HELD_SHARE,
                jump_limit=stream.jump_limit, dead_letter_max_bytes=letters, monotonic=time.monotonic,
                time_ns=time.time_ns, content=CONTENTS[stream.record],
            )  # fmt: skip
            lane.on_ready = lambda: pipeline.on_ready()
            return lane
        options: dict[str, Any] = {
            "stream": stream, "outbox": pipeline.outbox, "counters": counters, "dead_letter_max_bytes": letters,
            "held_bytes": settings.service.buffer_max_trades * HELD_BYTES_OF_A_TRADE[stream.priority],
            "room_for": lambda: len(pipeline.outbox) / limit, "monotonic": time.monotonic, "time_ns": time.time_ns,
        }  # fmt: skip
        if stream.contract == "chained":
            spans: Any = BookLane(grace_seconds=settings.binance.gap_grace_seconds, **options)
        else:
            spans = QuoteLane(**options)
        spans.on_ready = lambda: pipeline.on_ready()
        return spans

    # --- connections ---

    def connect(self, trades: Feed, *, ssl_context: ssl.SSLContext | None, dialer: Dialer, random: Random) -> None:
        """Make the feeds: each stream has connections of its own, so that none waits for another."""
        self._trades = trades
        for stream in self._settings.streams:
            lane: Any = self._pipeline.lanes[stream.name]
            self._feeds[stream.name] = Feed(
                self._settings.binance, self._settings.connection_lifetime_seconds, self._metrics, lane,
                ssl_context=ssl_context, dialer=dialer, random=random, stream=stream, beside=trades,
                watch=lane if stream.name == BOOK_TICKER.name else None,
            )  # fmt: skip

    async def add_symbols(self, symbols: Iterable[str]) -> None:
        """Record these symbols in all streams, the trades included."""
        symbols = list(symbols)
        if self._trades is not None:
            await self._trades.add_symbols(symbols)
        last_ids = self._last_ids()
        for name, lane in self._pipeline.lanes.items():
            for symbol in symbols:
                lane.add(symbol, last_ids.get(lane.stream.sequence_name(symbol)))
            await self._feeds[name].add_symbols(symbols)

    async def remove_symbols(self, symbols: Iterable[str]) -> None:
        """Record these symbols no longer."""
        symbols = list(symbols)
        if self._trades is not None:
            await self._trades.remove_symbols(symbols)
        for name, lane in self._pipeline.lanes.items():
            await self._feeds[name].remove_symbols(symbols)
            for symbol in symbols:
                lane.remove(symbol)

    def rotate(self, reason: str, connection: str | None = None) -> int:
        """Replace a connection by name, or all of all streams, make before break; returns how many."""
        feeds = [*self._feeds.values(), *([] if self._trades is None else [self._trades])]
        return sum(feed.rotate(reason, connection) for feed in feeds)

    # --- records ---

    async def encode(self, assets: Mapping[str, tuple[str, str]]) -> None:
        """Settle the schemas of all streams and make their encoders. Raises ``Stop``."""
        topics = self._settings.stream_topics
        for stream in self._settings.streams:
            schema_id = await resolve_stream_schema(self._settings, topics[stream.name], stream.record)
            self._on_schema(topics[stream.name], schema_id, stream_schema(stream.record))
            encoder = encoder_for(stream.name)(schema_id, assets)
            self._pipeline.lanes[stream.name].use(encoder)
            self._encoders.append(encoder)

    def add_symbol(self, symbol: str, base: str, quote: str) -> None:
        """Make a symbol's records encodable in all streams besides the trades."""
        for encoder in self._encoders:
            encoder.add_symbol(symbol, base, quote)

    # --- tasks ---

    async def run(self) -> None:
        """Receive until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, feed in self._feeds.items():
                group.create_task(feed.run(), name=f"feed {name}")
            stalls = StreamStalls(self._feeds.values, stalled=self._metrics.stalls.labels("connection").inc)
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                stalls.look()

    async def repair(self, history: History) -> None:
        """Fill gaps, declare breaks and take snapshots until cancelled; once symbols and encoders are known."""
        pipeline, binance = self._pipeline, self._settings.binance

        async with asyncio.TaskGroup() as group:
            for lane in pipeline.lanes.values():
                if isinstance(lane, NumberedLane):
                    of_stream = StreamHistory(history.rest, lane.stream)
                    filling = Backfill(
                        lane,
                        of_stream,
                        grace_seconds=binance.gap_grace_seconds,
                        confirm_seconds=binance.void_confirm_seconds,
                        confirm_replies=binance.void_confirm_replies,
                        monotonic=time.monotonic,
                        page=999 if lane.stream.name.startswith("kline") else 1000,
                    )
                    group.create_task(filling.run(), name=f"backfill {lane.stream.name}")
                    halts = HaltCheck(lane, of_stream, monotonic=time.monotonic)
                    group.create_task(halts.run(), name=f"halts {lane.stream.name}")
                    group.create_task(self._begin(lane), name=f"beginnings {lane.stream.name}")
                elif isinstance(lane, BookLane):
                    snapshots = BookSnapshots(
                        lane,
                        Snapshots(history.rest),
                        every_seconds=binance.book_snapshot_minutes * 60.0,
                        trades_first=lambda: history.rest.trades_first,
                        monotonic=time.monotonic,
                    )
                    group.create_task(snapshots.run(), name="book snapshots")
            while True:
                await asyncio.sleep(TICK_SECONDS)
                self._tick()

    async def _begin(self, lane: NumberedLane) -> None:
        recorded = self._recorded(self._settings, lane.stream)
        beginnings = LaneBeginnings(lane, recorded, monotonic=time.monotonic)
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await beginnings.step()

    def _tick(self) -> None:
        for lane in self._pipeline.lanes.values():
            if isinstance(lane, BookLane | QuoteLane):
                lane.tick()

    def books_missing(self) -> bool:
        """Whether order books that are recorded wait for a snapshot."""
        return any(isinstance(lane, BookLane) and lane.awaits_snapshots for lane in self._pipeline.lanes.values())

    def status(self) -> dict[str, Any]:
        """Each stream for ``/status``."""
        found: dict[str, Any] = {}
        topics = self._settings.stream_topics
        for name, lane in self._pipeline.lanes.items():
            feed = self._feeds.get(name)
            one: dict[str, Any] = {
                "contract": lane.stream.contract,
                "topic": topics[name],
                "connections": [] if feed is None else [connection.as_dict() for connection in feed.status()],
            }
            if isinstance(lane, NumberedLane):
                sequencer = lane.sequencer
                one |= {
                    "held": sequencer.pending, "gaps": len(sequencer.open_gaps),
                    "halted": {sequence.symbol: sequence.halted for sequence in sequencer.halted()},
                }  # fmt: skip
            else:
                states: Any = lane
                one |= {
                    "held": states.held, "gaps": states.gaps(),
                    "halted": {symbol: "id_reset" for symbol, state in states.states.items() if state.halted},
                }  # fmt: skip
            if isinstance(lane, BookLane):
                one["books"] = lane.books()
            found[name] = one
        return found
