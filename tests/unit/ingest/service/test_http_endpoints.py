"""The ready file is for observers: one that cannot be written does not stop the service."""

import json
import os
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


@pytest.mark.timeout(20)
def test_what_is_no_regular_file_is_refused_and_a_pipe_without_a_reader_blocks_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metrics, pipe = Metrics(process=False), tmp_path / "pipe"
    os.mkfifo(pipe)
    with endpoints(pipe, metrics) as opened:
        opened.announce()
    with endpoints(tmp_path, metrics) as opened:
        opened.announce()
    assert failures(metrics) == 2
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
    assert f"K2_READY_FILE={pipe}: not a regular file" in caplog.text


def test_the_draft_of_an_earlier_process_is_replaced_and_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    metrics, path, other = Metrics(process=False), tmp_path / "ready.json", tmp_path / "other"
    other.write_text("mine")
    (tmp_path / f".ready.json.{os.getpid()}").symlink_to(other)
    with endpoints(path, metrics) as opened:
        opened.announce()
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert other.read_text() == "mine"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    metrics, target, link = Metrics(process=False), tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    with endpoints(link, metrics) as opened:
        opened.announce()
        assert link.is_symlink()
        assert json.loads(target.read_text())["pid"] == os.getpid()
