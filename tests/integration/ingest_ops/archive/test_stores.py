"""Where the archive is kept: an object store, a PostgreSQL catalog, a disk that is full, and each of them failing."""

import errno
import os
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest_ops.archive import day
from ingest_ops.archive.day import Archive
from ingest_ops.archive.errors import ArchiveError, TryAgain
from ingest_ops.archive.storage import Storage
from ingest_ops.archive.table import FORMAT, PROPERTY, Conflict, DayTable
from ingest_ops.common.verdict import Verdict
from tests.harness.archive import table_rows
from tests.harness.archive_world import DAY, World, afternoon, until_noon
from tests.harness.engines import EngineUnavailable
from tests.harness.postgres import Postgres, PostgresUnavailable
from tests.harness.s3 import BUCKET, FaultyFront, S3Server
from tests.integration.ingest_ops.archive.conftest import MakeWorld
from tests.integration.ingest_ops.archive.test_day import small

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    try:
        with S3Server() as server:
            yield server
    except EngineUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    try:
        with Postgres() as server:
            yield server
    except PostgresUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def in_bucket(server: S3Server, name: str, url: str | None = None) -> dict[str, Any]:
    return {"warehouse": f"s3://{BUCKET}/{name}", "catalog_options": server.options(url), "catalog_uri": ""}


def assert_right(world: World) -> None:
    """The table has the truth, as certified, and no file that no snapshot names."""
    assert table_rows(world.archive(), DAY) == world.truth()
    assert world.faults() == []
    table = DayTable(world.settings, create=False)
    names = Storage(table.properties).names(table.folder(DAY))
    assert {f"{table.folder(DAY)}/{name}" for name in names} == table.named(DAY)


def test_an_object_store_and_a_postgresql_catalog(
    make_world: MakeWorld, s3: S3Server, postgres: Postgres, tmp_path: Path
) -> None:
    world = make_world(**in_bucket(s3, "whole") | {"catalog_uri": postgres.url})
    first = world.run()
    assert (first.certificate.verdict, first.changed) == (Verdict.PASS, True)
    assert_right(world)
    again = world.run()
    assert (again.changed, again.certified) == (False, False)
    archive = world.archive()
    (location,) = archive.table.files(DAY)
    data = bytearray(archive.storage.read(location))
    data[len(data) // 2] ^= 1
    archive.storage.write(location, bytes(data))
    faults = world.faults()
    assert "was changed: SHA-256" in faults[0]
    assert any(symbol in "\n".join(faults[1:]) for symbol in ("BTCUSDT", "ETHUSDT"))


FAILS = (
    ("PUT", ".parquet", 500),
    ("PUT", "certificates", 503),
    ("PUT", ".metadata.json", 500),
    ("GET", "certificates", 503),
)
"""Method, part of the path, answer."""


def test_an_object_store_that_fails_or_is_slow(make_world: MakeWorld, s3: S3Server, tmp_path: Path) -> None:
    """It says so and leaves the day as it was; the next run is right."""
    world = make_world(prepare=small)
    with FaultyFront(s3) as front:
        for number, (method, part, status) in enumerate(FAILS):
            catalog = {"catalog_uri": f"sqlite:///{tmp_path}/{number}.db"}
            tried = replace(
                world, settings=replace(world.settings, **in_bucket(s3, f"fails{number}", front.url) | catalog)
            )
            front.fault = _failing(method, part, status)
            with pytest.raises(TryAgain, match=r"cannot be (read|written|listed)"):
                tried.run()
            assert front.faults > number
            front.fault = _late if number == 0 else lambda _method, _path: 0
            assert tried.run().certificate.verdict is Verdict.PASS
            assert_right(tried)


def _failing(method: str, part: str, status: int) -> Callable[[str, str], int]:
    return lambda one, path: status if one == method and part in path else 0


def _late(_method: str, _path: str) -> int:
    time.sleep(0.1)
    return 0


def test_a_file_that_another_run_has_uploaded_stays(make_world: MakeWorld, s3: S3Server, tmp_path: Path) -> None:
    """In an object store nothing locks the day: a run elsewhere may be about to commit."""
    world = make_world(prepare=small, **in_bucket(s3, "others") | {"catalog_uri": f"sqlite:///{tmp_path}/catalog.db"})
    archive = Archive(world.settings)
    other = f"{archive.table.folder(DAY)}/other.parquet"
    archive.storage.write(other, b"x")
    world.run()
    assert archive.storage.read(other) == b"x"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(day, "ORPHAN_SECONDS", -60)
        world.run()
    with pytest.raises(FileNotFoundError):
        archive.storage.read(other)


def test_two_runs_at_once_without_a_lock_between_them(make_world: MakeWorld, s3: S3Server, postgres: Postgres) -> None:
    world = make_world(prepare=small, **in_bucket(s3, "two") | {"catalog_uri": postgres.url, "namespace": "two"})
    Archive(world.settings)  # the table exists already
    both = threading.Barrier(2)
    commit = DayTable.replace
    found: list[object] = []

    def at_once(self: DayTable, *args: Any) -> int:
        both.wait(60)
        return commit(self, *args)

    def run(work: str) -> None:
        try:
            found.append(world.run(work=world.settings.work / work).certificate.verdict)
        except ArchiveError as error:
            found.append(error)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DayTable, "replace", at_once)
        threads = [threading.Thread(target=run, args=(name,)) for name in "ab"]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert Verdict.PASS in found
    (other,) = [one for one in found if one is not Verdict.PASS]
    assert isinstance(other, Conflict), other
    assert_right(world)


