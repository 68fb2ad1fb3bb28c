import contextlib
from collections.abc import Callable

import pytest

from ingest_ops.agent.slots import SlotStatus
from ingest_ops.deployment.audit_trail import AuditTrail
from ingest_ops.deployment.commands.undoing import proven
from ingest_ops.deployment.journal import Leased
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.state_machine import State
from tests.harness.deployment.model import START, Killed, TwoSlots, closing, deployer
from tests.unit.ingest_ops.deployment.deploying import (
    PLAN,
    SHORT,
    deploy,
)


@pytest.mark.parametrize(("decision", "state"), [("approved", State.DONE), ("rejected", State.ABORTED)])
def test_a_person_decides(world: TwoSlots, decision: str, state: State) -> None:
    with closing(deployer(world, actor="anna")) as person:
        world.at[200] = lambda: (person.decide("d1", decision, "anna"), None)[1]
        record = deploy(world, parse({**SHORT, "approval": True}))
    assert record.state is state
    assert record.facts.decided_by == "anna"
    if decision == "rejected":
        assert "rejected by anna" in record.facts.reason
        assert world.writers() == ["blue"]


def test_nobody_decides_in_time(world: TwoSlots) -> None:
    record = deploy(world, parse({**SHORT, "approval": True, "approval_seconds": 60}))
    assert (record.state, record.facts.failed_in) == (State.ABORTED, "APPROVAL")


@pytest.mark.parametrize(("moment", "state"), [(60, State.ABORTED), (250, State.ROLLED_BACK)])
def test_a_person_undoes_an_open_deployment(world: TwoSlots, moment: float, state: State) -> None:
    with closing(deployer(world, actor="anna")) as person:
        world.at[moment] = lambda: (person.cancel("d1"), None)[1]
        record = deploy(world)
    assert record.state is state
    assert "undone by anna" in record.facts.reason
    assert world.writers() == ["blue"]


def test_a_second_deployer_is_kept_out_and_a_dead_one_s_work_is_taken_up(world: TwoSlots) -> None:
    with closing(deployer(world, actor="a")) as a, closing(deployer(world, actor="b")) as b:
        a.open("d1", PLAN)
        a.run("d1", until=lambda record: record.state is State.SHADOW)
        with pytest.raises(Leased):
            b.advance("d1")
        world.now += 61
        b.run("d1", until=lambda _: False)
        assert b.journal.read("d1").state is State.DONE


def test_a_trigger_s_look_changes_nothing_and_knows_when_it_is_time(world: TwoSlots) -> None:
    with closing(deployer(world)) as one:
        one.open("d1", PLAN)
        one.run("d1", until=lambda record: record.state is State.SHADOW)
        before = one.journal.read("d1")
        assert one.due("d1") is False
        world.values["mismatch"] = 3.0
        world.now += 60
        assert one.due("d1") is True
        assert one.journal.read("d1").revision == before.revision
        world.values.clear()
        assert one.due("d1") is False
        world.now += 600
        assert one.due("d1") is True


def test_a_roll_back_of_its_own_starts_what_ran_before(world: TwoSlots) -> None:
    deploy(world)
    with closing(deployer(world)) as one:
        plan = parse({"version": "v1", "audit": False})
        one.open_roll_back("r1", plan, live="blue", live_version="v1", candidate="green")
        record = one.run("r1", until=lambda _: False)
    assert record.state is State.ROLLED_BACK
    assert world.writers() == ["blue"]
    assert world.slots["blue"].version == "v1"
    assert not world.slots["green"].running


def _good(_: TwoSlots) -> None:
    pass


def _leaks(world: TwoSlots) -> None:
    world.at[250] = lambda: world.values.update({"process_resident_memory_bytes": 450.0 * 2**20})


@pytest.mark.parametrize(("fault", "state", "writer"), [
    (_good, State.DONE, "green"),
    (_leaks, State.ROLLED_BACK, "blue"),
])  # fmt: skip
@pytest.mark.parametrize("calls", range(6))
def test_a_deployer_killed_after_any_deed_is_resumed_by_another(
    world: TwoSlots, fault: Callable[[TwoSlots], None], state: State, writer: str, calls: int
) -> None:
    fault(world)
    world.kill_after = calls
    with closing(deployer(world, actor="first")) as first:
        first.open("d1", PLAN)
        with contextlib.suppress(Killed):
            first.run("d1", until=lambda _: False)
    world.now += 61  # its lease has run out
    with closing(deployer(world, actor="second")) as second:
        record = second.run("d1", until=lambda _: False)
    assert record.state is state
    assert world.writers() == [writer]
    assert world.generation == (8 if state is State.DONE else 9), "nobody was fenced who need not be"


