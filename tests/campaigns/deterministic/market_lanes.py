"""The lanes of the other streams of one process, on models: the real lanes, repair and snapshots."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ingest.core.errors import Reject, Retry
from ingest.core.market_events import BookSnapshot, Break, DepthUpdate, Quote
from ingest.kafka.last_records import Found
from ingest.metrics import Metrics
from ingest.service.pipeline import Pipeline
from ingest.service.stream_set import StreamSet
from ingest.settings import Settings
from tests.campaigns.deterministic.market import STREAMS, Link, Market
from tests.campaigns.deterministic.scheduler import Actor


class NoRecords:
    """A topic's search: the model never loses positions, so that a sequence without one has no records."""

    async def last_recorded(self, symbols: Iterable[str], since_us: Mapping[str, int] | None = None) -> Found:
        del symbols, since_us
        return Found({})


class Rest:
    """What a process asks the exchange for; trades first, as the real client has it."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self.trades_first = False

    async def get(
        self, path: str, params: Mapping[str, str], parse: Callable[[bytes], Any], *, weight: int, urgency: object
    ) -> tuple[Any, str]:
        del weight, urgency
        if self.trades_first:
            raise Retry("trades are missing", after=0.2)
        body = await self._market.answer(path, params)
        try:
            return parse(body), "model"
        except Reject as error:
            raise Retry(f"unusable: {error}", after=0.2) from error


class JsonEncoder:
    """Records that state an event's content, and who wrote it and when, so that the judge can compare them."""

    def __init__(self, by: str) -> None:
        self._by = by

    def encode(self, event: Any, ingestion_us: int) -> bytes:
        if isinstance(event, DepthUpdate):
            return self._record("update", event.first_id, event.trade_id, ingestion_us, [event.bids, event.asks])
        if isinstance(event, Quote):
            top = [event.bid_price, event.bid_quantity, event.ask_price, event.ask_quantity]
            return self._record("quote", event.trade_id, event.trade_id, ingestion_us, top)
        return b"%d %s %s" % (event.trade_id, event.price.encode(), event.quantity.encode())

    def encode_snapshot(self, symbol: str, book: BookSnapshot, ingestion_us: int) -> bytes:
        del symbol
        number = book.last_update_id
        return self._record("snapshot", number, number, ingestion_us, [book.bids, book.asks])

    def encode_break(self, found: Break, ingestion_us: int) -> bytes:
        last_id = -1 if found.last_id is None else found.last_id
        return self._record("break", last_id, found.first_id, ingestion_us, found.reason)

    def received(self, receive_us: int) -> None:
        pass

    def _record(self, kind: str, first: int, last: int, now_us: int, content: Any) -> bytes:
        return json.dumps([kind, first, last, self._by, now_us, content]).encode()


class Lanes:
    """One process's lanes and their connections."""

    def __init__(
        self,
        by: str,
        settings: Settings,
        metrics: Metrics,
        pipeline: Pipeline,
        market: Market,
        actor: Actor,
        last_ids: Callable[[], Mapping[str, int]],
        seen: dict[tuple[str, str, str, int], int],
    ) -> None:
        """``by`` names the process in its records; ``seen`` gets when each update reached it."""
        self._by = by
        self._market = market
        self.actor = actor
        self._lanes: dict[str, Any] = pipeline.lanes
        self._seen = seen
        self._closed = False
        self.links: dict[str, dict[str, Link]] = {stream: {} for stream in STREAMS}
        self.rest = Rest(market)
        self._set = StreamSet(settings, metrics, pipeline, last_ids=last_ids, recorded=lambda *_: NoRecords())
        for lane in self._lanes.values():
            lane.use(JsonEncoder(by))
            for symbol in market.books:
                lane.add(symbol, None)

    async def run(self) -> None:
        """Repair until cancelled."""
        history: Any = self
        await self._set.repair(history)

    async def reconnect(self) -> None:
        """What a feed does for a stream that has no connection: dial again."""
        while True:
            self.connect()
            await asyncio.sleep(self._market.dice.uniform(0.1, 1.5))

    def connect(self) -> None:
        """Open a connection of each stream that has none."""
        for stream, links in self.links.items():
            if not links and not self._closed:
                self.dial(stream)

    def dial(self, stream: str) -> None:
        """Open one more connection of a stream."""
        name = next(f"g0{one}" for one in "abc" if f"g0{one}" not in self.links[stream])
        link = self._market.connect(stream, name, self.actor, self._deliver(stream))
        self.links[stream][name] = link
        if stream == "bookTicker":
            self._lanes[stream].opened(link)

    def _deliver(self, stream: str) -> Callable[[str, list[Any]], None]:
        lane, world = self._lanes[stream], self._market.world

        def deliver(connection: str, events: list[Any]) -> None:
            for event in events:
                self._seen.setdefault((self._by, stream, event.symbol, event.trade_id), world.time_ns() // 1000)
            lane.on_trades(connection, events)

        return deliver

    def hang_up(self, stream: str, name: str) -> None:
        """Lose one connection."""
        link = self.links[stream].pop(name, None)
        if link is None:
            return
        self._market.disconnect(link)
        if stream == "bookTicker" and not self.actor.dead:
            world = self._market.world
            silent = int((world.now - link.last_frame_at) * 1e6)
            self._lanes[stream].ended(link, world.time_ns() // 1000 - silent)

    def leave(self, stream: str, name: str) -> None:
        """Lose a connection that another one stands beside."""
        if len(self.links[stream]) > 1:
            self.hang_up(stream, name)

    def close(self) -> None:
        """Lose all of them, for good."""
        self._closed = True
        for stream, links in self.links.items():
            for name in list(links):
                self.hang_up(stream, name)
