"""Deployments by a person in a browser, on the real parts: sent, approved, refused, marked, cleared, deleted.

Part of ``make ui``. ``UI_ALL=1`` plays each kind of interruption in each state that waits.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest

from ingest_ops.airflow.deployment_tasks import deployment_name
from ingest_ops.deployment.state_machine import State
from tests.campaigns.deployment.airflow_environment import CONF, DAG, LIMIT, AirflowEnvironment, opened
from tests.campaigns.ui.forms import FORMS
from tests.campaigns.ui.pictures import FOLDER
from tests.harness.airflow_pages import AirflowPages, Value, link
from tests.harness.browser import Browser, BrowserUnavailable
from tests.harness.kafka import KafkaUnavailable
from tests.harness.prometheus import PrometheusUnavailable

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(3600)]

EVERY = [
    (state, act) for state in (State.SHADOW, State.APPROVAL, State.VALIDATE) for act in ("fail", "clear", "delete")
]
CHOSEN = [
    (State.SHADOW, "fail"), (State.SHADOW, "clear"), (State.APPROVAL, "delete"), (State.VALIDATE, "fail"),
    (State.VALIDATE, "delete"),
]  # fmt: skip
OUTCOMES = {
    (State.SHADOW, "fail"): State.ABORTED, (State.SHADOW, "clear"): State.DONE,
    (State.SHADOW, "delete"): State.ABORTED,
    (State.APPROVAL, "fail"): State.ABORTED, (State.APPROVAL, "clear"): State.DONE,
    (State.APPROVAL, "delete"): State.ABORTED,
    (State.VALIDATE, "fail"): State.ROLLED_BACK, (State.VALIDATE, "clear"): State.DONE,
    (State.VALIDATE, "delete"): State.ROLLED_BACK,
}  # fmt: skip
"""Without its run a deployment is undone; a run that is cleared goes on with it."""
PLAYED = list(OUTCOMES) if os.environ.get("UI_ALL") else CHOSEN


@dataclass(frozen=True)
class Site:
    """The real parts with an Airflow that deploys, and its pages."""

    env: AirflowEnvironment
    pages: AirflowPages

    def send(self, version: str, *, approval: bool = False) -> str:
        """Fill in the form and send it; the id of the run."""
        self.pages.form(DAG)
        typed: dict[str, Value] = {name: f"{value:g}" for name, value in CONF.items()}
        self.pages.fill({"version": version, "approval": approval, **typed}, FORMS[DAG].sections)
        return self.pages.send()

    def until(self, run: str, state: State) -> None:
        """Wait until a run's deployment is in a state. Fails at once where it is over before."""

        def there() -> bool:
            record = self.env.record(run)
            assert record is None or record.state is state or not record.finished, record.facts.reason
            return record is not None and record.state is state

        self.env.airflow.wait(there, f"{state} of {run}", seconds=LIMIT)

    def outcome(self, run: str) -> State:
        """Wait for the end of a run's deployment; how it ended."""

        def over() -> bool:
            record = self.env.record(run)
            return record is not None and record.finished

        self.env.airflow.wait(over, f"the end of {run}", seconds=LIMIT)
        record = self.env.record(run)
        assert record is not None
        return record.state

    def report(self, run: str) -> dict[str, Any]:
        """The final report of a run's deployment."""
        name = deployment_name(DAG, run)
        self.env.airflow.wait(
            lambda: self.env.field.report(name).get("state") in (State.DONE, State.ABORTED, State.ROLLED_BACK),
            f"the report of {run}", seconds=LIMIT,
        )  # fmt: skip
        return self.env.field.report(name)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[Site]:
    try:
        with Browser() as browser, opened(tmp_path_factory.mktemp("ui-deploy"), kafka) as env:
            browser.window(width=1400, height=1000)
            yield Site(env, AirflowPages(browser, env.airflow.url))
    except (BrowserUnavailable, KafkaUnavailable, PrometheusUnavailable) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def ask(site: Site, version: str) -> tuple[str, str]:
    """Send a deployment that needs an approval, and open its question; the run and what the page says."""
    run = site.send(version, approval=True)
    site.until(run, State.APPROVAL)
    site.env.airflow.wait(lambda: site.env.asked(run), "the question", seconds=LIMIT)
    return run, site.pages.question(DAG, run, "approve")


