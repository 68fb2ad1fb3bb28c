"""Archives a day once with each planted fault and says whether it was found, and by what."""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from ingest_ops.archive.day import Archive, archive_day
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.archive.verify import verify_days
from ingest_ops.common.verdict import Verdict
from tests.campaigns.archive.planted import Fault
from tests.harness.archive import DAY_US, GeneratedMarket, midnight
from tests.harness.archive_world import DAY, NEXT, World, Worlds


@dataclass(frozen=True)
class Found:
    """How a run with a fault ended; empty: the fault was not found."""

    name: str
    how: str


def market(made: GeneratedMarket) -> None:
    """Two symbols with voids, trades in the first and the last microsecond of the day and just beside it."""
    made.listed("BTCUSDT", 5_000_000_000)
    made.listed("ETHUSDT", 1000)
    start = midnight(DAY)
    for symbol in ("BTCUSDT", "ETHUSDT"):
        made.fill(symbol, DAY - timedelta(days=1), 300, voids=1)
        made.trade(symbol, start - 1)
        for time_us in (start, start):
            made.trade(symbol, time_us)
        for number in range(1, 2000):
            if number in (400, 900):
                made.void(symbol, 3)
            at = start + number * (DAY_US // 2000) + number % 1000
            if number == 1000:  # a price that no float holds
                made.ledger.symbols[symbol].append(9_007_199_254_740_993, 123_456_789, at, False)
            made.trade(symbol, at)
        for time_us in (start + DAY_US - 1, start + DAY_US):
            made.trade(symbol, time_us)
        made.fill(symbol, NEXT, 100)
    made.now_us = midnight(NEXT + timedelta(days=1))


def made_world(worlds: Worlds) -> World:
    """A world with two archived days before the planted one, and aborted records in the topic."""
    world = worlds.make(prepare=market, bucket_rows=1)
    rows = [one for one in _values(world) if one[0] == "ETHUSDT"]
    world.published.abort(rows[700:705])
    world.run(DAY - timedelta(days=1))
    return world


def _values(world: World) -> list[tuple[str, bytes, int]]:
    world.market._published.clear()
    return world.market.values(world.published.schema_id())


def tried(world: World, faults: Iterable[Fault | None]) -> Iterator[Found]:
    """Run once for each fault, each time on a copy of the archive; None is the control."""
    for number, fault in enumerate(faults):
        folder = world.settings.work.parent / f"try-{number}"
        # The catalog has absolute locations: the archive is used where it is, and put back afterwards.
        kept = folder / "kept"
        shutil.copytree(world.settings.warehouse, kept)
        settings = replace(world.settings, work=folder / "work")
        if fault is not None and not fault.compared:
            settings = replace(settings, files_url="")
        try:
            yield Found(fault.name if fault else "control", _how(world, settings, fault))
        finally:
            shutil.rmtree(world.settings.warehouse)
            shutil.move(kept, world.settings.warehouse)
            shutil.rmtree(folder)


def _how(world: World, settings: ArchiveSettings, fault: Fault | None) -> str:
    now_us = world.market.now_us + 3_600_000_000
    try:
        if fault is None:
            outcome = archive_day(settings, DAY, now_us)
        else:
            with fault.plant():
                outcome = archive_day(settings, DAY, now_us)
    except Exception as error:  # noqa: BLE001 - a run that ends with an error has found something
        return f"error: {error!r}"
    certificate = outcome.certificate
    if certificate.verdict is not Verdict.PASS:
        codes = sorted({one.code for each in certificate.symbols for one in each.findings} - {"void"})
        return f"{certificate.verdict}: {', '.join(codes)}"
    faults = list(verify_days(Archive(settings, create=False), [DAY - timedelta(days=1), DAY]))
    return f"verify: {faults[0]}" if faults else ""
