"""What counts as caught, what is hunted with, and what the report says of it; without a process."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.chaos import hunt, hunt_report
from tests.campaigns.chaos.faults import AIMED, BY_NAME, FAULTS
from tests.campaigns.chaos.hunt import WITHIN, Hunt, Hunted, attempts, damage
from tests.campaigns.chaos.mutant_table import Applied
from tests.campaigns.chaos.mutants import MUTANTS, SEEN
from tests.campaigns.chaos.plans import PLANS, Plan
from tests.campaigns.chaos.runner import LATE, Outcome


def outcome(verdict: str, problems: list[str], **totals: int) -> Outcome:
    return Outcome(
        seed=1, seconds=60.0, audit={"verdict": verdict, "totals": Counter(totals)}, audit_code=0, exits=[], codes={},
        settled=True, rss=0, rest_weight=0, rest_429=0, injected=[], problems=problems,
    )  # fmt: skip


def test_damage_is_what_the_auditor_proves() -> None:
    assert damage(outcome("FAIL", ["audit"], missing=3, position=1, committed=9)) == {"missing": 3, "position": 1}
    assert damage(outcome("PASS", [LATE], committed=9)) == {}
    assert damage(outcome("INCONCLUSIVE", ["nobody became the writer"])) == {}
    assert damage(outcome("PASS", ["ended by itself"], voids=2, committed=9)) == {}


def test_what_needs_too_many_faults_has_survived() -> None:
    assert Hunted("no-recycle", faults=WITHIN, damage={"duplicated": 1}).caught
    assert not Hunted("no-recycle", faults=WITHIN + 1, damage={"duplicated": 1}).caught
    assert not Hunted("no-recycle", faults=1, problems=[LATE]).caught


def test_what_is_not_hunted_on_the_processes_is_hunted_on_the_models() -> None:
    assert all(MUTANTS[name].seeds > 0 for name in MUTANTS if name not in SEEN)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_plan_is_its_seed_s_alone(plan: Plan) -> None:
    steps = plan.steps(7)
    assert steps == plan.steps(7)
    assert 0 < len(steps) <= WITHIN
    assert {step.name for step in steps} <= BY_NAME.keys()
    assert [step.at for step in steps] == sorted(step.at for step in steps)


def test_each_planted_fault_has_a_plan_and_each_aimed_fault_is_planned() -> None:
    tried = {plan for name in SEEN for plan, _ in attempts(name)}
    assert tried == PLANS.keys()
    planned = {step.name for plan in PLANS.values() for step in plan.steps(1)}
    assert {fault.name for fault in AIMED} <= planned
    assert not {fault.name for fault in AIMED} & {fault.name for fault in FAULTS}


def test_the_report_names_who_survived_and_a_control_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hunt_report, "FOLDER", tmp_path)
    caught = Hunted("no-recycle", plans=["late_commits"], faults=8, damage={"duplicated": 5, "false_void": 1})
    control = Hunted("late_commits", plans=["late_commits"], faults=8, trades=1000)
    hunt_report.write([control], [caught], whole=True, within=WITHIN, seconds=60.0)
    report = json.loads((tmp_path / "mutants.json").read_text())
    assert report["verdict"] == "PASS"
    assert report["controls"]["late_commits"]["passed"]
    assert report["mutants"]["no-recycle"]["damage"] == {"duplicated": 5, "false_void": 1}
    assert "5 duplicated, 1 falsely void" in (tmp_path / "mutants.html").read_text()

    hunt_report.write([], [caught], whole=True, within=WITHIN, seconds=60.0, due=["keys-dropped", "few"])
    report = json.loads((tmp_path / "mutants.json").read_text())
    assert report["verdict"] == "INCONCLUSIVE"
    assert "not played yet: keys-dropped, few" in (tmp_path / "mutants.html").read_text()

    survivor = Hunted("keys-dropped", plans=["few", "general"], faults=66, problems=[LATE])
    paths = hunt_report.write([control], [caught, survivor], whole=False, within=WITHIN, seconds=60.0)
    report = json.loads(paths["json"].read_text())
    assert report["verdict"] == "FAIL"
    assert report["mutants"]["keys-dropped"]["caught"] is False
    assert "keys-dropped survived 66 faults" in paths["md"].read_text()

    control.problems = ["audit: FAIL"]
    paths = hunt_report.write([control], [caught], whole=False, within=WITHIN, seconds=60.0)
    assert json.loads(paths["json"].read_text())["verdict"] == "FAIL"


def test_a_hunt_passes_when_all_are_caught_and_every_control_is_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pursue(shared: object, name: str | None, tries: list[tuple[str, int]]) -> Hunted:
        del shared
        return Hunted(name or tries[0][0], faults=6, damage={} if name in (None, "keys-dropped") else {"missing": 1})

    monkeypatch.setattr(hunt_report, "FOLDER", tmp_path)
    monkeypatch.setattr(hunt, "pursue", pursue)
    parts: Any = None
    whole = Hunt(["no-recycle"], ["few"])
    assert whole.exit_code() == 1, "nothing was hunted yet"
    whole.mutant(parts, "no-recycle")
    whole.control(parts, "few")
    assert whole.exit_code() == 0
    assert json.loads((tmp_path / "mutants-some.json").read_text())["verdict"] == "PASS"
    whole.controls["few"].problems = [LATE]
    assert whole.exit_code() == 1
    survived = Hunt(["no-recycle", "keys-dropped"], [])
    survived.mutant(parts, "no-recycle")
    survived.mutant(parts, "keys-dropped")
    assert survived.exit_code() == 1


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_changes_the_code_of_today_and_puts_it_back(name: str) -> None:
    """A method that was moved or renamed makes its mutants useless without a word; each must find what it patches."""
    changed: list[tuple[Any, str, Any]] = []

    class Noted(Applied):
        def _patch(self, owner: Any, attribute: str, value: Any) -> None:
            changed.append((owner, attribute, owner.__dict__[attribute]))
            super()._patch(owner, attribute, value)

    with Noted(name):
        assert changed
        assert any(owner.__dict__[attribute] is not before for owner, attribute, before in changed)
    assert all(owner.__dict__[attribute] is before for owner, attribute, before in changed)
