"""Files in the folder of reports that others can write: whatever is in them, they are passed over."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ingest_ops.airflow import waiting
from ingest_ops.deployment import report, report_gates, versions

JUNK = [b"", b"{}", b"[[", b"\xff", b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", b'{"at":1e400,"deployment":"d"}']
JUNK += [b'{"deployment":"d","at":' + b"9" * 400 + b"}", b'{"state":' + b"[" * 20_000]


@pytest.mark.parametrize("junk", JUNK, ids=range(len(JUNK)))
def test_a_junk_file_is_passed_over(junk: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = cast("Any", SimpleNamespace(id="one", state="done", created=2e9))
    (tmp_path / "deployments").mkdir()
    for path in (waiting.FILE, versions.FILE, "deployments/one.json", "deployments/two.json"):
        (tmp_path / path).write_bytes(junk)
        os.utime(tmp_path / path, (1e9, 1e9))
    monkeypatch.setenv("K2_DEPLOY_REPORTS", str(tmp_path))
    assert versions.known() == []
    assert waiting.announced(tmp_path, 0.0) == ""
    assert report_gates.previous(tmp_path / "deployments", record) is None
    assert not report.is_final(tmp_path, record)
