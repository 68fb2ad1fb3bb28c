"""What must hold whatever a report's file, a soak's record, a stored day or a row of the journal contains."""

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from ingest_ops.deployment.journal import Journal, JournalError
from ingest_ops.deployment.plan import Plan
from ingest_ops.exporter.collector import Operations
from ingest_ops.index import as_json, list_reports
from ingest_ops.soak.record import BadRecord, Record
from ingest_ops.validation.day import BadDay, unpack
from tests.campaigns.fuzz.oracles import short

_FOLDER = tempfile.TemporaryDirectory(prefix="k2-fuzz-")
ROOT = Path(_FOLDER.name)
_GOOD = b'{"run_id":"good","title":"Good","verdict":"PASS","summary":"","generated_at":"2026-01-01T00:00:00Z"}'


def check_report(data: bytes) -> None:
    """A report's JSON beside a good one: both are listed, and the exporter answers."""
    folder = ROOT / "soak"
    folder.mkdir(exist_ok=True)
    (folder / "fuzzed.json").write_bytes(data)
    (folder / "good.json").write_bytes(_GOOD)
    entries = {entry.run_id: entry for entry in list_reports(ROOT)}
    assert set(entries) == {"fuzzed", "good"}
    assert entries["good"].problem == ""
    assert len(entries["fuzzed"].problem) < 1000
    for entry in entries.values():
        json.dumps(as_json(entry))
    registry = CollectorRegistry()
    registry.register(Operations(ROOT, _no_journal, lambda: 0.0))
    assert b'ingest_reports{folder="soak"} 2.0' in generate_latest(registry)


def _no_journal() -> Journal:
    raise JournalError("none here")


def check_soak_record(data: bytes) -> None:
    """The file of a soak."""
    path = ROOT / "record.json"
    path.write_bytes(data)
    try:
        record = Record.load(path)
    except BadRecord as error:
        short(error, 5000)
    else:
        assert record is not None
        json.dumps(record.as_json())


def check_day(data: bytes) -> None:
    """A stored day, as it is and as what its gzip holds."""
    for raw in (data, gzip.compress(data, compresslevel=1)):
        try:
            day = unpack(raw)
        except BadDay:
            continue
        assert all(len(one.t) == len(one.v) for one in (*day.series, *day.alerts, *day.about))


_PLAN = Plan(version="v1")
_JOURNAL = Journal("sqlite://", lambda: 1.0)
_NAMES = ("kind", "state", "plan", "facts")


def check_journal(data: bytes) -> None:
    """A row of the journal (column, text and so on, separated by NUL): read, or refused as damaged."""
    parts = data.decode("utf-8", "replace").split("\0")
    values = {name: text for name, text in zip(_NAMES, parts, strict=False) if text}
    with _JOURNAL._connection() as connection:
        connection.execute(sa.text("DELETE FROM ingest_deployments"))
    _JOURNAL.create("one", _PLAN)
    if values:
        with _JOURNAL._connection() as connection:
            table = sa.table("ingest_deployments", *(sa.column(name) for name in _NAMES))
            connection.execute(table.update().values(**values))
    for read in (lambda: [_JOURNAL.read("one")], lambda: [_JOURNAL.open_one()], lambda: _JOURNAL.latest(1)):
        try:
            found = read()
        except JournalError as error:
            short(error, 5000)
        else:
            assert all(one is not None and one.plan.version for one in found)


ORACLES: dict[str, Callable[[bytes], None]] = {
    "report": check_report,
    "soak-record": check_soak_record,
    "day": check_day,
    "journal": check_journal,
}
