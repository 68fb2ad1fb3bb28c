"""Archives generated days and compares ledger, table and certificates, row by row and sum by sum."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from ingest_ops.archive.certificate import SymbolEntry
from ingest_ops.archive.rows import plain
from ingest_ops.common.verdict import Verdict
from tests.harness.archive import GeneratedMarket, duckdb_rows, midnight, table_rows
from tests.harness.archive_world import World, Worlds

FIRST = date(2026, 1, 1)


@dataclass(frozen=True)
class Day:
    """A day's result: how many symbols and trades, and what differs."""

    day: date
    symbols: int
    trades: int
    differences: list[str]


def days_of(worlds: Worlds, *, symbols: int, days: int, seed: int) -> Iterator[Day]:
    """Generate, archive day after day, and compare."""
    world = worlds.make(prepare=lambda market: _fill(market, symbols, days, seed))
    for number in range(days):
        yield _one(world, FIRST + timedelta(days=number))
    faults = world.faults(*(FIRST + timedelta(days=number) for number in range(days)))
    yield Day(FIRST + timedelta(days=days), 0, 0, [f"archive verify: {one}" for one in faults])


def _fill(market: GeneratedMarket, symbols: int, days: int, seed: int) -> None:
    """Symbols of every kind: busy, quiet, with voids, listed later; the day before the first one is recorded, too."""
    rng = market.random
    rng.seed(seed)
    names = [f"C{number:04d}USDT" for number in range(symbols)]
    for name in names:
        market.listed(name, rng.choice((0, 1, 10**6, 5 * 10**9)))
        for place in range(-1, days + 1):
            day = FIRST + timedelta(days=place)
            trades = rng.choice((0, 1, 2, 20, 60))
            market.fill(name, day, trades if place >= 0 else 1, voids=rng.choice((0, 0, 1)))
            if rng.random() < 0.05:
                market.void(name, rng.randint(1, 3))
    market.now_us = midnight(FIRST + timedelta(days=days + 1)) + 3_600_000_000


def _one(world: World, day: date) -> Day:
    certificate = world.run(day).certificate
    truth = world.truth(day)
    archive = world.archive()
    differences = []
    for name, rows in (("PyIceberg", table_rows(archive, day)), ("DuckDB", duckdb_rows(archive, day))):
        if rows != truth:
            wrong = sorted(one for one in {*rows, *truth} if rows.get(one) != truth.get(one))
            differences.append(f"{name}: {len(wrong)} symbols differ: {wrong[:5]}")
    for entry in certificate.symbols:
        differences += _of_certificate(entry, truth.get(entry.symbol, []))
    missing = {*truth} - {one.symbol for one in certificate.symbols}
    differences += [f"the certificate lacks {one}" for one in sorted(missing)]
    return Day(day, len(certificate.symbols), certificate.trades, differences)


def _of_certificate(entry: SymbolEntry, rows: list[Any]) -> Iterator[str]:
    stated = (entry.verdict, entry.trades, entry.first_id, entry.last_id, entry.quantity, entry.quote_quantity)
    true = (
        Verdict.PASS,
        len(rows),
        rows[0][0] if rows else None,
        rows[-1][0] if rows else None,
        plain(sum(row[2] for row in rows)),
        plain(sum(row[1] * row[2] for row in rows), 16),
    )
    if stated != true:
        yield f"certificate of {entry.symbol}: {stated}, the ledger has {true}; {entry.findings}"
