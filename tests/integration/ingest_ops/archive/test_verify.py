"""``archive verify``: what was changed in the files is found, and located."""

import json
import random
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingest_ops.archive.build import writer_options
from tests.harness.archive import GeneratedMarket, midnight
from tests.harness.archive_world import DAY, NEXT, World
from tests.integration.ingest_ops.archive.conftest import MakeWorld

pytestmark = pytest.mark.integration


def data_file(world: World, day: date = DAY) -> Path:
    (path,) = world.archive().table.files(day)
    return Path(path.removeprefix("file://"))


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """The file with changed rows, whole and readable."""
    table = change(pq.read_table(path, partitioning=None))
    with pq.ParquetWriter(path, table.schema, **writer_options()) as writer:
        writer.write_table(table)


def replaced(table: pa.Table, column: str, row: int, value: object) -> pa.Table:
    place = table.schema.get_field_index(column)
    values = table.column(column).to_pylist()
    values[row] = value
    return table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))


def test_changes_are_located(make_world: MakeWorld) -> None:
    """Each change alone, on a copy of the file."""
    world = make_world()
    world.run()
    path = data_file(world)
    sound = path.read_bytes()
    assert world.faults() == []
    truth = world.truth()
    symbols = ["BTCUSDT"] * len(truth["BTCUSDT"]) + ["ETHUSDT"] * len(truth["ETHUSDT"])
    ids = [row[0] for name in ("BTCUSDT", "ETHUSDT") for row in truth[name]]
    row = 1234
    named = f"{DAY} {symbols[row]} id {ids[row]}:"
    last = len(ids) - 1

    def change(column: str, at: int = row) -> Callable[[pa.Table], pa.Table]:
        def apply(table: pa.Table) -> pa.Table:
            before = table.column(column)[at].as_py()
            match before:
                case "BUY" | "SELL":
                    return replaced(table, column, at, "SELL" if before == "BUY" else "BUY")
                case str():
                    return replaced(table, column, at, "ETHUSDT" if before == "BTCUSDT" else before + "X")
                case int():
                    return replaced(table, column, at, before + 1_000_000)
                case _:
                    step = timedelta(microseconds=1) if column.endswith("timestamp") else type(before)("0.00000001")
                    return replaced(table, column, at, before + step)

        return apply

    for column in ("timestamp", "price", "quantity", "side", "ingestion_timestamp", "base_asset", "exchange"):
        rewritten(path, change(column))
        found = world.faults()
        assert any(one.startswith(named) for one in found), (column, found)
        path.write_bytes(sound)
    for column in ("trade_id", "symbol"):
        rewritten(path, change(column))
        assert any(one.startswith(f"{DAY} {symbols[row]}") for one in world.faults()), column
        path.write_bytes(sound)
    gone = f"{DAY} BTCUSDT id {ids[row]}: rows are missing"
    rewritten(path, lambda table: pa.concat_tables([table.slice(0, row), table.slice(row + 1)]))
    assert gone in world.faults()
    rewritten(path, lambda table: pa.concat_tables([table.slice(0, row + 1), table.slice(row)]))
    assert any(one.startswith(f"{DAY} BTCUSDT") and "twice" in one for one in world.faults())
    rewritten(path, change("price", last))
    assert any(one.startswith(f"{DAY} ETHUSDT id {ids[last]}:") for one in world.faults())
    path.write_bytes(sound)
    assert world.faults() == []


def test_any_byte_of_any_file(make_world: MakeWorld) -> None:
    """Sixty bytes of data file and certificate, each flipped alone: every one is found, with its day."""
    world = make_world(prepare=one_symbol)
    world.run()
    rng = random.Random(7)
    folder = Path(world.settings.warehouse) / "certificates" / "trades" / str(DAY)
    for path in [data_file(world), *folder.iterdir()]:
        sound = path.read_bytes()
        for _ in range(20):
            place = rng.randrange(len(sound))
            path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << rng.randrange(8)]) + sound[place + 1 :])
            found = world.faults()
            assert found, (path.name, place)
            assert all(one.startswith(str(DAY)) for one in found)
        path.write_bytes(sound)
    assert world.faults() == []


def one_symbol(market: GeneratedMarket) -> None:
    market.listed("ETHUSDT", 1000)
    for day in (DAY - timedelta(days=1), DAY, NEXT, NEXT + timedelta(days=1)):
        market.fill("ETHUSDT", day, 100)
    market.now_us = midnight(NEXT + timedelta(days=2))


def test_the_chain(make_world: MakeWorld) -> None:
    world = make_world(prepare=one_symbol)
    days = [DAY, NEXT, NEXT + timedelta(days=1)]
    for day in days:
        world.run(day)
    assert world.faults(*days) == []
    folder = Path(world.settings.warehouse) / "certificates" / "trades"
    shutil.move(folder / str(NEXT), folder.parent / "aside")
    assert f"{NEXT}: there is no certificate of this day" in world.faults(*days)
    shutil.move(folder.parent / "aside", folder / str(NEXT))
    shutil.move(folder / str(DAY), folder.parent / "aside")
    assert world.faults(*days[1:]) == [f"{NEXT}: the chain names {DAY}, of which there is no certificate"]
    shutil.move(folder.parent / "aside", folder / str(DAY))
    (locator,) = (folder / str(NEXT)).glob("*.locator")
    sound = locator.read_bytes()
    locator.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    text = "the certificate's locator was changed: changed rows are not located"
    assert world.faults(*days) == [f"{NEXT}: {text}"]
    locator.write_bytes(sound)
    (name,) = world.archive().certificates.names(days[2])
    path = folder / str(days[2]) / name
    data = json.loads(path.read_bytes())
    data["previous"]["root"] = "00" * 32
    path.write_text(json.dumps(data))
    assert any(one.startswith(str(days[2])) for one in world.faults(*days))
