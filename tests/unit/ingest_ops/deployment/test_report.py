"""The report as JSON: what others read of it."""

import json
import os
from pathlib import Path

import pytest

from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment import report
from ingest_ops.deployment.audit_trail import AuditTrail
from ingest_ops.deployment.deployment_state import DeploymentState, GateResult
from ingest_ops.deployment.journal import Record
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.report_gates import gates_of, previous
from ingest_ops.deployment.state_machine import State
from ingest_ops.render import Chart, Details, Table
from ingest_ops.render.addresses import Addresses
from tests.harness.deployment.model import START, TwoSlots, closing, deployer


def test_it_names_the_time_that_it_is_about(tmp_path: Path) -> None:
    world = TwoSlots(tmp_path)
    with closing(deployer(world)) as one:
        one.open("d1", parse({"version": "v2", "watch_seconds": 120, "validate_seconds": 180}))
        record = one.run("d1", until=lambda _: False)
    paths = report.write(tmp_path, record, AuditTrail(tmp_path / "none.trail.jsonl"), generated_at=START + 9999)
    window = json.loads(paths["json"].read_text())["window"]
    assert window == {"start": report._stamp(START), "end": report._stamp(world.now), "tz": "UTC"}
    assert window["start"].endswith("Z")


PLAN = {"version": "v2", "watch_seconds": 120, "validate_seconds": 180, "requested_by": "ada (manual__1)"}


def written(world: TwoSlots, record: Record, at: float | None = None) -> dict[str, object]:
    trail = AuditTrail(world.folder / f"{record.id}.trail.jsonl")
    paths = report.write(world.folder, record, trail, generated_at=world.now if at is None else at)
    return dict(json.loads(paths["json"].read_text()))


@pytest.mark.parametrize(("state", "left"), [(State.SHADOW, "for at most 2 min more"), (State.PLAN, "in state PLAN.")])
def test_an_open_deployment_has_a_report_that_says_how_it_stands(tmp_path: Path, state: State, left: str) -> None:
    world = TwoSlots(tmp_path)
    with closing(deployer(world)) as one:
        record = one.open("d1", parse(PLAN))
        if state is not State.PLAN:
            record = one.run("d1", until=lambda now: now.state is state)
    assert world.moves == {State.PLAN: ["PLAN"], State.SHADOW: ["PLAN", "BUILD", "STANDBY", "SHADOW"]}[state]
    found = written(world, record)
    assert (found["state"], found["verdict"]) == (str(state), None)
    assert left in str(found["summary"])
    assert report.is_final(world.folder, record)
    assert not report.is_final(world.folder, one_step_on(record))


def one_step_on(record: Record) -> Record:
    from dataclasses import replace

    return replace(record, state=State.DONE)


def test_the_title_is_for_people(tmp_path: Path) -> None:
    world = TwoSlots(tmp_path)
    with closing(deployer(world)) as one:
        one.open("d1", parse(PLAN))
        record = one.run("d1", until=lambda _: False)
    assert str(written(world, record)["title"]) == "v2 → green, 6 min, by ada"


def test_a_person_gets_the_gates_and_the_link(tmp_path: Path) -> None:
    world = TwoSlots(tmp_path)
    with closing(deployer(world)) as one:
        one.open("d1", parse({**PLAN, "approval": True}))
        record = one.run("d1", until=lambda now: now.state is State.APPROVAL)
    lines = report.evidence(record).splitlines()
    assert lines[0].startswith("[Report so far](/k2/reports/deployments/d1.html): v2 in green, blue (v1) writes")
    assert "| G5 Memory: the highest of the window | PASS | 120 MiB, must be below 400 |" in lines
    assert len(lines) == 4 + len(record.facts.results["SHADOW"])


def test_what_could_not_be_looked_at_is_not_claimed(tmp_path: Path) -> None:
    world = TwoSlots(tmp_path, agent_down=True)
    with closing(deployer(world)) as one:
        one.open("d1", parse(PLAN))
        record = one.run("d1", until=lambda _: False)
    found = written(world, record)
    assert found["verdict"] == Verdict.FAIL
    assert "Which slot writes could not be seen." in str(found["summary"])
    assert "wrote" not in str(found["summary"])


