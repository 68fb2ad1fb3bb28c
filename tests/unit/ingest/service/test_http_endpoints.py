"""The ready file is for observers: one that cannot be written does not stop the service."""

import json
import os
import threading
from pathlib import Path

import pytest

from ingest.metrics import Metrics
from ingest.service.http_endpoints import HttpEndpoints
from ingest.settings import load
from tests.unit.ingest.control.conftest import FakeCommands, FakeProbe


def endpoints(ready_file: Path, metrics: Metrics) -> HttpEndpoints:
    settings = load({"K2_READY_FILE": str(ready_file), "K2_METRICS_PORT": "0"})
    return HttpEndpoints(settings, metrics, FakeProbe(), FakeCommands())


def failures(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("ingest_observer_failures_total", {"observer": "ready_file"})


def test_the_ready_file_comes_and_goes(tmp_path: Path) -> None:
    metrics, path = Metrics(process=False), tmp_path / "ready.json"
    with endpoints(path, metrics) as opened:
        opened.announce()
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    assert failures(metrics) == 0


def test_a_file_that_cannot_be_written_is_counted_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(process=False)
    with endpoints(tmp_path / "no" / "folder" / "ready.json", metrics) as opened:
        opened.announce()
        opened.announce()
    assert failures(metrics) == 2
    assert len([record for record in caplog.records if "ready_file" in record.getMessage()]) == 1


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    metrics, pipe = Metrics(process=False), tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    with endpoints(pipe, metrics) as opened:
        opened.announce()
        reader.join(10)
    assert pipe.is_fifo()
    assert json.loads(read[0])["pid"] == os.getpid()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    metrics, target, link = Metrics(process=False), tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    with endpoints(link, metrics) as opened:
        opened.announce()
        assert link.is_symlink()
        assert json.loads(target.read_text())["pid"] == os.getpid()