def test_a_catalog_that_is_locked_gone_or_of_another_version(make_world: MakeWorld, tmp_path: Path) -> None:
    world = make_world(prepare=small)
    first = world.run()
    catalog = Path(world.settings.warehouse) / "catalog.db"
    with closing(sqlite3.connect(catalog)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TryAgain, match="catalog does not answer or is locked"):
            world.run()
    with Postgres() as server:
        url = server.url
    with pytest.raises(TryAgain, match="catalog does not answer or is locked"):
        world.run(catalog_uri=url)
    table = world.archive().table.table
    table.transaction().set_properties({PROPERTY: "2"}).commit_transaction()
    with pytest.raises(ArchiveError, match="archive format 2, this version writes 1: use another table"):
        world.run()
    table.refresh().transaction().set_properties({PROPERTY: FORMAT}).commit_transaction()
    assert world.run().certificate == first.certificate
    assert_right(world)


@contextmanager
def tiny_disk(folder: Path, size: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "k2-tiny-disk", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a tiny disk")
def test_a_full_disk(make_world: MakeWorld, tmp_path: Path) -> None:
    """The work folder's and the warehouse's, with more and more of the work done: always as it was, then right."""
    world = make_world(prepare=until_noon)
    with tiny_disk(tmp_path / "disk", "4m") as disk:
        world.settings = replace(world.settings, warehouse=str(disk / "archive"))
        world.run()
        old = table_rows(world.archive(), DAY)
        afternoon(world)
        fill = disk / "fill"
        for work in (disk / "work", tmp_path / "work"):
            for free in (0, 16_384, 40_960):
                _fill(fill, disk, free)
                with pytest.raises((ArchiveError, OSError)) as found:
                    world.run(work=work)
                assert not isinstance(found.value, TryAgain), found.value
                assert "full" in str(found.value) or getattr(found.value, "errno", 0) == errno.ENOSPC, found.value
                fill.unlink()
                assert table_rows(world.archive(), DAY) == old
        assert world.run().certificate.verdict is Verdict.PASS
        assert_right(world)


def _fill(path: Path, disk: Path, leave: int) -> None:
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    path.write_bytes(bytes(max(0, free - leave)))
