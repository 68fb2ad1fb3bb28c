"""Stop, hold and resume: by the journal, by the agent, by the command line; the trail says who."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest_ops.__main__ import main
from ingest_ops.agent.slots import ControlRequest
from ingest_ops.deployment.audit_trail import AuditTrail
from ingest_ops.deployment.deployer import Deployer
from ingest_ops.deployment.journal import Journal, Record
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.settings import now
from ingest_ops.deployment.state_machine import State
from tests.harness.deployment.model import START, TwoSlots, closing, deployer

PLAN = {"version": "v2", "watch_seconds": 120, "validate_seconds": 180, "hold_seconds": 60, "approval_seconds": 900}
LIMIT = 300.0
BETWEEN = (State.SHADOW, State.HANDOVER, State.VALIDATE, State.RETIRE)


@pytest.fixture
def world(tmp_path: Path) -> TwoSlots:
    return TwoSlots(tmp_path)


def run(world: TwoSlots, one: Deployer, *, at: Mapping[float, Callable[[], object]], **plan: Any) -> Record:
    """Deploy; what is in ``at`` happens so many seconds after the start."""
    one.open("d1", parse(PLAN | plan))
    world.at.update(at)  # type: ignore[arg-type]
    one.run("d1", until=lambda _: False)
    return one.finish("d1")


def trail(world: TwoSlots, what: str) -> list[dict[str, Any]]:
    lines = AuditTrail(world.folder / "d1.trail.jsonl").lines()
    return [line for line in lines if line["what"] == what]


def moved(world: TwoSlots, what: str) -> float:
    (line,) = trail(world, what)
    return float(line["at"]) - START


def test_held_in_the_shadow_it_stays_before_the_hand_over_until_it_is_resumed(world: TwoSlots) -> None:
    with closing(deployer(world)) as one:
        asked: dict[float, Any] = {
            30: lambda: one.control("d1", "hold", "ada"),
            400: lambda: one.control("d1", "resume", "bob"),
        }
        record = run(world, one, at=asked)
    assert record.state is State.DONE
    assert moved(world, "SHADOW -> APPROVAL") < 200, "the shadow ends as always"
    assert moved(world, "APPROVAL -> HANDOVER") >= 400
    assert [line["data"]["by"] for word in ("hold", "resume") for line in trail(world, word)] == ["ada", "bob"]


def test_held_after_the_hand_over_the_old_slot_stays_warm(world: TwoSlots) -> None:
    warm: list[bool] = []
    with closing(deployer(world)) as one:
        record = run(world, one, at={
            200: lambda: one.control("d1", "hold", "ada"),
            399: lambda: warm.append(world.slots["blue"].running),
            400: lambda: one.control("d1", "resume", "ada"),
        })  # fmt: skip
    assert record.state is State.DONE
    assert warm == [True]
    assert moved(world, "RETIRE -> DONE") >= 400
    assert not world.slots["blue"].running


@pytest.mark.parametrize("at", [30, 200], ids=["before the hand-over", "after it"])
def test_a_hold_that_is_not_resumed_within_its_limit_is_undone(world: TwoSlots, at: float) -> None:
    with closing(deployer(world)) as one:
        record = run(world, one, at={at: lambda: one.control("d1", "hold", "ada")}, approval_seconds=300)
    assert record.state in (State.ABORTED, State.ROLLED_BACK)
    assert "held by ada" in record.facts.reason
    assert LIMIT < world.now - START < LIMIT + 500
    assert world.writers() == ["blue"]


@pytest.mark.parametrize("at", [30, 200], ids=["before the hand-over", "after it"])
def test_what_is_held_can_be_stopped(world: TwoSlots, at: float) -> None:
    with closing(deployer(world)) as one:
        asked: dict[float, Any] = {
            at: lambda: one.control("d1", "hold", "ada"),
            400: lambda: one.control("d1", "stop", "bob"),
        }
        record = run(world, one, at=asked)
    assert record.state in (State.ABORTED, State.ROLLED_BACK)
    assert record.facts.reason == "undone by bob"
    assert world.writers() == ["blue"]
    assert world.now - START < 800


@pytest.mark.parametrize(("at", "slot"), [(30, "green"), (30, "blue"), (200, "green")])
def test_what_fails_while_it_is_held_is_undone(world: TwoSlots, at: float, slot: str) -> None:
    with closing(deployer(world)) as one:
        record = run(world, one, at={at: lambda: one.control("d1", "hold", "ada"), 500: lambda: world.die(slot)})
    assert record.state in (State.ABORTED, State.ROLLED_BACK)
    assert "137" in record.facts.reason
    assert world.now - START < 600
    assert world.writers() == ["blue"]


def test_an_approval_does_not_end_a_hold(world: TwoSlots) -> None:
    with closing(deployer(world)) as one:
        record = run(
            world, one, approval=True, at={
                30: lambda: one.control("d1", "hold", "ada"), 300: lambda: one.decide("d1", "approved", "eve"),
                800: lambda: one.control("d1", "resume", "ada"),
            },
        )  # fmt: skip
    assert record.state is State.DONE
    assert moved(world, "APPROVAL -> HANDOVER") >= 800


def test_a_request_to_the_agent_is_taken_once_and_named(world: TwoSlots) -> None:
    def ask(word: str, at: float) -> Callable[[], None]:
        def asked() -> None:
            world.asked = ControlRequest(id=f"command-{word}", word=word, by="ops", at=START + at)

        return asked

    world.asked = ControlRequest(id="older-one", word="stop", by="ops", at=START - 5)
    with closing(deployer(world)) as one:
        record = run(world, one, at={30: ask("hold", 30), 500: ask("resume", 500)})
    assert record.state is State.DONE
    assert moved(world, "APPROVAL -> HANDOVER") >= 500
    assert [line["data"]["by"] for word in ("hold", "resume") for line in trail(world, word)] == 2 * [
        "ops, by the agent"
    ]
    assert trail(world, "stop") == [], "what was asked before it began is not for it"


@pytest.mark.parametrize("state", BETWEEN)
def test_a_trigger_wakes_up_only_when_there_is_something_to_do(world: TwoSlots, state: State) -> None:
    """A look must not stop the old slot."""
    with closing(deployer(world)) as one:
        one.open("d1", parse(PLAN))
        one.run("d1", until=lambda record: record.state is state)
        one.control("d1", "hold", "ada")
        running = world.slots["blue"].running
        world.now += 3
        if state is State.RETIRE:
            assert not one.due("d1")
            assert world.slots["blue"].running == running
            one.control("d1", "resume", "ada")
            world.now += 3
            assert one.due("d1")
        world.now += 3
        world.asked = ControlRequest(id="a-command", word="stop", by="ops", at=world.now)
        assert one.due("d1")


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    for name in [name for name in os.environ if name.startswith("K2_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("K2_DEPLOY_JOURNAL_URL", url)
    monkeypatch.setenv("K2_DEPLOY_REPORTS", str(tmp_path))
    made = Journal(url, now)
    yield made
    made.close()


def test_the_commands_record_what_was_asked_and_by_whom(
    journal: Journal, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hold"]) == 1
    assert "no deployment is open that one could hold" in capsys.readouterr().err
    journal.create("d1", parse(PLAN))
    assert main(["resume"]) == 1
    assert "d1 is not held" in capsys.readouterr().err
    assert main(["hold", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["id"], said["word"]) == ("d1", "hold")
    assert journal.read("d1").facts.held_by == said["actor"]
    report = (tmp_path / "deployments" / "d1.html").read_text()
    assert f"held by {said['actor']}" in report
    assert main(["resume"]) == 0
    assert main(["stop"]) == 0
    assert "it is undone" in capsys.readouterr().out
    assert journal.read("d1").facts.cancelled_by == said["actor"]
    assert main(["hold"]) == 1
    assert "being undone" in capsys.readouterr().err
    lines = AuditTrail(tmp_path / "deployments" / "d1.trail.jsonl").lines()
    assert [line["what"] for line in lines] == ["hold", "resume", "stop"]


def test_a_roll_back_is_not_held(journal: Journal) -> None:
    journal.create("b1", parse(PLAN), kind="roll-back", state=State.ROLLING_BACK)
    assert main(["hold"]) == 1
    assert journal.read("b1").facts.held_by == ""


@pytest.mark.filterwarnings("ignore")
def test_the_form_s_words_are_those_of_the_command_line(journal: Journal) -> None:
    from ingest_ops.airflow.control_tasks import ControlDeployment

    task = ControlDeployment(task_id="control")
    dag_run = SimpleNamespace(dag_id="control_deployment", run_id="r1", triggering_user_name="ada")
    context: Any = {"params": {"word": "hold"}, "dag_run": dag_run}
    with pytest.raises(Exception, match="no deployment is open"):
        task.execute(context)
    journal.create("d1", parse(PLAN))
    assert task.execute(context)["deployment"] == "d1"
    assert journal.read("d1").facts.held_by == "ada (r1)"
    context["params"]["speed"] = 1
    with pytest.raises(Exception, match="unknown: speed"):
        task.execute(context)
