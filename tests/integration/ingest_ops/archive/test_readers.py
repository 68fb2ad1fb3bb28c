"""The examples of docs/examples read an archived day, each with its own engine, and see exactly what happened."""

import csv
import os
import subprocess
from decimal import Context, Decimal
from pathlib import Path

import pytest

from tests.harness.archive_world import DAY, World, until_noon
from tests.harness.engines import EngineUnavailable, engine
from tests.harness.processes import ROOT
from tests.integration.ingest_ops.archive.conftest import MakeWorld

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]
EXACT = Context(prec=60)


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return engine("analytics")
    except EngineUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def expected(world: World) -> dict[str, tuple[int, Decimal, Decimal]]:
    found = {}
    for symbol, rows in world.truth().items():
        volume, value = sum(row[2] for row in rows), sum(row[1] * row[2] for row in rows)
        found[symbol] = (len(rows), Decimal(volume).scaleb(-8, EXACT), Decimal(value).scaleb(-16, EXACT))
    return found


def test_every_engine_sees_the_day(make_world: MakeWorld, python: Path) -> None:
    world = make_world(prepare=until_noon, bucket_rows=1)
    world.run()
    stray = Path(world.archive().table.folder(DAY).removeprefix("file://")) / "0009-stray.parquet"
    stray.write_bytes(b"of an interrupted run")
    for name in ("duckdb", "polars", "pandas"):
        command = [str(python), f"docs/examples/archive_{name}.py", DAY.isoformat()]
        command += ["--warehouse", world.settings.warehouse]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        rows = {
            row["symbol"]: (int(row["trades"]), Decimal(row["volume"]), Decimal(row["quote_volume"]))
            for row in csv.DictReader(done.stdout.splitlines())
        }
        assert rows == expected(world), name
