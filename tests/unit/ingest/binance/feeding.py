"""A feed that runs on a scripted exchange."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from ingest.binance.feed import Feed
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings
from tests.harness.scripted_exchange import Collector, ScriptedExchange, until

FAST: dict[str, Any] = {
    "websocket_fallback_urls": (),
    "rotation_overlap_seconds": 1.0,
    "backoff_initial_seconds": 0.05,
    "backoff_maximum_seconds": 0.2,
    "open_timeout_seconds": 10.0,
}


class Running:
    """A feed under test with its sink and metrics."""

    def __init__(self, feed: Feed, sink: Collector, metrics: Metrics) -> None:
        self.feed = feed
        self.sink = sink
        self.metrics = metrics

    def value(self, name: str, **labels: str) -> float:
        self.feed.publish()
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None, name
        return value

    def reconnects(self) -> dict[str, float]:
        return {
            sample.labels["reason"]: sample.value
            for metric in self.metrics.reconnects.collect()
            for sample in metric.samples
            if sample.name.endswith("_total") and sample.value
        }


@asynccontextmanager
async def feeding(
    exchange: ScriptedExchange | str, *symbols: str, lifetime: float = 3600.0, sink: Any = None, **changes: Any
) -> AsyncIterator[Running]:
    url = exchange if isinstance(exchange, str) else exchange.url
    settings = BinanceSettings(websocket_url=url, **{**FAST, **changes})
    metrics = Metrics(process=False)
    sink = sink or Collector()
    feed = Feed(settings, lifetime, metrics, sink, ssl_context=None, symbols=symbols, random=Random(1))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(feed.run())
        yield Running(feed, sink, metrics)
        task.cancel()


async def all_of(run: Running, exchange: ScriptedExchange, symbol: str) -> None:
    """Wait for the exchange's last trade, after which nothing may be missing."""
    await until(lambda: exchange.next_ids[symbol] in run.sink.ids(symbol))
    await until(lambda: run.sink.missing(symbol) == [])
