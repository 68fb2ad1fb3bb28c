"""Forms, tabs, themes and the way back from the login, in a browser in front of a real Airflow: ``make ui``.

Its DAGs are paused, so that a run that was sent is looked at and does nothing.
"""

import json
import os
import secrets
import shutil
import sys
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.campaigns.ui.forms import FORMS
from tests.campaigns.ui.pictures import FOLDER
from tests.harness import loopback
from tests.harness.airflow import Airflow
from tests.harness.airflow_pages import FRAME, AirflowPages, RefusedError
from tests.harness.browser import CONTRAST, Browser, BrowserUnavailable
from tests.harness.kafka import free_ports
from tests.harness.processes import ROOT, Process

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(1200)]

DAGS = sorted(path.stem for path in (ROOT / "dags").glob("*.py"))
PICTURES = FOLDER
DESK, PHONE = 1400, 390
REPORTS = {
    "deployments": "drill-dies-in-validation",
    "soak": "soak-1h-20261130-043841",
    "validation": "2026-01-21-7d",
}
"""The examples that lie among the reports of this Airflow."""
AIRFLOW_S_OWN = (
    ("/static/wasm/sqlparser_rs_wasm.js", "a file that its distribution lacks: the SQL of rendered templates is plain"),
    ("/tries/", "the details of a task that has not begun"),
)
"""Requests of Airflow's own pages that it refuses itself."""


@dataclass(frozen=True)
class Site:
    """Airflow, and its pages in a browser."""

    airflow: Airflow
    pages: AirflowPages

    @property
    def browser(self) -> Browser:
        """The browser."""
        return self.pages.browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("ui")
    reports = folder / "reports"
    for kind, name in REPORTS.items():
        (reports / kind).mkdir(parents=True)
        for path in (ROOT / "reports" / "examples" / kind).glob(f"{name}.*"):
            shutil.copy(path, reports / kind)
    environment = {
        "K2_DEPLOY_REPORTS": str(reports), "K2_REPORT_REPORTS": str(reports),
        "K2_DEPLOY_JOURNAL_URL": f"sqlite:///{folder / 'journal.db'}",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
    }  # fmt: skip
    try:
        with Browser() as browser, Airflow(folder / "airflow", environment=environment) as airflow:
            for dag in DAGS:
                airflow.wait(lambda dag=dag: airflow.knows(dag), f"the DAG {dag}")  # type: ignore[misc]
                airflow.pause(dag)
            yield Site(airflow, AirflowPages(browser, airflow.url))
    except BrowserUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def desk(site: Site) -> None:
    site.browser.window(width=DESK, height=1000)


def test_every_dag_has_its_form_here() -> None:
    assert sorted(FORMS) == DAGS


@pytest.mark.parametrize("dag", DAGS)
def test_a_form_refuses_what_is_bad_with_its_reason_and_sends_what_is_good(site: Site, dag: str) -> None:
    form, pages = FORMS[dag], site.pages
    pages.form(dag)
    pages.keep_paused()
    for name in form.incomplete:
        pages.fill({name: ""}, form.sections)
        pages.complete(expected=False)
        pages.fill({name: form.good[name]}, form.sections)
        pages.complete()
    if form.bad:
        pages.fill(form.bad, form.sections)
        with pytest.raises(RefusedError) as refused:
            pages.send()
        assert form.refusal in str(refused.value)
    pages.fill(form.good, form.sections)
    site.browser.picture(PICTURES / f"form-{dag}.png")
    before = confs(site.airflow, dag)
    run = pages.send()
    after = confs(site.airflow, dag)
    assert after.keys() - before.keys() == {run}, "one run for one form"
    assert after[run] == dict(form.conf)


@pytest.mark.parametrize("dag", DAGS)
def test_every_tab_of_a_dag_its_run_and_its_tasks_opens(site: Site, dag: str) -> None:
    pages, airflow = site.pages, site.airflow
    runs = airflow.api(f"dags/{dag}/dagRuns")["dag_runs"]
    run = str(runs[0]["dag_run_id"]) if runs else airflow.trigger_paused(dag)
    wrong: list[str] = []
    visited = 0
    for path, last in (
        (f"/dags/{dag}", "/plugin/k2-dag-reports"),
        (pages.run_path(dag, run), "/plugin/k2-run-report"),
        (pages.run_path(dag, run, "tasks", next(iter(airflow.tasks(dag, run)))), "/details"),
    ):
        pages.visit(path)
        tabs = pages.tabs(last)
        assert len(tabs) > 4, tabs
        for tab in tabs:
            wrong += pages.look(tab)
            visited += 1
            if "/plugin/" in tab:
                assert "K2 INGEST" in pages.framed(tab)
    assert visited > 15
    assert [one for one in wrong if not any(part in one for part, _ in AIRFLOW_S_OWN)] == []


