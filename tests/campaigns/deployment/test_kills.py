import json
from pathlib import Path

from ingest_ops.deployment.state_machine import State
from tests.campaigns.deployment.join import joined
from tests.campaigns.deployment.kills import REQUIRED, STEPS, Kill, Outcome, missing, write


def _kill(part: str, state: State) -> Kill:
    return Kill(
        deployment="d1", part=part, step=STEPS[state], state=str(state), at=1.0, tasks=["watch deferred"],
        state_after=str(state), back_seconds=2.5, next="SHADOW -> APPROVAL", next_seconds=20.0, end_seconds=80.0,
    )  # fmt: skip


def _outcome(*, wrong: tuple[str, ...] = (), without: tuple[tuple[str, State], ...] = ()) -> Outcome:
    kills = [_kill(part, state) for part in REQUIRED for state in STEPS if (part, state) not in without]
    return Outcome("d1", "v2", "scheduler", "DONE", kills=kills, state="DONE", audit="PASS", wrong=list(wrong))


def _verdict(folder: Path, outcome: Outcome) -> tuple[str, str]:
    path = write([outcome], [("Pool", "one waited for the other")], folder=folder)
    page = path.with_suffix(".html").read_text(encoding="utf-8")
    return json.loads(path.read_text())["verdict"], page


def test_every_part_at_every_step_and_nothing_wrong_is_a_pass(tmp_path: Path) -> None:
    verdict, page = _verdict(tmp_path, _outcome())
    assert verdict == "PASS"
    assert "20.0 (80)" in page
    assert "one waited for the other" in page


def test_what_was_not_killed_is_not_shown(tmp_path: Path) -> None:
    outcome = _outcome(without=(("agent", State.HANDOVER),))
    assert missing(outcome.kills) == ["agent at cut over"]
    verdict, page = _verdict(tmp_path, outcome)
    assert verdict == "INCONCLUSIVE"
    assert "not shown: agent at cut over" in page


def test_one_deployment_that_ends_otherwise_is_a_failure(tmp_path: Path) -> None:
    verdict, page = _verdict(tmp_path, _outcome(wrong=("green is not the only writer",)))
    assert verdict == "FAIL"
    assert "d1: green is not the only writer" in page


def test_runs_with_a_part_of_the_tests_each_are_joined(tmp_path: Path) -> None:
    first = _outcome(without=(("agent", State.HANDOVER),))
    second = Outcome("d2", "v3", "agent", "DONE", kills=[_kill("agent", State.HANDOVER)], state="DONE", audit="PASS")
    runs = []
    for name, outcome in (("a", first), ("b", second)):
        path = write([outcome], [("Pool", name)] if name == "a" else [], folder=tmp_path / name)
        runs.append(json.loads(path.read_text("utf-8")))
        assert runs[-1]["verdict"] == "INCONCLUSIVE"
    both = json.loads(joined(runs, folder=tmp_path).read_text("utf-8"))
    assert both["verdict"] == "PASS"
    assert "in 2 runs" in both["command"]
    assert len(both["deployments"]) == 2
    runs[1]["deployments"][0]["wrong"] = ["blue runs on"]
    assert json.loads(joined(runs, folder=tmp_path).read_text("utf-8"))["verdict"] == "FAIL"
