"""One version for every shard: the canary first, nothing half done, the same command goes on where it was killed."""

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.commands.rollout import MOST_NAME, Rollout
from ingest_ops.deployment.commands.undoing import proven, undo
from ingest_ops.deployment.fleet import Shard
from ingest_ops.deployment.journal import AlreadyOpen, Journal, OtherShard
from ingest_ops.deployment.plan import BadPlan, parse
from ingest_ops.deployment.settings import DeploySettings
from tests.harness.deployment.model import FakeControl, Killed, TwoSlots, closing, deployer
from tests.harness.deployment.series import Series
from tests.unit.ingest_ops.deployment.deploying import PLAN, SHORT

NAMES = ("0", "1", "2")


class Fleet:
    """Three pairs of slots that share a journal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.worlds = {name: TwoSlots(folder / name) for name in NAMES}
        self.settings = DeploySettings(journal_url=f"sqlite:///{folder / 'journal.db'}")
        self.shards = [Shard(name=name, agent_url=f"http://agent-{name}:9099") for name in NAMES]

    @contextlib.contextmanager
    def connect(self, shard: Shard) -> Iterator[Any]:
        world = self.worlds[shard.name]
        with closing(deployer(world, shard=shard.name, journals=self.folder)) as one:
            yield SimpleNamespace(
                agent=world, control=FakeControl(world), journal=one.journal, deployer=one, sleep=world.sleep,
                shard=shard.name,
            )  # fmt: skip

    def rollout(self, name: str = "d1", *, as_json: bool = False) -> Rollout:
        return Rollout(self.settings, name, self.shards, as_json=as_json, connect=self.connect)

    def writing(self) -> list[tuple[str, ...]]:
        """What writes in each shard: slot and version."""
        return [tuple(f"{slot} {world.slots[slot].version}" for slot in world.writers())
                for world in self.worlds.values()]  # fmt: skip


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


BEFORE = [("blue v1",)] * 3
AFTER = [("green v2",)] * 3


def test_a_good_version_goes_live_in_every_shard(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    rollout = fleet.rollout(as_json=True)
    assert rollout.say(rollout.deploy(PLAN)) == 0
    assert fleet.writing() == AFTER
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], [one["deployed"]["id"] for one in found["shards"]]) == ("DONE", ["d1.0", "d1.1", "d1.2"])


def test_a_bad_version_stops_at_the_canary_and_the_others_are_never_touched(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.worlds["0"].mismatches["green"] = 3
    rollout = fleet.rollout()
    assert rollout.say(rollout.deploy(PLAN)) == 1
    assert fleet.writing() == BEFORE
    assert [fleet.worlds[name].calls for name in ("1", "2")] == [0, 0]
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert lines[0].startswith("shard 0: v2 ABORTED: ")
    assert lines[1:] == ["shard 1: not touched", "shard 2: not touched"]


def test_what_fails_in_a_later_shard_is_taken_back_from_those_before(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet.worlds["1"].can_promote.discard("green")
    rollout = fleet.rollout()
    assert rollout.say(rollout.deploy(PLAN)) == 1
    assert fleet.writing() == BEFORE
    assert fleet.worlds["2"].calls == 0
    lines = capsys.readouterr().out.splitlines()[-3:]
    assert lines[0] == "shard 0: v2 DONE; taken back: ROLLED_BACK"
    assert lines[1].startswith("shard 1: v2 ROLLED_BACK: ")
    assert lines[2] == "shard 2: not touched"


def test_it_ends_the_same_wherever_it_is_killed(tmp_path: Path) -> None:
    """Killed after each deed in turn, and repeated with the same id: all or nothing, as without the kill."""
    for number, (bad, expected) in enumerate(((None, AFTER), ("1", BEFORE))):
        for kill in range(number, 60, 5):
            fleet = Fleet(tmp_path / f"{number}-{kill}")
            fleet.folder.mkdir()
            left = kill
            if bad is not None:
                fleet.worlds[bad].can_promote.discard("green")
            killed = False
            for name in NAMES:
                fleet.worlds[name].kill_after = left if name == NAMES[kill % 3] else None
            for _ in range(3):
                try:
                    fleet.rollout().deploy(PLAN)
                    break
                except Killed:
                    killed = True
                    for world in fleet.worlds.values():
                        world.sleep(120.0)  # until the lease of the killed one is over
            assert fleet.writing() == expected, (bad, kill)
            if not killed:
                break


def test_a_roll_back_takes_the_latest_one_back_from_every_shard(fleet: Fleet) -> None:
    fleet.rollout("d1").deploy(PLAN)
    name = Rollout.latest(fleet.settings)
    rollout = fleet.rollout(name)
    outcomes = rollout.undo(audit=False)
    assert (name, rollout.say(outcomes), fleet.writing()) == ("d1", 1, BEFORE)
    again = fleet.rollout("d1").deploy(PLAN)
    assert (fleet.writing(), again) == (BEFORE, outcomes), "what was taken back is not deployed by a repeated command"


def test_a_roll_back_stops_the_one_under_way_and_touches_no_further_shard(fleet: Fleet) -> None:
    fleet.worlds["1"].kill_after = 2
    with pytest.raises(Killed):
        fleet.rollout().deploy(PLAN)
    for world in fleet.worlds.values():
        world.sleep(120.0)
    fleet.rollout().undo(audit=False)
    assert fleet.writing() == BEFORE
    assert fleet.worlds["2"].calls == 0
    with closing(deployer(fleet.worlds["0"], shard="0", journals=fleet.folder)) as one:
        assert one.journal.open_one() is None


def test_where_it_is_not_known_what_writes_the_others_are_left_to_a_person(fleet: Fleet) -> None:
    fleet.worlds["1"].can_promote.clear()  # neither forward nor back
    fleet.worlds["1"].slots["blue"].role = "active"

    def stuck() -> None:
        fleet.worlds["1"].slots["blue"].role = "standby"

    fleet.worlds["1"].at[150.0] = stuck
    rollout = fleet.rollout()
    outcomes = rollout.deploy(PLAN)
    assert [one.state for one in outcomes] == ["DONE", "MANUAL", None]
    assert rollout.say(outcomes) == 3
    assert fleet.writing()[0] == AFTER[0]


def test_another_deployment_that_is_open_is_not_undone_by_it(fleet: Fleet) -> None:
    fleet.rollout().deploy(PLAN)
    plan = parse({**SHORT, "version": "v3", "shard": "2"})
    with closing(deployer(fleet.worlds["2"], shard="2", journals=fleet.folder)) as one:
        one.open("by-hand", plan)
    with pytest.raises(AlreadyOpen, match="by-hand"):
        fleet.rollout().undo(audit=False)
    assert fleet.writing() == AFTER


def test_a_repeated_command_begins_no_further_shard_once_it_is_being_taken_back(fleet: Fleet) -> None:
    first = Rollout(fleet.settings, "d1", fleet.shards[:1], connect=fleet.connect)  # ended behind the first shard
    first.deploy(PLAN)
    first.undo(audit=False)
    assert [one.state for one in fleet.rollout("d1").deploy(PLAN)] == ["ROLLED_BACK", None, None]
    assert [fleet.worlds[name].calls for name in ("1", "2")] == [0, 0]


def test_every_question_to_prometheus_is_about_the_shard(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    for name in ("value", "series"):
        real = getattr(Series, name)

        def kept(self: Series, query: str, *at: float, real: Any = real) -> Any:
            asked.append(query)
            return real(self, query, *at)

        monkeypatch.setattr(Series, name, kept)
    Rollout(fleet.settings, "d1", fleet.shards[1:2], connect=fleet.connect).deploy(PLAN)
    assert len(asked) > 50
    assert [query for query in asked if 'shard="1"' not in query] == []


def test_what_was_live_in_a_shard_is_not_taken_from_another_one(fleet: Fleet) -> None:
    fleet.rollout("d1").deploy(PLAN)  # v2 in green, v1 was in blue
    Rollout(fleet.settings, "d2", fleet.shards[1:2], connect=fleet.connect).deploy(parse({**SHORT, "version": "v3"}))
    with contextlib.closing(Journal(fleet.settings.journal_url, fleet.worlds["0"].clock)) as journal:
        records = journal.latest()
    assert [proven(records, "blue", shard) for shard in ("0", "1")] == ["v1", "v3"]


def test_an_earlier_deployment_is_not_taken_back_over_a_later_one(fleet: Fleet) -> None:
    fleet.rollout("d1").deploy(PLAN)
    fleet.rollout("d2").deploy(parse({**SHORT, "version": "v3"}))
    live = fleet.writing()
    with pytest.raises(BadPlan, match=r"d1\.2: d2\.2 has changed its shard since: nothing is taken back"):
        fleet.rollout("d1").undo(audit=False)
    assert fleet.writing() == live == [("blue v3",)] * 3


def test_one_that_was_not_live_since_does_not_keep_the_earlier_one_from_being_taken_back(fleet: Fleet) -> None:
    fleet.rollout("d1").deploy(PLAN)
    fleet.worlds["0"].mismatches["blue"] = 3
    assert fleet.rollout("d2").deploy(parse({**SHORT, "version": "v3"}))[0].state == "ABORTED"
    fleet.rollout("d1").undo(audit=False)
    assert fleet.writing() == BEFORE


def test_a_deployer_does_nothing_to_another_shard(fleet: Fleet) -> None:
    with closing(deployer(fleet.worlds["1"], shard="1", journals=fleet.folder)) as one:
        one.open("d1.1", parse({**SHORT, "shard": "1"}))
    for name, text in (("0", "is of shard 1, this command works on shard 0"), ("", "works on the only shard")):
        world = fleet.worlds["0"]
        with closing(deployer(world, shard=name, journals=fleet.folder)) as one:
            parts: Any = SimpleNamespace(
                agent=world, control=FakeControl(world), journal=one.journal, deployer=one, sleep=world.sleep,
                shard=name,
            )  # fmt: skip
            acts: tuple[Callable[[], object], ...] = (
                lambda one=one: one.advance("d1.1"),  # type: ignore[misc]
                lambda one=one: one.due("d1.1"),  # type: ignore[misc]
                lambda one=one: one.finish("d1.1"),  # type: ignore[misc]
                lambda parts=parts: undo(parts, None, version=None, audit=False),  # type: ignore[misc]
            )
            for act in acts:
                with pytest.raises(OtherShard, match=text):
                    act()
            assert one.journal.read("d1.1").facts.cancelled_by == ""
        assert world.calls == 0


def test_an_audit_that_fails_takes_all_back(fleet: Fleet) -> None:
    fleet.worlds["2"].audit_verdict = Verdict.FAIL
    rollout = fleet.rollout()
    assert rollout.say(rollout.deploy(PLAN)) == 1
    assert fleet.writing() == BEFORE


def test_names_and_journals_without_one_are_refused(fleet: Fleet) -> None:
    with pytest.raises(BadPlan, match="at most 40 characters"):
        fleet.rollout("d" * (MOST_NAME + 1))
    with pytest.raises(BadPlan, match="the journal has no deployment of several shards"):
        Rollout.latest(fleet.settings)


def test_cleaning_keeps_what_was_live_last_in_each_shard(fleet: Fleet) -> None:
    for number in range(3):
        fleet.rollout(f"d{number}").deploy(PLAN)
    journal = Journal(fleet.settings.journal_url, fleet.worlds["0"].clock)
    gone = journal.forget(fleet.worlds["0"].now + 10**9, keep=2)
    kept = {record.id for record in journal.latest(100)}
    journal.close()
    assert {f"d2.{name}" for name in NAMES} | {f"d1.{name}" for name in NAMES} == kept
    assert len(gone) == 3