def test_the_page_draws_both_slots_and_the_rate_not_the_counter(tmp_path: Path) -> None:
    world = TwoSlots(tmp_path)
    with closing(deployer(world)) as one:
        one.open("d1", parse(PLAN))
        record = one.run("d1", until=lambda _: False)
    page = report.to_page(record, [], "unbroken", generated_at=world.now)
    charts = {
        block.title[:2]: block for section in page.sections for block in section.blocks if isinstance(block, Chart)
    }
    assert charts.keys() == {"G4", "G5", "G7", "C1", "C4", "C5", "C6"}
    assert [line.name for line in charts["C6"].series] == ["candidate", "predecessor"]
    rates = [value for _, value in charts["G4"].series[0].points]
    assert all(value is not None and 240 < value < 260 for value in rates)
    assert [limit.value for limit in charts["G4"].thresholds] == [10.0]
    assert [span.label for span in charts["C5"].spans] == ["hand-over, gap 210 ms"], (
        "before and after the hand-over in one chart"
    )
    assert not charts["C6"].thresholds, "its limit is one of the difference"


def test_values_stand_beside_those_of_the_deployment_before(tmp_path: Path) -> None:
    world = TwoSlots(tmp_path)
    with closing(deployer(world)) as one:
        one.open("d1", parse(PLAN))
        first = one.run("d1", until=lambda _: False)
        written(world, first)
        for name in ("d1.json", "d1.html"):
            os.utime(tmp_path / "deployments" / name, (world.now, world.now))
        world.now += 3600
        one.open("d2", parse(PLAN | {"version": "v3"}))
        second = one.run("d2", until=lambda _: False)
    before = previous(tmp_path / "deployments", second)
    assert before is not None
    assert (before.id, before.version) == ("d1", "v2")
    assert previous(tmp_path / "deployments", first) is None
    written(world, second)
    page = (tmp_path / "deployments" / "d2.html").read_text()
    assert "Before (v2, d1)" in page
    (gate,) = (one for one in first.facts.results["SHADOW"] if one.gate == "G4")
    assert before.values["SHADOW"]["G4"] == gate.value


def test_one_cause_is_one_row_and_what_passed_is_folded() -> None:
    def gate(name: str, verdict: Verdict, reason: str) -> GateResult:
        return GateResult(
            gate=name, title="t", verdict=verdict, reason=reason, query="q", start=0, end=1, value=1.0, threshold="> 0"
        )

    away = [gate(f"C{at}", Verdict.INCONCLUSIVE, "Prometheus does not answer") for at in range(6)]
    results = [gate("G1", Verdict.PASS, "fine"), *away, gate("G7a", Verdict.FAIL, "51 records differ, none may")]
    section = gates_of("SHADOW", results, DeploymentState(), None)
    table, folded = section.blocks[:2]
    assert isinstance(table, Table)
    assert isinstance(folded, Details)
    assert [str(row[0]) for row in table.rows] == ["C0, C1, C2, C3, C4, C5", "G7a t"]
    assert folded.summary == "1 gates passed"


def test_links_lead_to_public_addresses_at_the_time_of_the_deployment() -> None:
    found = Addresses("https://grafana.example", "https://git.example/docs").links(1000.0, 2000.0, failed=True)
    assert [link.href for link in found] == [
        "https://grafana.example/d/k2-operations?from=700000&to=2300000",
        "https://git.example/docs/how_to/deploy.md#the-gates",
        "https://git.example/docs/runbook.md",
    ]
    assert Addresses().links(1000.0, 2000.0, failed=True) == []


@pytest.mark.parametrize(
    ("before", "after", "shown"), [(None, None, None), (3, None, "3 → no hand-over"), (3, 4, "3 → 4")]
)
def test_a_generation_that_was_not_read_is_not_shown(before: int | None, after: int | None, shown: str | None) -> None:
    assert report._generations(DeploymentState(generation=before, new_generation=after)) == shown
