"""Deployments under a real Airflow, on the real parts: ``make deploy-airflow`` (about half an hour).

The scheduler, the triggerer and the agent are each killed at each step; what became of it is written into
``reports/deployments/kills.html``.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from ingest_ops.deployment.state_machine import State
from tests.campaigns.deployment import kills
from tests.campaigns.deployment.airflow_environment import CONF, DAG, LIMIT, AirflowEnvironment, opened
from tests.harness.kafka import KafkaUnavailable
from tests.harness.prometheus import PrometheusUnavailable

SOAK = "soak_1h"
FORWARD = (
    State.PLAN, State.BUILD, State.STANDBY, State.SHADOW, State.APPROVAL, State.HANDOVER, State.VALIDATE, State.RETIRE,
    State.DONE,
)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[AirflowEnvironment]:
    """A small market, blue with v1, and an Airflow that deploys. Afterwards the report of all kills."""
    try:
        with opened(tmp_path_factory.mktemp("airflow-deploy"), kafka) as made:
            yield made
            if made.outcomes:
                kills.keep_reports(made)
                kills.say(f"{kills.write(made.outcomes, made.others)}")
    except (KafkaUnavailable, PrometheusUnavailable) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def by_command(site: AirflowEnvironment, conf: dict[str, Any]) -> str:
    """The single command of the documentation."""
    run = "manual__by-the-command-line"
    site.airflow.cli("dags", "trigger", DAG, "--run-id", run, "--conf", json.dumps(conf))
    return run


def test_a_key_that_does_not_exist_is_refused_before_anything_is_begun(site: AirflowEnvironment) -> None:
    run = site.airflow.trigger(DAG, {**CONF, "version": "v2", "watch_minuts": 1})
    assert site.end(run) == "failed"
    assert site.task(run, "check") == "failed"
    assert site.record(run) is None
    log = site.airflow.task_log(DAG, run, "check")
    assert "conf: unknown: watch_minuts; allowed are " in log
    site.others.append(("A key that does not exist", "refused by the task check: conf: unknown: watch_minuts"))


def test_the_scheduler_dies_at_every_step_of_a_good_version(site: AirflowEnvironment) -> None:
    part = kills.parts(site)["scheduler"]
    done = kills.deploy(
        site, part, FORWARD, version="v2", expected=State.DONE, answer="Approve", trigger=lambda c: by_command(site, c)
    )
    assert not done.wrong
    assert "approved by" in _reason(site, done.name, "APPROVAL -> HANDOVER")


def test_the_agent_dies_at_every_step_of_a_good_version(site: AirflowEnvironment) -> None:
    part = kills.parts(site)["agent"]
    done = kills.deploy(site, part, FORWARD, version="v3", expected=State.DONE, answer="Approve")
    assert not done.wrong


def test_the_triggerer_dies_at_every_step_of_a_good_version(site: AirflowEnvironment) -> None:
    """Those that come within seconds of each other are left to the deployments below: it could not be back by then."""
    part = kills.parts(site)["triggerer"]
    steps = (State.PLAN, State.SHADOW, State.APPROVAL, State.HANDOVER, State.VALIDATE, State.RETIRE)
    done = kills.deploy(site, part, steps, version="v2", expected=State.DONE, answer="Approve")
    assert not done.wrong


def test_a_soak_and_a_deployment_keep_each_other_out_and_a_person_rolls_back(site: AirflowEnvironment) -> None:
    airflow = site.airflow
    soak = airflow.trigger(SOAK, {"trial_seconds": 600})
    airflow.wait(lambda: airflow.tasks(SOAK, soak)["watch"]["state"] == "deferred", "a soak", seconds=LIMIT)

    def after_the_soak(conf: dict[str, Any]) -> str:
        run = airflow.trigger(DAG, conf)
        airflow.wait(
            lambda: site.task(run, "wait_for_open_deployment") in ("up_for_reschedule", "running"),
            "the wait",
            seconds=LIMIT,
        )
        airflow.wait(lambda: site.task(run, "acquire_pool") in ("scheduled", "queued"), "the queue", seconds=LIMIT)
        assert site.record(run) is None, "a deployment has begun beside a soak"
        airflow.end(SOAK, soak)
        airflow.wait(lambda: site.record(run) is not None, "the deployment", seconds=LIMIT)
        return run

    def soak_waits(conf: dict[str, Any]) -> str:
        run = after_the_soak(conf)
        waiting.append(airflow.trigger(SOAK, {"trial_seconds": 600}))
        return run

    waiting: list[str] = []
    done = kills.deploy(
        site, kills.parts(site)["triggerer"], (State.DONE,), version="v3", expected=State.DONE, trigger=soak_waits
    )
    assert not done.wrong
    (second,) = waiting
    # It may be over by then: the slot that it looks at is not the one that writes now.
    airflow.wait(lambda: bool(airflow.tasks(SOAK, second)["watch"]["start_date"]), "the second soak", seconds=LIMIT)
    record = site.journal.read(done.name)
    assert airflow.began(SOAK, second, "watch") >= record.updated, "a soak has begun beside a deployment"
    airflow.pause(SOAK)
    airflow.end_all(SOAK)  # one more follows the deployment by itself
    site.others.append(("Pool", "a deployment waited for a soak's end, and a soak for a deployment's"))

    (before,) = site.field.writers()
    run = airflow.trigger("roll_back", {})
    assert site.end(run, "roll_back") == "success"
    report = site.report(run, "roll_back")
    assert (report["state"], report["verdict"]) == ("ROLLED_BACK", "PASS")
    site.only_writer(kills.OTHER[before])
    assert site.audit() == "PASS"
    facts = report["facts"]
    site.others += [
        ("roll_back by a person, seconds; the other slot had to be started", facts["roll_back_seconds"]),
        ("its visible gap, seconds", facts["roll_back_gap_seconds"]),
    ]
    kills.say(f"roll_back by a person: {facts['roll_back_seconds']} s, gap {facts['roll_back_gap_seconds']} s")


@pytest.mark.parametrize(("name", "steps"), [
    ("scheduler", (State.ROLLING_BACK,)),
    ("triggerer", (State.BUILD, State.ROLLING_BACK)),
    ("agent", (State.ROLLING_BACK,)),
])  # fmt: skip
def test_it_dies_during_the_roll_back_of_a_version_that_died(
    site: AirflowEnvironment, name: str, steps: tuple[State, ...]
) -> None:
    done = kills.deploy(
        site, kills.parts(site)[name], steps, version="dies-in-validation", expected=State.ROLLED_BACK
    )  # fmt: skip
    assert not done.wrong
    facts = site.field.report(done.name)["facts"]
    assert facts["failed_in"] == "VALIDATE"
    assert "ended with -9" in facts["reason"] or "does not run" in facts["reason"]


@pytest.mark.parametrize(("name", "steps"), [
    ("triggerer", (State.STANDBY, State.ABORTING)),
    ("agent", (State.ABORTING,)),
])  # fmt: skip
def test_it_dies_while_a_version_that_alters_is_taken_away(
    site: AirflowEnvironment, name: str, steps: tuple[State, ...]
) -> None:
    done = kills.deploy(site, kills.parts(site)[name], steps, version="alters", expected=State.ABORTED)
    assert not done.wrong
    facts = site.field.report(done.name)["facts"]
    assert facts["reason"].startswith("G7a")
    assert facts["new_generation"] is None


def test_the_scheduler_dies_while_a_rejected_version_is_taken_away(site: AirflowEnvironment) -> None:
    part = kills.parts(site)["scheduler"]
    done = kills.deploy(
        site, part, (State.ABORTING,), version="v2", expected=State.ABORTED, answer="Reject"
    )  # fmt: skip
    assert not done.wrong
    facts = site.field.report(done.name)["facts"]
    assert (facts["failed_in"], facts["decision"]) == ("APPROVAL", "rejected")


def test_the_tasks_of_a_dead_scheduler_live_on_beside_those_of_the_next(site: AirflowEnvironment) -> None:
    part = kills.parts(site)["scheduler, not its tasks"]
    steps = (State.STANDBY, State.HANDOVER, State.RETIRE)
    done = kills.deploy(site, part, steps, version="v2", expected=State.DONE)
    assert not done.wrong


def _reason(site: AirflowEnvironment, name: str, move: str) -> str:
    lines = site.field.report(name)["trail"]["lines"]
    return next(str(line["data"]["reason"]) for line in lines if line["what"] == move)


@pytest.mark.parametrize(("state", "approval"), [(State.SHADOW, False), (State.APPROVAL, True)])
def test_a_run_that_a_person_marks_failed_does_not_go_live(
    site: AirflowEnvironment, state: State, approval: bool
) -> None:
    before = site.field.writers()
    run = site.airflow.trigger(DAG, {**CONF, "version": "v3", "approval": approval})
    site.airflow.wait(lambda: site.state(run) is state, f"{state}", seconds=LIMIT)
    site.airflow.end(DAG, run)
    site.airflow.wait(lambda: _finished(site, run), "its end", seconds=LIMIT)
    record = site.record(run)
    assert record is not None
    assert record.state is State.ABORTED
    assert "its run is over" in record.facts.reason
    assert site.field.writers() == before
    site.airflow.wait(lambda: site.report(run)["state"] == "ABORTED", "its report", seconds=LIMIT)
    site.others.append((f"A run marked failed in {state}", record.facts.reason))


def test_the_id_of_a_run_that_was_deleted_is_not_used_again(site: AirflowEnvironment) -> None:
    run, airflow = "by-a-person", site.airflow
    for version, expected in (("no-such-version", "failed"), ("v3", "failed")):
        airflow.cli("dags", "trigger", DAG, "--run-id", run, "--conf", json.dumps({**CONF, "version": version}))
        assert site.end(run) == expected
        record = site.record(run)
        assert record is not None
        assert (record.plan.version, record.state) == ("no-such-version", State.ABORTED)
        if version == "v3":
            assert "choose another id" in airflow.task_log(DAG, run, "acquire_pool")
        airflow.api(f"dags/{DAG}/dagRuns/{run}", method="DELETE")


def _finished(site: AirflowEnvironment, run: str) -> bool:
    record = site.record(run)
    return record is not None and record.finished