@pytest.mark.parametrize("system", ["light", "dark"])
@pytest.mark.parametrize("theme", ["light", "dark", "system"])
def test_the_frame_of_the_reports_has_airflow_s_theme(site: Site, theme: str, system: str) -> None:
    site.browser.window(width=DESK, height=1000, dark=system == "dark")
    site.pages.visit("/")
    site.pages.theme(theme)
    try:
        site.pages.visit("/plugin/k2-reports")
        site.pages.framed("the list")
        listed = f"""{FRAME}.contentDocument.querySelectorAll("a[href$='{REPORTS["soak"]}.html']").length"""
        assert site.browser.evaluate(listed)
        wanted = {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 20, 25)"}[system if theme == "system" else theme]
        ground = f"getComputedStyle({FRAME}.contentDocument.body).backgroundColor"
        assert site.browser.evaluate(ground) == wanted
        site.browser.picture(PICTURES / f"reports-{theme}-on-{system}.png")
    finally:
        site.pages.theme("system")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("path", ["", *(f"{kind}/{name}.html" for kind, name in REPORTS.items())])
def test_the_pages_as_airflow_serves_them_fit_a_phone(site: Site, path: str, dark: bool) -> None:
    browser = site.browser
    browser.window(width=PHONE, dark=dark)
    browser.visit(f"{site.airflow.url}/k2/reports/{path}")
    assert browser.evaluate("document.documentElement.scrollWidth") <= PHONE
    ratio, _, text = str(browser.evaluate(CONTRAST)).partition(" ")
    assert float(ratio) >= 4.5, f"contrast {ratio} of {text!r}"
    browser.picture(PICTURES / f"phone-{path.partition('/')[0] or 'list'}-{'dark' if dark else 'light'}.png")


def test_every_link_of_the_list_leads_to_its_report(site: Site) -> None:
    browser = site.browser
    browser.visit(f"{site.airflow.url}/k2/reports/")
    links = browser.evaluate("[...document.querySelectorAll('a')].map(one => one.href)")
    assert sum(one.endswith(".html") for one in links) >= len(REPORTS)
    for one in sorted(set(links)):
        browser.forget()
        browser.visit(one)
        assert [answer for answer in browser.answers if answer.status >= 400] == [], one


def test_after_the_login_the_report_is_shown_that_was_asked_for(site: Site, tmp_path: Path) -> None:
    """A second API server of the same Airflow, which asks for a password."""
    (port,) = free_ports(1)
    url, password = f"http://127.0.0.1:{port}", secrets.token_urlsafe(12)
    passwords = tmp_path / "passwords.json"
    passwords.write_text(json.dumps({"admin": password}))
    environment = site.airflow.environment | {
        "AIRFLOW__API__PORT": str(port), "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
    }  # fmt: skip
    server = Process(
        "api-with-login", [sys.executable, "-m", "airflow", "api-server"], directory=tmp_path, environment=environment
    )
    browser, wanted = site.browser, f"{url}/k2/reports/?kind=soak&verdict=PASS"
    server.start(wait=False)
    try:
        site.airflow.wait(lambda: answers(f"{url}/api/v2/version"), "the API server with a login")
        browser.visit(wanted)
        browser.until("document.querySelector('input[type=password]')", "the login")
        browser.fill("document.querySelector('input[name=username]')", "admin")
        browser.fill("document.querySelector('input[type=password]')", password)
        browser.key("Enter")
        browser.until("location.pathname === '/k2/reports/'", "the report that was asked for")
        assert browser.evaluate("location.href") == wanted
        assert browser.until("document.querySelector('h1')?.innerText", "its heading") == "Reports"
    finally:
        server.terminate(10.0)


def confs(airflow: Airflow, dag: str) -> dict[str, object]:
    """Run -> what it was given."""
    return {str(one["dag_run_id"]): one["conf"] for one in airflow.api(f"dags/{dag}/dagRuns")["dag_runs"]}


def answers(url: str) -> bool:
    """Whether something answers there."""
    try:
        with loopback.urlopen(url, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False
