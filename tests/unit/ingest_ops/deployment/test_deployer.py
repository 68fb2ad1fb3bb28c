import pytest

from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.audit_trail import AuditTrail
from ingest_ops.deployment.journal import Record
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.state_machine import State
from tests.harness.deployment.model import START, TwoSlots, closing, deployer
from tests.unit.ingest_ops.deployment.deploying import (
    PLAN,
    SHORT,
    deploy,
)


def stages(world: TwoSlots) -> list[str]:
    lines = AuditTrail(world.folder / "d1.trail.jsonl").lines()
    return [line["what"].split(" -> ")[1] for line in lines if " -> " in line["what"]]


def test_a_good_version_goes_live_and_the_old_one_is_stopped(world: TwoSlots) -> None:
    record = deploy(world)
    assert record.state is State.DONE
    assert world.writers() == ["green"]
    assert not world.slots["blue"].running
    assert stages(world) == [
        "BUILD", "STANDBY", "SHADOW", "APPROVAL", "HANDOVER", "VALIDATE", "RETIRE", "DONE",
    ]  # fmt: skip
    assert record.facts.new_generation == 8
    assert record.facts.gap_seconds == 0.21
    assert world.now - START >= PLAN.watch_seconds + PLAN.grace_seconds + PLAN.validate_seconds
    assert world.reports == ["d1"]


def test_the_audit_is_asked_once_before_the_old_one_goes(world: TwoSlots) -> None:
    record = deploy(world)
    assert world.audits == 1
    assert record.facts.audit is not None
    assert record.facts.audit["verdict"] == "PASS"


@pytest.mark.parametrize(
    ("query", "value", "gate"),
    [
        ("mismatch", 1.0, "G7a"),
        ("ingest_messages_received_total", 3.0, "G4"),
        ("process_resident_memory_bytes", 450.0 * 2**20, "G5"),
        ("log_events", 2.0, "G6"),
        ("ingest_healthy", 0.0, "G2"),
        ("up", 0.0, "G3"),
        ("ingest_container_running", 0.0, "G1a"),
    ],
)
def test_a_gate_that_fails_in_the_shadow_stops_the_candidate_at_once(
    world: TwoSlots, query: str, value: float, gate: str
) -> None:
    world.at[60] = lambda: world.values.update({query: value})
    record = deploy(world)
    assert record.state is State.ABORTED
    assert record.facts.failed_in == "SHADOW"
    assert record.facts.reason.startswith(gate)
    assert world.now - START < 100
    assert world.writers() == ["blue"]
    assert not world.slots["green"].running
    assert world.generation == 7


@pytest.mark.parametrize(("query", "value", "gate"), [
    ("ingest_handover_seconds", 12.0, "H3"),
    ("process_resident_memory_bytes", 450.0 * 2**20, "G5"),
])  # fmt: skip
def test_a_gate_that_fails_after_the_hand_over_rolls_back(world: TwoSlots, query: str, value: float, gate: str) -> None:
    world.at[250] = lambda: world.values.update({query: value})
    record = deploy(world)
    assert record.state is State.ROLLED_BACK
    assert record.facts.failed_in == "VALIDATE"
    assert record.facts.reason.startswith(gate)
    assert world.writers() == ["blue"]
    assert not world.slots["green"].running
    assert record.facts.roll_back_seconds is not None
    assert record.facts.roll_back_seconds < 2
    assert record.facts.roll_back_gap_seconds == 0.21
    assert world.audits == 1  # the last word, after it


def test_data_that_is_missing_is_held_then_retried_then_undone(world: TwoSlots) -> None:
    world.at[60] = lambda: world.missing.add("ingest_healthy")
    record = deploy(world)
    assert record.state is State.ABORTED
    assert stages(world)[2:] == [
        "SHADOW", "SHADOW_HELD", "SHADOW", "SHADOW_HELD", "SHADOW", "SHADOW_HELD", "ABORTING", "ABORTED",
    ]  # fmt: skip
    assert "inconclusive after 2 retries" in record.facts.reason
    assert "G2" in record.facts.reason
    assert world.now - START == pytest.approx(120 + 2 * 60, abs=10)


def test_data_that_comes_back_while_held_goes_on(world: TwoSlots) -> None:
    world.at[60] = lambda: world.missing.add("ingest_healthy")
    world.at[200] = lambda: world.missing.clear()
    record = deploy(world)
    assert record.state is State.DONE
    assert stages(world).count("SHADOW_HELD") == 2
    assert record.facts.holds == 0


def test_missing_data_after_the_hand_over_is_rolled_back_in_the_end(world: TwoSlots) -> None:
    world.at[140] = lambda: world.missing.add("ingest_messages_received_total")
    record = deploy(world)
    assert record.state is State.ROLLED_BACK
    assert "G4" in record.facts.reason
    assert world.writers() == ["blue"]


def test_too_few_compared_records_do_not_pass(world: TwoSlots) -> None:
    world.values["compared"] = 100.0
    record = deploy(world)
    assert record.state is State.ABORTED
    assert "G7b" in record.facts.reason


@pytest.mark.parametrize(("slot", "compared", "state", "gate"), [
    ("green", 5999, State.ABORTED, "P2"), ("blue", 2999, State.ROLLED_BACK, "P3"),
])  # fmt: skip
def test_too_few_compared_records_as_a_status_says_do_not_pass(
    world: TwoSlots, slot: str, compared: int, state: State, gate: str
) -> None:
    world.compared[slot] = compared
    record = deploy(world)
    assert (record.state, gate in record.facts.reason) == (state, True), record.facts.reason


