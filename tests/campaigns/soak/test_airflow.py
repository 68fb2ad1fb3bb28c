"""The soak DAG under a real scheduler, on a real service: ``make soak-airflow`` (about ten minutes)."""

import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ingest_ops.soak.plan import MB, SOAK_3MIN
from ingest_ops.soak.record import CANDIDATE
from ingest_ops.soak.report import SCHEMA
from tests.campaigns.soak.environment import LEAKY, Feed, SoakEnvironment
from tests.harness.airflow import Airflow
from tests.harness.kafka import KafkaUnavailable
from tests.harness.processes import ROOT
from tests.harness.prometheus import PrometheusUnavailable

DAG = "soak_1h"
DONE = ("success", "failed")
SLOW_MACHINE = 900

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(3 * SLOW_MACHINE)]


@dataclass
class WatchedSoak:
    """A service, its Prometheus, and the Airflow that watches it."""

    world: SoakEnvironment
    airflow: Airflow
    reports: Path

    def wait(self, run: str, *, seconds: float = SLOW_MACHINE) -> str:
        """Until the run is over; its state."""
        self.airflow.wait(lambda: self.airflow.run_state(DAG, run) in DONE, f"the end of {run}", seconds=seconds)
        return self.airflow.run_state(DAG, run)

    def deferred(self, run: str, *, records: int = 1) -> None:
        """Until the watch waits without a worker and the first sample is there."""
        state = "deferred"
        self.airflow.wait(lambda: self.airflow.tasks(DAG, run)["watch"]["state"] == state, "the deferral", seconds=300)
        self.airflow.wait(lambda: len(self.records()) >= records, "the first sample", seconds=300)

    def records(self) -> list[Path]:
        """Records, without the auditor's figures."""
        return [path for path in (self.reports / "records").glob("*.json") if ".audit" not in path.name]

    def report(self, run: str) -> dict[str, Any]:
        """What the run's report says, checked against the published schema."""
        link = self.airflow.api(f"dags/{DAG}/dagRuns/{run.replace('+', '%2B')}/taskInstances/verdict/links")
        name = link["extra_links"]["Soak report"].rsplit("/", 1)[-1].removesuffix(".html")
        data: dict[str, Any] = json.loads((self.reports / f"{name}.json").read_text())
        jsonschema.validate(data, json.loads(SCHEMA.read_text()))
        assert (self.reports / f"{name}.html").stat().st_size > 10_000
        return data


@pytest.fixture
def site(tmp_path: Path) -> Iterator[WatchedSoak]:
    """A small market, a sound service, a leaky one beside it, Prometheus and Airflow."""
    feed = Feed(symbols=5, rate=200.0, scrape_seconds=1.5, leaky_beside=40_000)
    try:
        with SoakEnvironment(tmp_path, feed) as world:
            world.wait_for_scrape()
            audit = [*world.audit_command(), "--ledger", world.stack.simulator.admin_url]
            environment = {
                "K2_REPORT_PROMETHEUS_URL": world.prometheus.url,
                "K2_REPORT_SELECTOR": f'slot="{CANDIDATE}"',
                "K2_REPORT_REPORTS": str(tmp_path / "reports"),
                "K2_REPORT_AUDIT_COMMAND": shlex.join(audit),
            }
            dags = tmp_path / "dags"  # this one alone: the others have schedules of their own
            dags.mkdir()
            shutil.copy(ROOT / "dags" / f"{DAG}.py", dags)
            with Airflow(tmp_path / "airflow", environment=environment, dags=dags) as airflow:
                yield WatchedSoak(world, airflow, tmp_path / "reports" / "soak")
    except (KafkaUnavailable, PrometheusUnavailable) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def test_passes_although_triggerer_and_scheduler_are_killed_and_fails_fast_on_memory(site: WatchedSoak) -> None:
    airflow = site.airflow
    run = airflow.trigger(DAG, {"plan": "3min"})
    site.deferred(run)
    killed = {}
    for component in ("triggerer", "scheduler"):
        time.sleep(25.0)
        airflow.kill(component)
        killed[component] = time.time()  # noqa: TID251 - compared with the record's own stamps
        time.sleep(5.0)
        airflow.start(component)

    assert site.wait(run) == "success", airflow.tasks(DAG, run)
    report = site.report(run)
    assert report["verdict"] == "PASS"
    assert len(report["samples"]["candidate"]) >= 0.95 * SOAK_3MIN.expected_samples
    assert report["audit"]["verdict"] == "PASS"
    begun = report["samples"]["candidate"][0]["at"]
    assert all(begun < at < report["samples"]["candidate"][-1]["at"] for at in killed.values())
    assert any(event["kind"] == "resumed" for event in report["events"])

    run = airflow.trigger(DAG, {"plan": "3min", "selector": f'slot="{LEAKY}"'})
    site.deferred(run, records=2)
    site.world.services[LEAKY].signal(signal.SIGUSR1)
    assert site.wait(run) == "failed"
    tasks = airflow.tasks(DAG, run)
    assert [name for name, one in tasks.items() if one["state"] == "failed"] == ["verdict"]
    report = site.report(run)
    assert report["verdict"] == "FAIL"
    assert report["state"] == "aborted"
    assert "above the limit of 400 MB" in report["reason"]
    assert report["reason"] in airflow.task_log(DAG, run, "verdict")
    above = [one["at"] for one in report["samples"]["candidate"] if one["rss"] > SOAK_3MIN.abort_mb * MB]
    ended = next(event["at"] for event in report["events"] if event["kind"] == "aborted")
    assert len(above) == 1
    assert ended - above[0] < 2 * SOAK_3MIN.sample_seconds
    sys.stdout.write(f"noticed {ended - above[0]:.1f} s after the sample\n")
