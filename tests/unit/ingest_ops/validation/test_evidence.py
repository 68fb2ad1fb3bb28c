"""An audit speaks for a day that it covered, and for no other."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from ingest.audit import report
from ingest.audit.check_base import Totals
from ingest.audit.run import Outcome
from ingest_ops.common.report_settings import Limits
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.day import Day
from ingest_ops.validation.evidence import Evidence, collect
from ingest_ops.validation.week import judge_day
from tests.harness.production_week import DAY, HOUR, calm
from tests.unit.ingest_ops.validation.days import day_of, evidence

CHECKS = ("audit.lost", "audit.duplicated", "audit.faults")


@pytest.fixture(scope="module")
def quiet() -> Day:
    return day_of(calm(step=60.0), 1)


def verdicts(day: Day, known: Evidence) -> set[Verdict]:
    return {one.verdict for one in judge_day(day, Limits(), known, only=CHECKS).values()}


def audited(day: Day, **change: Any) -> Evidence:
    """One clean audit after the day, changed."""
    known = evidence()
    (audit, *_) = known.audits_for(day.end, Limits().audit_within_seconds)
    return dataclasses.replace(known, audits=(dataclasses.replace(audit, **change),))


def test_a_clean_audit_of_the_day_passes(quiet: Day) -> None:
    assert verdicts(quiet, audited(quiet)) == {Verdict.PASS}
    assert verdicts(quiet, audited(quiet, covers=(0.0, quiet.end))) == {Verdict.PASS}


@pytest.mark.parametrize(
    "change",
    [
        lambda day: {"covers": None},
        lambda day: {"covers": (day.end + 9.9 * HOUR, day.end + 35.9 * HOUR)},
        lambda day: {"covers": (day.start + 1, day.end + HOUR)},
        lambda day: {"covers": (day.start - HOUR, day.end - 1)},
        lambda day: {"totals": {"missing": 0, "duplicated": 0, "committed": 0}},
        lambda day: {"totals": {"missing": 0, "duplicated": 0}},
        lambda day: {"symbols": None},
        lambda day: {"symbols": frozenset({"ETHUSDT"})},
    ],
    ids=["unsaid", "later", "begins late", "ends early", "empty", "uncounted", "symbols unsaid", "other symbols"],
)
def test_an_audit_that_does_not_cover_the_day_is_inconclusive(quiet: Day, change: Any) -> None:
    assert verdicts(quiet, audited(quiet, **change(quiet))) == {Verdict.INCONCLUSIVE}


def test_a_later_audit_that_covers_the_day_speaks_for_it(quiet: Day) -> None:
    known = audited(quiet, covers=(quiet.end - HOUR, quiet.end + 600))
    (narrow,) = known.audits
    whole = dataclasses.replace(narrow, at=narrow.at + HOUR, covers=(0.0, narrow.at + HOUR))
    assert verdicts(quiet, dataclasses.replace(known, audits=(narrow, whole))) == {Verdict.PASS}
    lost = dataclasses.replace(narrow, totals={**narrow.totals, "missing": 1}, verdict=Verdict.FAIL)
    found = judge_day(quiet, Limits(), dataclasses.replace(known, audits=(lost, whole)), only=CHECKS)
    assert found["audit.lost"].verdict is Verdict.FAIL, "what the first one found is not undone"


def test_what_the_auditor_writes_says_what_it_covered(tmp_path: Path) -> None:
    """The auditor's own JSON, as the daily run keeps it."""
    totals = Totals(ledger=3, committed=3)
    outcome = Outcome("PASS", "clean", totals, covers_from=1000.0, covers_to=1000.0 + DAY)
    (tmp_path / "audit").mkdir()
    data = {**report.as_json(outcome), "audited_at": "2026-01-16T00:10:00Z", "run_id": "x", "kind": "audit"}
    (tmp_path / "audit" / "x.json").write_text(json.dumps(data))
    (audit,) = collect(tmp_path).audits
    assert (audit.covers, audit.symbols, audit.totals["committed"]) == ((1000.0, 1000.0 + DAY), frozenset(), 3)
