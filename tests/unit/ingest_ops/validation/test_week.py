"""Days joined, the self-check, the report and its schema."""

import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ingest_ops.common.report_settings import Limits, ReportSettings
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation import checks_alerts_audit, counter_increments, day_store, day_view, report_json, self_check
from ingest_ops.validation.daily import Built, build
from ingest_ops.validation.evidence import Evidence, collect
from ingest_ops.validation.self_check import MUTANTS, try_all
from ingest_ops.validation.week import Input, Week
from tests.harness.production_week import FIRST, calm, eventful
from tests.harness.validation_demo import evidence as write_evidence
from tests.unit.ingest_ops.validation.days import dates, day_of, evidence

STEP = 60.0
EVENTFUL = eventful(step=STEP)
PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@pytest.fixture(scope="module")
def good() -> Week:
    """Three calm days."""
    world = calm(step=STEP)
    when = dates(1, 3)
    days = {one: day_of(world, at) for one, at in zip(when, range(1, 4), strict=True)}
    return Week.judge(Input(when, days, {}, evidence()), Limits())


def test_calm_days_pass(good: Week) -> None:
    assert good.verdict is PASS, good.reasons
    assert good.reasons == ()
    assert [one.verdict for one in good.memory] == [PASS]


def test_every_mutant_is_caught(good: Week) -> None:
    assert [trial.mutant.id for trial in try_all(good) if trial.caught is not True] == []


def test_the_mutants_cover_every_check(good: Week) -> None:
    assert {one.check.id for one in good.checks} == {mutant.check for mutant in MUTANTS}


def test_a_dropped_day_is_inconclusive(good: Week) -> None:
    given = good.given
    kept = {when: day for when, day in given.days.items() if when != given.dates[1]}
    week = Week.judge(dataclasses.replace(given, days=kept, absent={given.dates[1]: "away"}), Limits())
    assert week.verdict is INCONCLUSIVE
    assert {one.verdict for one in week.checks} == {INCONCLUSIVE}
    assert all("away" in reason for reason in week.reasons)


def test_no_day_at_all_is_inconclusive() -> None:
    week = Week.judge(Input(dates(0, 6), {}, {}, Evidence()), Limits())
    assert week.verdict is INCONCLUSIVE
    assert all(trial.caught is None for trial in try_all(week))


BLIND: dict[str, Callable[[], tuple[Any, str, Any]]] = {
    "restarts are not seen by their start times": lambda: (
        counter_increments.Clock, "at",
        lambda self, times: times * 0),
    "coverage is not asked for": lambda: (
        day_view.Coverage, "share", property(lambda self: 1.0)),
    "rules are not asked for": lambda: (
        checks_alerts_audit, "proof", lambda *_: (5760, 5760, [])),
}  # fmt: skip


@pytest.mark.parametrize("blindness", BLIND)
def test_a_blind_judge_does_not_survive_its_self_check(
    good: Week, blindness: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The self-check itself is tried: what it is for is to notice a judge that sees less than it says."""
    target, name, replacement = BLIND[blindness]()
    monkeypatch.setattr(target, name, replacement)
    week = Week.judge(good.given, Limits())
    survivors = [trial for trial in try_all(week) if trial.caught is False]
    assert survivors
    from ingest_ops.validation.report import overall

    verdict, reasons = overall(week, tuple(survivors))
    assert verdict is INCONCLUSIVE
    assert survivors[0].mutant.id in reasons[0]


def write(folder: Path, *, generated_at: str = "2026-01-23T00:20:00Z", world: Any = None) -> Built:
    settings = ReportSettings(reports=folder, scrape_seconds=STEP)
    world = world or EVENTFUL
    for at in range(1, 8):
        if not day_store.path_of(settings.days, FIRST + timedelta(days=at)).exists():
            day_store.save(settings.days, day_of(world, at))
    write_evidence(world, folder)
    return build(settings, FIRST + timedelta(days=7), generated_at=generated_at)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return write(tmp_path_factory.mktemp("reports"))


def test_the_report_keeps_to_its_schema(built: Built) -> None:
    jsonschema.Draft202012Validator.check_schema(report_json.schema())
    data = json.loads(built.paths["json"].read_text())
    jsonschema.Draft202012Validator(report_json.schema()).validate(data)
    assert data["verdict"] == "FAIL"
    assert data["coverage"]["days_with_data"] == 6


def test_the_published_schema_refuses_what_is_no_report(built: Built) -> None:
    data = json.loads(built.paths["json"].read_text())
    changes: list[dict[str, Any]] = [{"verdict": "GOOD"}, {"checks": [{}]}, {"schema_version": 2}, {"more": 1}]
    for change in changes:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(report_json.schema()).validate(data | change)


def test_a_second_run_gives_the_same_bytes_but_for_its_time(built: Built) -> None:
    folder = built.paths["json"].parents[1]
    before = {suffix: path.read_text() for suffix, path in built.paths.items()}
    again = write(folder, generated_at="2026-02-01T12:00:00Z")
    for suffix, path in again.paths.items():
        changed = path.read_text()
        assert changed != before[suffix]
        assert changed.replace("2026-02-01T12:00:00Z", "2026-01-23T00:20:00Z") == before[suffix]


def test_an_audit_of_later_changes_nothing(built: Built) -> None:
    """An old report, made again a month later, must not take the word of an audit that came since."""
    folder = built.paths["json"].parents[1]
    before = write(folder).paths["json"].read_text()
    late = json.loads(next((folder / "audit").glob("*.json")).read_text())
    late |= {"run_id": "late", "audited_at": "2026-03-01T00:00:00Z", "verdict": "FAIL"}
    (folder / "audit" / "late.json").write_text(json.dumps(late))
    again = write(folder)
    (folder / "audit" / "late.json").unlink()
    assert again.paths["json"].read_text() == before
    assert len(collect(folder).audits) == 8


def test_the_page_begins_with_the_verdict_and_the_coverage(built: Built) -> None:
    text = built.paths["html"].read_text()
    places = [
        text.index(word) for word in ("banner FAIL", "Days with data", "Day by day", "Time line", "Self-check</a>")
    ]
    assert places[0] < places[1] < places[2]
    assert "6 of 7" in text
    assert len(text) < 3 * 2**20
    assert "<script" not in text
    assert "src=" not in text


def test_a_damaged_day_says_so(tmp_path: Path) -> None:
    settings = ReportSettings(reports=tmp_path, scrape_seconds=STEP)
    settings.days.mkdir(parents=True)
    day_store.path_of(settings.days, FIRST).write_bytes(b"damaged")
    found = build(settings, FIRST, count=1, generated_at="2026-01-23T00:20:00Z")
    assert found.verdict is INCONCLUSIVE
    assert "damaged" in found.reasons[0]


def test_a_mutant_for_each_deceit_that_is_asked_for() -> None:
    """The list that the report promises: it may grow, not shrink."""
    promised = {"day-dropped", "vanished.reconnects", "reset-hidden", "rules-silent", "alert-brief", "born-at-one"}
    assert promised <= {one.id for one in self_check.MUTANTS}
