"""``deploy/airflow/clean.sh``: what is old goes, what is not stays."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from tests.harness.kafka import ROOT

DAY = 86_400


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it once, with programs in the place of Airflow and ours that write down how they are called."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("python", "airflow"):
        program = programs / name
        program.write_text('#!/bin/sh\necho "$*" >> "$CALLS"\n')
        program.chmod(0o755)
    return subprocess.run(
        [ROOT / "deploy/airflow/clean.sh", "once"], capture_output=True, text=True, check=False,
        env={"PATH": f"{programs}:/usr/bin:/bin", "CALLS": str(folder / "calls"),
             "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(folder / "logs"), **environment},
    )  # fmt: skip


def log(folder: Path, dag: str, days: float) -> Path:
    path = folder / "logs" / f"dag_id={dag}" / f"run_id=r{days}" / "attempt=1.log"
    path.parent.mkdir(parents=True)
    path.write_text("text")
    at = time.time_ns() / 1e9 - days * DAY
    os.utime(path, (at, at))
    return path


def test_runs_and_logs_are_kept_for_as_long_as_is_set(tmp_path: Path) -> None:
    kept = [log(tmp_path, "reconcile", 0.5), log(tmp_path, "deploy_blue_green", 25)]
    gone = [log(tmp_path, "reconcile", 2.5), log(tmp_path, "deploy_blue_green", 35)]
    done = run(tmp_path, AIRFLOW_KEEP_DAYS="30")
    assert done.returncode == 0, done.stderr
    assert [path.exists() for path in (*kept, *gone)] == [True, True, False, False]
    assert not gone[0].parent.exists()
    first, second, third = (tmp_path / "calls").read_text().splitlines()
    assert third == "-m ingest_ops clean --keep-days 365"
    assert "--dag-ids reconcile" in first
    assert "--dag-ids" not in second
    assert all("db clean --yes --skip-archive" in call for call in (first, second))


@pytest.mark.parametrize("days", ["0", "-1", "x", "1; rm -rf /"])
def test_a_time_that_is_none_is_refused(tmp_path: Path, days: str) -> None:
    done = run(tmp_path, AIRFLOW_KEEP_DAYS=days)
    assert done.returncode == 2
    assert "must be whole days" in done.stderr
    assert not (tmp_path / "calls").exists()
