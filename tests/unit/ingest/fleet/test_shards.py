"""One shard of an instance: its child is started, warmed, promoted, restarted and ended."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from ingest.core.child_protocol import Budget, End, Promote, Report
from ingest.fleet import shards
from ingest.fleet.decisions import Pace
from ingest.fleet.members import Member, View
from ingest.fleet.metrics import FleetMetrics
from ingest.fleet.shards import BACKOFF_MAXIMUM, FIRST_SECONDS, HUNG_SECONDS, Shard

OWN = Member("a", "h", 6, "f", "v", "n1")
OTHER = replace(OWN, instance="b", nonce="n2")


class FakeChild:
    """A child as the supervisor sees it."""

    def __init__(self, shard: int, now: float) -> None:
        self.shard, self.pid, self.started_at = shard, 1, now
        self.ended: int | None = None
        self.said: tuple[Report | None, float] = (None, now)
        self.commands: list[Any] = []
        self.sent: Budget | None = None
        self.killed = False

    def report(self) -> tuple[Report | None, float]:
        return self.said

    def says(self, now: float, role: str, *, warm: bool = True, generation: int = 1, attempts: int = 5) -> None:
        self.said = (Report(role, generation, warm, 0.1, 0.1, attempts, "http://127.0.0.1:1"), now)

    def attempts(self, _: float) -> int:
        return 3

    def send(self, command: Any) -> None:
        self.commands.append(command)
        if isinstance(command, Budget):
            self.sent = command

    def end(self) -> None:
        self.send(End())

    def kill(self) -> None:
        self.killed = True


class World:
    """A shard, its children and the time."""

    def __init__(self) -> None:
        self.now = 100.0
        self.children: list[FakeChild] = []
        self.fails = False
        self.shard = Shard(2, OWN, self._start, FleetMetrics(process=False), Pace(1.0, 2.5))
        self.view = View(0.0, True, (OWN, OTHER), {2: OWN})

    def _start(self, number: int) -> Any:
        if self.fails:
            raise OSError("out of processes")
        self.children.append(FakeChild(number, self.now))
        return self.children[-1]

    @property
    def child(self) -> FakeChild:
        return self.children[-1]

    def turn(self, *, after: float = 0.2, epoch: int | None = 1, **more: Any) -> None:
        self.now += after
        self.shard.observe(self.now)
        given = {"standby_duty": False, "owner_gone": False, "leaving": False, "leave_over": False, **more}
        self.shard.act(self.now, epoch=epoch, view=self.view, **given)

    def warm(self) -> None:
        """Until the child is a warm standby that has settled."""
        self.turn()
        for _ in range(8):
            self.child.says(self.now, "standby")
            self.turn()

    def active(self) -> None:
        self.warm()
        self.child.says(self.now, "active", generation=2)
        self.turn()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    def backoff(*, initial: float, maximum: float, uniform: Callable[[float, float], float]) -> Any:
        del uniform
        while True:
            yield initial
            initial = min(2 * initial, maximum)

    monkeypatch.setattr(shards, "full_jitter", backoff)
    return World()


def promotions(child: FakeChild) -> list[Promote]:
    return [one for one in child.commands if isinstance(one, Promote)]


def test_a_shard_that_is_assigned_is_started_and_promoted_once_it_is_warm(world: World) -> None:
    world.turn()
    assert len(world.children) == 1
    world.child.says(world.now, "standby", warm=False, generation=7)
    for _ in range(20):
        world.turn(after=0.1)
    assert promotions(world.child) == []
    for _ in range(8):
        world.child.says(world.now, "standby", generation=7)
        world.turn()
    assert [one.generation for one in promotions(world.child)] == [8]


def test_a_writer_that_was_fenced_is_promoted_again_only_when_the_group_confirms(world: World) -> None:
    world.active()
    before = len(promotions(world.child))
    world.view = replace(world.view, at=world.now)
    for _ in range(50):
        world.child.says(world.now, "standby", generation=3)
        world.turn()
    assert len(promotions(world.child)) == before
    world.view = View(world.now, True, (OWN, OTHER), {2: OTHER})
    world.turn()
    assert len(promotions(world.child)) == before
    world.view = View(world.now, True, (OWN, OTHER), {2: OWN})
    world.turn()
    assert promotions(world.child)[-1].generation == 4


def test_a_new_assignment_needs_no_confirmation(world: World) -> None:
    world.active()
    world.view = View(0.0, True, (OWN, OTHER), {})
    for _ in range(8):
        world.child.says(world.now, "standby", generation=3)
        world.turn(epoch=None)
    world.turn(epoch=2)
    assert promotions(world.child)[-1].generation == 4


def test_a_writer_that_is_assigned_again_counts_as_having_taken_over(world: World) -> None:
    world.active()
    world.turn(epoch=None)
    world.turn(epoch=2)
    before = len(promotions(world.child))
    for _ in range(20):
        world.child.says(world.now, "standby", generation=3)
        world.turn(epoch=2)
    assert len(promotions(world.child)) == before


def test_a_child_that_ends_is_started_again_after_pauses_that_grow(world: World) -> None:
    pauses = []
    for _ in range(10):
        world.turn()
        began = world.now
        world.child.ended = 70
        count = len(world.children)
        while len(world.children) == count:
            world.turn(after=0.1)
        pauses.append(round(world.now - began))
        assert world.shard.last_exit == 70
    assert pauses == sorted(pauses)
    assert pauses[-1] == BACKOFF_MAXIMUM
    assert world.shard.past_attempts.used(world.now) == 3 * len([one for one in pauses if one])


def test_a_clean_end_is_followed_by_a_start_at_once(world: World) -> None:
    world.turn()
    world.child.ended = 0
    world.turn()
    assert len(world.children) == 2


def test_a_process_that_cannot_be_started_is_tried_again_later(world: World) -> None:
    world.fails = True
    world.turn()
    world.fails = False
    world.turn()
    assert world.children == []
    world.turn(after=1.0)
    assert len(world.children) == 1


def test_a_child_that_does_not_report_is_killed_but_not_if_the_supervisor_was_frozen(world: World) -> None:
    world.active()
    world.shard.pardon(world.now + HUNG_SECONDS)
    world.turn(after=HUNG_SECONDS + 1.0)
    assert not world.child.killed
    world.turn(after=HUNG_SECONDS)
    assert world.child.killed


def test_a_child_gets_more_time_for_its_first_report(world: World) -> None:
    world.turn()
    world.turn(after=HUNG_SECONDS + 1.0)
    assert not world.child.killed
    world.turn(after=FIRST_SECONDS)
    assert world.child.killed


def test_an_instance_that_leaves_lets_writers_write_until_they_are_fenced(world: World) -> None:
    world.active()
    world.turn(epoch=None, leaving=True)
    assert not any(isinstance(one, End) for one in world.child.commands)
    world.child.says(world.now, "standby")
    world.turn(epoch=None, leaving=True)
    assert isinstance(world.child.commands[-1], End)


def test_without_another_instance_there_is_nobody_to_wait_for(world: World) -> None:
    world.active()
    world.view = View(world.now, True, (OWN,), {2: OWN})
    world.turn(epoch=None, leaving=True)
    assert isinstance(world.child.commands[-1], End)


def test_a_budget_is_sent_until_it_is_in_force(world: World) -> None:
    world.turn()
    world.shard.allow(12, 5)
    world.shard.allow(12, 5)
    assert world.child.commands == [Budget(12, 5)]
    world.child.says(world.now, "standby", attempts=4)
    world.shard.allow(12, 5)
    world.child.says(world.now, "standby", attempts=5)
    world.shard.allow(12, 5)
    assert world.child.commands == [Budget(12, 5)] * 2


def test_only_a_writer_has_a_commit_age_and_it_grows_while_nothing_is_reported(world: World) -> None:
    world.warm()
    assert world.shard.commit_age(world.now) is None
    world.child.says(world.now, "active")
    world.turn(after=3.0)
    assert world.shard.writing
    assert world.shard.commit_age(world.now) == pytest.approx(3.1)