def answer(site: Site, run: str, option: str) -> None:
    """Press a button. Airflow loses an answer within moments of the question: then it is pressed once more."""

    def taken() -> bool:
        if site.env.task(run, "approve") in ("success", "failed", "skipped"):
            return True
        site.pages.question(DAG, run, "approve")
        return site.pages.answer(option) < 300

    site.env.airflow.wait(taken, "an answer that is taken", seconds=LIMIT)


def test_a_deployment_is_sent_approved_with_evidence_and_its_links_lead_to_the_report(site: Site) -> None:
    browser, pages, airflow = site.pages.browser, site.pages, site.env.airflow
    run, text = ask(site, "v2")
    browser.picture(FOLDER / "question.png")
    assert "Let v2 take over?" in text
    assert "G1" in text, "the gates are the evidence"
    report = f"/k2/reports/deployments/{deployment_name(DAG, run)}.html"
    pages.visit("/required_actions")
    browser.until(link(f"{run}/tasks/approve/required_actions"), "the question in the list of all questions")

    # The report is there before the answer, on the tab of the run.
    pages.visit(pages.run_path(DAG, run, "plugin", "k2-run-report"))
    assert "APPROVAL" in pages.framed("the report of the run")
    browser.picture(FOLDER / "run-report.png")

    answer(site, run, "Approve")
    assert site.outcome(run) is State.DONE
    assert site.report(run)["verdict"] == "PASS"
    assert site.env.end(run) == "success"
    record = site.env.record(run)
    assert record is not None
    assert record.facts.decision == "approved"

    found = airflow.api(f"dags/{DAG}/dagRuns/{quote(run, safe='')}/taskInstances/report/links")
    assert found["extra_links"] == {"Deployment report": report}
    pages.visit(pages.run_path(DAG, run, "tasks", "report", "details"))
    browser.until(link(report), "the link *Deployment report* on the page of the task")
    browser.visit(f"{airflow.url}{report}")
    text = str(browser.evaluate("document.body.innerText"))
    assert "v2 →" in text
    assert "PASS" in text
    browser.picture(FOLDER / "deployment-report.png")


def test_a_deployment_is_refused(site: Site) -> None:
    before = site.env.field.writers()
    run, _ = ask(site, "v3")
    answer(site, run, "Reject")
    assert site.outcome(run) is State.ABORTED
    assert site.report(run)["facts"]["decision"] == "rejected"
    assert site.env.end(run) == "failed"
    assert site.env.field.writers() == before


@pytest.mark.parametrize(("state", "act"), PLAYED, ids=str)
def test_a_run_is_marked_cleared_or_deleted_while_its_deployment_is_open(site: Site, state: State, act: str) -> None:
    (before,) = site.env.field.writers()
    run = site.send("v3", approval=state is State.APPROVAL)
    site.until(run, state)
    {"fail": site.pages.mark_failed, "clear": site.pages.clear, "delete": site.pages.delete}[act](DAG, run)
    if act == "clear" and state is State.APPROVAL:
        site.env.airflow.wait(lambda: site.env.asked(run), "the question once more", seconds=LIMIT)
        answer(site, run, "Approve")
    expected = OUTCOMES[state, act]
    assert site.outcome(run) is expected
    report = site.report(run)
    if expected is State.DONE:
        assert site.env.end(run) == "success"
        site.env.only_writer({"blue": "green", "green": "blue"}[before])
    else:
        assert "its run is over" in report["facts"]["reason"]
        site.env.only_writer(before)
    assert site.env.audit() == "PASS"