@pytest.mark.parametrize(("fault", "state", "writer", "calls"), [
    *[(_good, State.DONE, "green", calls) for calls in range(4)],
    # The leak begins while nobody looks: before the hand-over it is found in the shadow.
    *[(_leaks, State.ABORTED if calls < 2 else State.ROLLED_BACK, "blue", calls) for calls in range(5)],
])  # fmt: skip
def test_the_time_in_which_nobody_worked_on_it_is_not_held_against_it(
    world: TwoSlots, fault: Callable[[TwoSlots], None], state: State, writer: str, calls: int
) -> None:
    """Everything was away for ten minutes, more than any step's limit, and the agent is the last to come back."""
    fault(world)
    world.kill_after = calls
    with closing(deployer(world, actor="first")) as first:
        first.open("d1", PLAN)
        with contextlib.suppress(Killed):
            first.run("d1", until=lambda _: False)
        unfinished = not first.journal.read("d1").finished
    world.now += 600
    world.agent_down = True
    world.at[world.now - START + 10] = lambda: setattr(world, "agent_down", False)
    with closing(deployer(world, actor="second")) as second:
        record = second.run("d1", until=lambda _: False)
        second.finish("d1")
    assert (record.state, world.writers()) == (state, [writer])
    lines = AuditTrail(world.folder / "d1.trail.jsonl").lines()
    assert [line["actor"] for line in lines if line["what"] == "taken up again"] == ["second"] * unfinished


def test_the_time_of_a_person_runs_on_while_nobody_works_on_it(world: TwoSlots) -> None:
    plan = parse({**SHORT, "approval": True, "approval_seconds": 600})
    with closing(deployer(world, actor="first")) as first:
        first.open("d1", plan)
        first.run("d1", until=lambda record: record.state is State.APPROVAL)
    world.now += 601
    with closing(deployer(world, actor="second")) as second:
        record, _ = second.advance("d1")
    assert (record.state, record.facts.failed_in) == (State.ABORTING, "APPROVAL")


def test_a_take_over_that_comes_through_late_is_taken_back_once_more(world: TwoSlots) -> None:
    world.can_promote = {"blue"}
    stop = world.stop

    def stop_and_be_fenced(slot: str) -> SlotStatus:
        if slot == "green" and world.slots["green"].running and world.slots["green"].role == "shadow":
            # What nobody had an answer to was on its way all the time.
            world.slots["blue"].role = "standby"
            world.generation += 1
        return stop(slot)

    world.stop = stop_and_be_fenced  # type: ignore[method-assign]
    record = deploy(world)
    assert (record.state, record.facts.failed_in) == (State.ROLLED_BACK, "HANDOVER")
    assert world.writers() == ["blue"]
    assert world.generation == 9


def test_what_to_go_back_to_is_what_was_live_and_not_what_ran_last(world: TwoSlots) -> None:
    deploy(world)  # v2 is live in green, v1 was in blue
    world.slots["blue"].version = "v1"
    with closing(deployer(world)) as one:
        world.at[world.now - START + 60] = lambda: world.values.update({"mismatch": 1.0})
        one.open("d2", parse({**SHORT, "version": "v3"}))
        assert one.run("d2", until=lambda _: False).state is State.ABORTED
        assert world.slots["blue"].version == "v3"
        records = one.journal.latest()
        assert proven(records, "blue") == "v1"
        assert proven(records, "green") == "v2"
        assert proven([], "blue") == ""


def test_an_audit_that_is_insisted_on_needs_an_auditor(world: TwoSlots) -> None:
    with closing(deployer(world, auditor=False)) as one:
        one.open("d1", parse({**SHORT, "audit": True}))
        record = one.run("d1", until=lambda _: False)
        assert (record.state, record.facts.failed_in) == (State.ABORTED, "PLAN")
        one.open("d2", PLAN)
        record = one.run("d2", until=lambda _: False)
        assert record.state is State.DONE
        assert record.facts.audit is None
        assert "H2" not in {result.gate for result in record.facts.results["VALIDATE"]}