@pytest.mark.parametrize("compares", [True, False])
def test_gates_of_the_predecessor_s_comparison_are_judged_only_where_it_compares(
    world: TwoSlots, *, compares: bool
) -> None:
    record = deploy(world, parse({**SHORT, "compare_after": compares}))
    assert record.state is State.DONE
    judged = {one.gate for one in record.facts.results["VALIDATE"]}
    expected = {"G1c", "S3", "S4", "S5", "S6", "P3"}
    assert judged & expected == (expected if compares else set())


@pytest.mark.parametrize(("moment", "state", "failed_in"), [
    (60, State.ABORTED, "SHADOW"),
    (250, State.ROLLED_BACK, "VALIDATE"),
])  # fmt: skip
def test_a_candidate_that_dies_is_seen_without_waiting_for_a_scrape(
    world: TwoSlots, moment: float, state: State, failed_in: str
) -> None:
    world.at[moment] = lambda: world.die("green")
    record = deploy(world)
    assert (record.state, record.facts.failed_in) == (state, failed_in)
    assert "ended with 137" in record.facts.reason
    assert world.writers() == ["blue"]
    assert world.now - START < moment + 5


def test_a_writer_that_dies_in_the_shadow_is_started_again_before_the_candidate_goes(world: TwoSlots) -> None:
    world.at[60] = lambda: world.die("blue")
    record = deploy(world)
    assert record.state is State.ABORTED
    assert "the writer, blue" in record.facts.reason
    assert world.writers() == ["blue"]


def test_a_hand_over_that_does_not_come_about_is_rolled_back(world: TwoSlots) -> None:
    world.can_promote = {"blue"}
    record = deploy(world)
    assert (record.state, record.facts.failed_in) == (State.ROLLED_BACK, "HANDOVER")
    assert "not within 60 s" in record.facts.reason
    assert world.writers() == ["blue"]


def test_a_candidate_that_dies_at_the_cut_over_is_rolled_back(world: TwoSlots) -> None:
    seen = deployer(world)

    def at_handover(record: Record) -> bool:
        return record.state is State.HANDOVER and record.facts.handover_began is not None

    with closing(seen):
        seen.open("d1", PLAN)
        seen.run("d1", until=at_handover)
        world.die("green")
        seen.run("d1", until=lambda _: False)
        record = seen.finish("d1")
    assert (record.state, record.facts.failed_in) == (State.ROLLED_BACK, "HANDOVER")
    assert world.writers() == ["blue"]


def test_another_writer_during_validation_is_rolled_back_without_a_second_take_over(world: TwoSlots) -> None:
    def blue_takes_over() -> None:
        world.slots["blue"].role, world.slots["green"].role = "active", "standby"
        world.generation += 1

    world.at[250] = blue_takes_over
    record = deploy(world)
    assert record.state is State.ROLLED_BACK
    assert "green is standby" in record.facts.reason
    assert world.generation == 9


def test_an_unclean_audit_is_rolled_back(world: TwoSlots) -> None:
    world.audit_verdict = Verdict.FAIL
    record = deploy(world)
    assert record.state is State.ROLLED_BACK
    assert record.facts.reason.startswith("H2")


def test_a_version_that_does_not_start_is_not_tried_again(world: TwoSlots) -> None:
    world.can_start = False
    record = deploy(world)
    assert (record.state, record.facts.failed_in) == (State.ABORTED, "STANDBY")
    assert "ended with 3" in record.facts.reason


@pytest.mark.parametrize("build", ["failed", "refused", "running"])
def test_a_version_that_cannot_be_built_touches_nothing(world: TwoSlots, build: str) -> None:
    world.build_state = build
    record = deploy(world)
    assert (record.state, record.facts.failed_in) == (State.ABORTED, "BUILD")
    assert not world.slots["green"].running
    assert world.now - START < 310


@pytest.mark.parametrize("roles", [("standby", "standby"), ("active", "active")])
def test_without_exactly_one_writer_nothing_is_begun(world: TwoSlots, roles: tuple[str, str]) -> None:
    world.slots["green"].running, world.slots["green"].version = True, "v0"
    world.slots["blue"].role, world.slots["green"].role = roles
    record = deploy(world)
    assert (record.state, record.facts.failed_in) == (State.ABORTED, "PLAN")
    assert "exactly one" in record.facts.reason
    assert world.slots["green"].running


def test_a_standby_that_was_left_running_is_replaced(world: TwoSlots) -> None:
    world.slots["green"].running, world.slots["green"].version = True, "v0"
    assert deploy(world).state is State.DONE


def test_the_same_version_that_was_running_before_is_started_afresh(world: TwoSlots) -> None:
    world.slots["green"].running, world.slots["green"].version = True, "v2"
    world.slots["green"].started_at = START - 500
    assert deploy(world).state is State.DONE
    assert (world.slots["green"].started_at or 0) >= START


def test_a_roll_back_that_fails_is_a_person_s(world: TwoSlots) -> None:
    def worst() -> None:
        world.values["process_resident_memory_bytes"] = 450.0 * 2**20
        world.can_promote.clear()

    world.at[250] = worst
    record = deploy(world)
    assert record.state is State.MANUAL
    assert "not within 120 s" in record.facts.reason
    assert world.slots["green"].running, "the only writer must not be stopped"


def test_a_short_absence_of_the_agent_costs_nothing(world: TwoSlots) -> None:
    world.at[60] = lambda: setattr(world, "agent_down", True)
    world.at[90] = lambda: setattr(world, "agent_down", False)
    assert deploy(world).state is State.DONE
