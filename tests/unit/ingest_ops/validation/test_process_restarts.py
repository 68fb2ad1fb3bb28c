"""Restarts that a deployment does not explain, and writers that were fenced before they ended."""

import dataclasses
import json
from pathlib import Path

import pytest

from ingest_ops.common.report_settings import Limits
from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.check import Finding
from ingest_ops.validation.evidence import Deployment, Evidence, collect
from ingest_ops.validation.week import judge_day
from tests.harness.processes import ROOT
from tests.harness.production_week import DAY, HOUR, EightDays, Process
from tests.unit.ingest_ops.validation.days import day_of, evidence

STEP = 60.0
PASS, FAIL = Verdict.PASS, Verdict.FAIL
BEGIN, END, NOON = -10 * HOUR, 9 * DAY, DAY + 12 * HOUR


def restarts(lives: list[Process], *deployments: Deployment) -> Finding:
    known = dataclasses.replace(evidence(), deployments=deployments)
    day = day_of(EightDays(lives, step=STEP), 1)
    return judge_day(day, Limits(), known, only=("restarts",))["restarts"]


def reported(folder: Path, data: dict[str, object]) -> Evidence:
    (folder / "deployments").mkdir()
    (folder / "deployments" / "one.json").write_text(json.dumps(data))
    return collect(folder)


def report(at: float, verdict: str = "PASS", *, died: bool = False) -> dict[str, object]:
    """Of a deployment of v2 to green; blue writes before. Good: blue is stopped; else green is."""
    lines = [
        (at - 600, "opened", ""),
        (at - 590, "BUILD -> STANDBY", "built"),
        (at - 570, "STANDBY -> SHADOW", "green is warm and watches"),
        (at, "HANDOVER -> VALIDATE", "green writes as generation 13"),
    ]
    if verdict == "PASS":
        lines += [(at + 60, "VALIDATE -> RETIRE", "gates passed"), (at + 90, "RETIRE -> DONE", "blue is stopped")]
    else:
        why = "green does not run: it ended with -9" if died else "a gate failed"
        lines += [(at + 60, "VALIDATE -> ROLLING_BACK", why), (at + 62, "intent", "blue writes")]
        lines += [(at + 90, "noted", "green is stopped"), (at + 95, "ROLLING_BACK -> ROLLED_BACK", "green is stopped")]
    return {
        "kind": "deployment",
        "run_id": "one",
        "title": "v2",
        "verdict": verdict,
        "summary": "",
        "generated_at": "",
        "deployment_kind": "deploy",
        "plan": {"version": "v2"},
        "facts": {"candidate": "green", "live": "blue"},
        "trail": {"lines": [{"at": when, "what": what, "data": {"reason": why}} for when, what, why in lines]},
    }


def origin() -> float:
    return EightDays([Process("blue:9095", "blue", BEGIN, END, "v1")], step=STEP).origin


def handed_over(blue_ends: float) -> list[Process]:
    return [
        Process("blue:9095", "blue", BEGIN, blue_ends, "v1", writes=[(BEGIN + 2, NOON)]),
        Process("green:9095", "green", BEGIN, NOON - 590, "v0"),
        Process("green:9095", "green", NOON - 585, END, "v2", writes=[(NOON, END)]),
    ]


def test_a_deployment_explains_what_its_trail_did(tmp_path: Path) -> None:
    known = reported(tmp_path, report(origin() + NOON))
    (deployment,) = known.deployments
    assert [(one.slot, one.what) for one in deployment.actions] == [("green", "start"), ("blue", "stop")]
    assert restarts(handed_over(NOON + 88), deployment).verdict is PASS
    assert restarts(handed_over(NOON + 88)).value == 1, "one new version a day needs no report"


@pytest.mark.parametrize("verdict", ["PASS", "FAIL"])
def test_an_open_deployment_excuses_no_crash(tmp_path: Path, verdict: str) -> None:
    """Twenty crashes of the version that is replaced, and one of the writer in a deployment that ends FAIL."""
    (deployment,) = reported(tmp_path, report(origin() + NOON, verdict)).deployments
    for crashes in (1, 20):
        begin, lives = BEGIN, []
        for at in range(crashes + 1):
            end = NOON - 300 + at * 120 if at < crashes else END
            lives.append(Process("blue:9095", "blue", begin, end, "v1", writes=[(begin + 1, end)]))
            begin = end + 5
        found = restarts(lives, deployment)
        assert (found.verdict, found.value) == (FAIL, crashes)


@pytest.mark.parametrize(("died", "right"), [(False, PASS), (True, FAIL)])
def test_a_candidate_that_died_was_not_stopped(tmp_path: Path, *, died: bool, right: Verdict) -> None:
    (deployment,) = reported(tmp_path, report(origin() + NOON, "FAIL", died=died)).deployments
    lives = [
        Process("blue:9095", "blue", BEGIN, END, "v1", writes=[(BEGIN + 2, NOON), (NOON + 62, END)]),
        Process("green:9095", "green", NOON - 585, NOON + 61, "v2", writes=[(NOON, NOON + 61)]),
    ]
    found = restarts(lives, deployment)
    assert found.verdict is right, found.reason


def test_the_kept_example_explains_its_start_and_no_end() -> None:
    """``dies-in-validation``: the candidate was started, and ended by itself."""
    path = ROOT / "reports/examples/deployments/drill-dies-in-validation.json"
    known = collect(path.parents[1])
    (one,) = [one for one in known.deployments if one.file.endswith(path.name)]
    assert [(action.slot, action.what, action.version) for action in one.actions] == [
        ("green", "start", "dies-in-validation")
    ]


@pytest.mark.parametrize("later", [0, 70, 200])
def test_a_writer_that_was_fenced_and_then_died_is_missed(later: float) -> None:
    lives = [
        Process("blue:9095", "blue", BEGIN, NOON + later, "v1", writes=[(BEGIN + 2, NOON)]),
        Process("green:9095", "green", BEGIN, END, "v1", writes=[(NOON + 1, END)]),
    ]
    found = restarts(lives)
    assert (found.verdict, found.value) == (FAIL, 1)
    assert "did not return: blue" in found.reason


def test_a_standby_that_is_taken_away_hours_later_is_no_writer() -> None:
    lives = handed_over(NOON + 3 * HOUR)
    lives[1].end, lives[2].start = BEGIN + 1, BEGIN + 5
    assert restarts(lives).value == 0
