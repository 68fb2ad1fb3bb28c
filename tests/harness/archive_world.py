"""A market of two days in a topic, and an archive of it in a folder."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from ingest_ops.archive.day import Archive, Outcome, archive_day
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.archive.verify import verify_days
from tests.harness.archive import (
    DAY_US,
    Change,
    GeneratedMarket,
    Published,
    duckdb_rows,
    midnight,
    served,
    settings_for,
    table_rows,
)  # fmt: skip

DAY = date(2026, 1, 15)
NEXT = DAY + timedelta(days=1)


@dataclass
class World:
    """Everything that a test needs."""

    market: GeneratedMarket
    published: Published
    settings: ArchiveSettings

    def run(self, day: date = DAY, **others: Any) -> Outcome:
        """Archive a day, an hour after the market's time."""
        return archive_day(replace(self.settings, **others), day, self.market.now_us + 3_600_000_000)

    def archive(self) -> Archive:
        """The archive as a reader opens it."""
        return Archive(self.settings, create=False)

    def faults(self, *days: date) -> list[str]:
        """What ``archive verify`` says."""
        return [str(one) for one in verify_days(self.archive(), list(days or (DAY,)))]

    def truth(self, day: date = DAY) -> dict[str, list[Any]]:
        """The ledger's rows of a day, symbols without a trade left out."""
        rows = {name: self.market.rows(name, day) for name in self.market.ledger.all_symbols}
        return {name: found for name, found in rows.items() if found}

    def assert_equals_truth(self, day: date = DAY) -> None:
        """Both readers see exactly the ledger's rows, in order."""
        archive = self.archive()
        assert table_rows(archive, day) == self.truth(day)
        assert duckdb_rows(archive, day) == self.truth(day)


def two_days(market: GeneratedMarket) -> None:
    """The day, an hour and more before it, and one after it; a quiet symbol trades on the day before alone."""
    before = DAY - timedelta(days=1)
    market.listed("BTCUSDT", 5_000_000_000)
    market.listed("ETHUSDT", 1000)
    market.listed("QUIETUSDT", 0)
    for number in range(5):
        market.trade("QUIETUSDT", midnight(before) + number)
    for day in (before, DAY, NEXT):
        market.fill("BTCUSDT", day, 3000, voids=3)
        market.fill("ETHUSDT", day, 700)
    market.now_us = midnight(NEXT + timedelta(days=1)) + 3_600_000_000


def until_noon(market: GeneratedMarket) -> None:
    """Two symbols, the day before and half of the day."""
    market.listed("BTCUSDT", 5_000_000_000)
    market.listed("ETHUSDT", 1000)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        market.fill(symbol, DAY - timedelta(days=1), 50)
        for number in range(500):
            market.trade(symbol, midnight(DAY) + number * (DAY_US // 1100))
    market.now_us = midnight(NEXT)


def afternoon(world: World) -> None:
    """The other half of the day, and the next one."""
    for symbol in ("BTCUSDT", "ETHUSDT"):
        start = midnight(DAY) + DAY_US // 2
        for number in range(500):
            world.market.trade(symbol, start + number * (DAY_US // 1100))
        world.market.fill(symbol, NEXT, 50)
    world.market.now_us = midnight(NEXT + timedelta(days=1))
    world.published.publish()


class Worlds(contextlib.ExitStack):
    """Makes worlds on one broker and one registry, and ends them."""

    def __init__(self, bootstrap_servers: str, registry_url: str, folder: Path) -> None:
        super().__init__()
        self._servers = bootstrap_servers
        self._registry = registry_url
        self._folder = folder

    def make(
        self,
        change: Change = lambda values: values,
        prepare: Callable[[GeneratedMarket], None] = two_days,
        **settings: Any,
    ) -> World:
        """``prepare`` fills the market, ``change`` alters what is published of it."""
        market = GeneratedMarket()
        prepare(market)
        published = Published(market, self._servers, self._registry)
        published.publish(change)
        url = self.enter_context(served(market))
        return World(market, published, settings_for(published, url, self._folder / published.topic, **settings))
