"""Deployments under a real Airflow, on the real parts: ``make deploy-airflow`` (about twenty minutes)."""

import contextlib
import os
import time
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from ingest_ops.deployment.machine import State
from ingest_ops.deployment.tasks import deployment_name
from tests.ops.deployment.field import Field
from tests.support.airflow import Airflow
from tests.support.kafka import KafkaUnavailable
from tests.support.prometheus import PrometheusUnavailable

DAG = "deploy_blue_green"
CONF: dict[str, Any] = {
    "watch_minutes": 0.5, "validate_minutes": 0.4, "hold_minutes": 0.1, "holds": 1, "grace_seconds": 8,
    "scrape_seconds": 1, "min_compared": 500, "max_memory_mb": 300, "min_coverage": 0.8,
}  # fmt: skip
LIMIT = 900.0

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(3600)]


@dataclass
class Site:
    field: Field
    airflow: Airflow

    def state(self, run: str) -> str:
        """Where the journal says that a run's deployment stands; empty before it is opened."""
        from ingest_ops.deployment.journal import Journal, NoSuchDeployment

        journal = Journal(f"sqlite:///{self.field.directory / 'journal.db'}", lambda: time.time_ns() / 1e9)
        try:
            return str(journal.read(deployment_name(DAG, run)).state)
        except NoSuchDeployment:
            return ""
        finally:
            journal.close()

    def until(self, run: str, *states: State) -> None:
        self.airflow.wait(lambda: self.state(run) in states, f"{states} of {run}", seconds=LIMIT)

    def end(self, run: str, dag: str = DAG) -> str:
        over = ("success", "failed")
        self.airflow.wait(lambda: self.airflow.run_state(dag, run) in over, f"the end of {run}", seconds=LIMIT)
        return self.airflow.run_state(dag, run)

    def report(self, run: str, dag: str = DAG) -> dict[str, Any]:
        return self.field.report(deployment_name(dag, run))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[Site]:
    """A small market, blue with v1, and an Airflow that deploys."""
    folder = tmp_path_factory.mktemp("airflow-deploy")
    try:
        with (
            Field(folder / "field", kafka, rate=100, symbols=2, scrape_seconds=1.0, topic="trades.airflow") as field,
            Airflow(folder / "airflow", environment=_environment(field)) as airflow,
        ):
            airflow.wait(lambda: _answers(airflow), "an API server that has warmed up", seconds=LIMIT)
            yield Site(field, airflow)
    except (KafkaUnavailable, PrometheusUnavailable) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def _answers(airflow: Airflow) -> bool:
    """Its first answers take longer than a client waits, on a slow machine."""
    try:
        return airflow._known(DAG)
    except OSError:  # time-outs among them
        return False


def _environment(field: Field) -> dict[str, str]:
    kept = {key: value for key, value in field.deploy_environment().items() if key.startswith("K2_")}
    return kept | {"K2_DEPLOY_LEASE_SECONDS": "60", "K2_REPORT_REPORTS": str(field.directory / "reports")}


def test_a_good_version_goes_live_although_everybody_is_killed_once(site: Site) -> None:
    airflow, field = site.airflow, site.field
    run = "manual__by-the-command-line"
    airflow.cli("dags", "trigger", DAG, "--run-id", run, "--conf", _json({**CONF, "version": "v2"}))
    site.until(run, State.SHADOW)
    for name in ("triggerer", "scheduler"):
        airflow.kill(name)
        airflow.start(name)
        time.sleep(5.0)
    field.agent_process.kill()
    field.start_agent()
    site.until(run, State.VALIDATE)
    field.wait(lambda: field.writers() == ["green"], "green as the only writer")
    for name in ("scheduler", "triggerer"):
        airflow.kill(name)
        airflow.start(name)
    assert site.end(run) == "success", airflow.tasks(DAG, run)
    report = site.report(run)
    assert (report["state"], report["verdict"]) == ("DONE", "PASS")
    assert report["facts"]["audit"]["verdict"] == "PASS"
    assert report["trail"]["chain"] == "unbroken"
    assert field.writers() == ["green"]
    assert not field.agent.status("blue").running
    assert airflow.tasks(DAG, run)["roll_back"]["state"] == "skipped"
    assert airflow.tasks(DAG, run)["approve"]["state"] == "skipped"


def test_a_version_that_dies_as_the_writer_is_rolled_back(site: Site) -> None:
    before = site.field.writers()
    run = site.airflow.trigger(DAG, {**CONF, "version": "dies-in-validation"})
    assert site.end(run) == "failed"
    report = site.report(run)
    assert (report["state"], report["facts"]["failed_in"]) == ("ROLLED_BACK", "VALIDATE")
    assert "ended with -9" in report["facts"]["reason"]
    assert report["facts"]["audit"]["verdict"] == "PASS"
    assert site.field.writers() == before
    assert site.airflow.tasks(DAG, run)["report"]["state"] == "failed"


def test_a_version_that_alters_a_field_never_writes(site: Site) -> None:
    before = site.field.writers()
    run = site.airflow.trigger(DAG, {**CONF, "version": "alters"})
    assert site.end(run) == "failed"
    report = site.report(run)
    assert (report["state"], report["facts"]["failed_in"]) == ("ABORTED", "SHADOW")
    assert report["facts"]["reason"].startswith("G7a")
    assert report["facts"]["new_generation"] is None
    assert site.field.writers() == before


@pytest.mark.parametrize(("answer", "end", "state"), [("Reject", "failed", "ABORTED"), ("Approve", "success", "DONE")])
def test_a_person_is_asked_and_obeyed(site: Site, answer: str, end: str, state: str) -> None:
    run = site.airflow.trigger(DAG, {**CONF, "version": "v3", "approval": True})
    site.airflow.wait(
        lambda: site.airflow.tasks(DAG, run)["approve"]["state"] in ("awaiting_input", "deferred"),
        "the question",
        seconds=LIMIT,
    )
    path = f"dags/{DAG}/dagRuns/{quote(run, safe='')}/taskInstances/approve/-1/hitlDetails"

    def answered() -> bool:
        """Airflow loses an answer within moments of the question, and where a retry asks anew: say it again."""
        time.sleep(10.0)
        with contextlib.suppress(urllib.error.HTTPError):  # 409: it has the answer
            site.airflow.api(path, method="PATCH", body={"chosen_options": [answer], "params_input": {}})
        return site.airflow.tasks(DAG, run)["approve"]["state"] in ("success", "failed")

    site.airflow.wait(answered, "an answer that is taken", seconds=LIMIT)
    assert site.end(run) == end
    assert site.report(run)["state"] == state


def test_a_key_that_does_not_exist_is_refused_before_anything_is_begun(site: Site) -> None:
    run = site.airflow.trigger(DAG, {**CONF, "version": "v2", "watch_minuts": 1})
    assert site.end(run) == "failed"
    assert site.airflow.tasks(DAG, run)["check"]["state"] == "failed"
    assert site.state(run) == ""
    assert "unknown: watch_minuts" in site.airflow.task_log(DAG, run, "check")


def test_a_person_rolls_back_to_what_ran_before(site: Site) -> None:
    (before,) = site.field.writers()
    run = site.airflow.trigger("roll_back", {})
    assert site.end(run, "roll_back") == "success"
    report = site.report(run, "roll_back")
    assert report["state"] == "ROLLED_BACK"
    assert site.field.writers() == [{"blue": "green", "green": "blue"}[before]]


def _json(conf: dict[str, Any]) -> str:
    import json

    return json.dumps(conf)
