"""What a client that may write to the reports' folder can put under the name of a file."""

import ast
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingest_ops.agent.revision import revision_of, tags_of
from ingest_ops.airflow.waiting import FILE, announced
from ingest_ops.common.files import NoFile, read_file
from ingest_ops.deployment import versions
from ingest_ops.deployment.audit_trail import AuditTrail
from ingest_ops.render.files import write_atomically
from ingest_ops.soak.record import BadRecord, Record
from ingest_ops.validation.day_store import is_kept, path_of
from tests.unit.ingest_ops.validation.days import dates

PLUGINS = Path(__file__).resolve().parents[4] / "plugins" / "ingest_ops"
TRUSTED = {
    "agent/process_slots.py": "the operator's configuration",
    "archive/signing.py": "the operator's key",
    "deployment/versions.py": "our own list, before it is written again; looked at with is_file",
    "soak/calibration.py": "the operator's argument",
    "soak/cli.py": "the operator's argument, and a file of this package",
    "soak/error_rates.py": "a file of this package",
    "validation/report_json.py": "a file of this package",
}
"""Files that read whole files themselves, and what."""


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """The result of what must not wait, or what it raises."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:  # noqa: BLE001 (raised again below)
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, "it waits"
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def pipe(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


def test_a_file_is_read_and_what_is_none_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_file(tmp_path / "file") == read_file(tmp_path / "link", 3) == b"abc"
    for wrong in (pipe(tmp_path / "pipe"), Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"no file|directory"):
            within(30, lambda wrong=wrong: read_file(wrong))  # type: ignore[misc]
    with pytest.raises(NoFile, match="more than 2"):
        read_file(tmp_path / "file", 2)
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none")


def test_a_giant_without_content_costs_no_memory(tmp_path: Path) -> None:
    with (tmp_path / "giant").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(NoFile):
        read_file(tmp_path / "giant")


def test_a_pipe_under_the_name_of_a_report_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("K2_DEPLOY_REPORTS", str(tmp_path))
    pipe(tmp_path / versions.FILE)
    assert within(30, versions.known) == [], "a DAG is parsed"
    pipe(tmp_path / FILE)
    assert within(30, lambda: announced(tmp_path, 0.0)) == ""
    (when,) = dates(1, 1)
    pipe(path_of(tmp_path, when))
    assert within(30, lambda: is_kept(tmp_path, when)) is False
    with pytest.raises(BadRecord):
        within(30, lambda: Record.load(pipe(tmp_path / "record.json")))
    trail = AuditTrail(pipe(tmp_path / "trail.jsonl"))
    with pytest.raises(NoFile):
        within(30, trail.lines)
    with pytest.raises(OSError, match="not seekable"):
        within(30, lambda: trail.append(1.0, "a", "b", {}))


def test_a_pipe_without_a_reader_is_an_error_and_one_with_a_reader_is_written(tmp_path: Path) -> None:
    path = pipe(tmp_path / "pipe")
    with pytest.raises(OSError, match="No such device"):
        within(30, lambda: write_atomically(path, "x"))
    reading = threading.Thread(target=lambda: got.append(path.read_bytes()), daemon=True)
    got: list[bytes] = []
    reading.start()
    for _ in range(1000):
        try:
            write_atomically(path, json.dumps({"a": 1}))
        except OSError:
            threading.Event().wait(0.01)
        else:
            break
    reading.join(30)
    assert got == [b'{"a": 1}']


def test_a_checkout_with_pipes_has_no_revision(tmp_path: Path) -> None:
    pipe(tmp_path / ".git" / "HEAD")
    pipe(tmp_path / ".git" / "packed-refs")
    assert within(30, lambda: revision_of(tmp_path)) == "unknown"
    assert within(30, lambda: tags_of(tmp_path)) == []


def test_every_file_of_others_is_read_up_to_a_bound() -> None:
    found = set()
    for path in sorted(PLUGINS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Attribute(attr="read_text" | "read_bytes")):
                    found.add(str(path.relative_to(PLUGINS)))
                case _:
                    pass
    assert found == set(TRUSTED), "read with ingest_ops.common.files, or say why it need not be"
