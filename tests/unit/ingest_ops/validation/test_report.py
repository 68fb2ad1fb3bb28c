"""What failed, and what fired, leads to the runbook and to the charts of that time."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from ingest_ops.common.report_settings import DAY, Limits, ReportSettings
from ingest_ops.common.verdict import Verdict
from ingest_ops.render.html import to_html
from ingest_ops.validation import day_store, report
from ingest_ops.validation.incident_timeline import incident_timeline
from ingest_ops.validation.week import Input, Week
from tests.harness.production_week import EightDays, calm, eventful
from tests.unit.ingest_ops.validation.days import dates, day_of, evidence

STEP = 60.0
PUBLIC = ReportSettings(
    prometheus_url="http://prometheus:9090", prometheus_public_url="https://prometheus.example",
    grafana_url="https://grafana.example", docs_url="https://git.example/docs",
)  # fmt: skip


def page_of(world: EightDays, folder: Path, settings: ReportSettings) -> tuple[Week, str]:
    """Seven days of a world, kept in a folder and judged, and their page."""
    settings = replace(settings, reports=folder)
    days = {when: day_of(world, at) for at, when in enumerate(dates(0, 6))}
    for day in days.values():
        day_store.save(settings.days, day)
    week = Week.judge(Input(dates(0, 6), days, {}, evidence()), Limits())
    return week, to_html(report.page(week, (), incident_timeline(week), settings, "2026-01-28T00:20:00Z"))


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> str:
    week, text = page_of(eventful(step=STEP), tmp_path_factory.mktemp("eventful"), PUBLIC)
    assert week.verdict is Verdict.FAIL
    return text


def test_nothing_leads_to_a_container(failed: str) -> None:
    assert "http://prometheus:9090" not in failed
    assert 'href="https://prometheus.example/graph?' in failed


def test_every_alert_that_fired_leads_to_its_section_and_to_its_time(failed: str) -> None:
    names = set(re.findall(r'runbook\.md#\w+">(\w+)</a>', failed))
    assert names
    assert all(f'runbook.md#{name.lower()}">{name}<' in failed for name in names)
    alerts = failed.partition("Alerts that fired (")[2].partition("</table>")[0]
    rows = alerts.count("<tr") - 1
    assert rows == int(re.match(r"\d+", alerts)[0])  # type: ignore[index]
    assert alerts.count("https://grafana.example/d/k2-operations?from=") == rows


def test_a_criterion_that_failed_on_a_day_leads_to_the_charts_of_that_day(failed: str) -> None:
    spans = re.findall(r"k2-operations\?from=(\d+)&amp;to=(\d+)", failed)
    lengths = {(int(end) - int(start)) / 1000 - 600 for start, end in spans}
    assert any(length % DAY == 0 and 0 < length < 7 * DAY for length in lengths), "from the first such day to the last"
    assert max(lengths) == 7 * DAY, "the whole window, at the top"


def test_days_that_pass_lead_to_how_they_were_judged_and_to_no_runbook(tmp_path: Path) -> None:
    week, text = page_of(calm(step=STEP), tmp_path, PUBLIC)
    assert week.verdict is Verdict.PASS
    assert "https://git.example/docs/explanation/reading_seven_days.md" in text
    assert "runbook.md" not in text


def test_without_addresses_a_report_has_no_links_elsewhere(tmp_path: Path) -> None:
    _, text = page_of(eventful(step=STEP), tmp_path, ReportSettings(prometheus_url="http://127.0.0.1:9090"))
    assert set(re.findall(r'href="(https?://[^/"]+)', text)) == {"http://127.0.0.1:9090"}
