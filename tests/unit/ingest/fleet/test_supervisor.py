"""The supervisor's turns, with a group, views and children that the test makes."""

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from ingest.core.child_protocol import Budget, End
from ingest.core.errors import IngestError, Stop
from ingest.fleet.group import Assignment
from ingest.fleet.members import Member, View
from ingest.fleet.metrics import FleetMetrics
from ingest.fleet.shards import monotonic
from ingest.fleet.status import FleetProbe
from ingest.fleet.supervisor import END_SECONDS, Supervisor
from ingest.settings import Settings, load
from tests.unit.ingest.fleet.test_shards import FakeChild

OWN = Member("a", "h", 2, "f", "v", "n1")
OTHER = replace(OWN, instance="b", nonce="n2")
SETTINGS = load(
    {"K2_SHARD_INDEX": "auto", "K2_SHARD_COUNT": "2", "K2_BINANCE_CONNECTION_ATTEMPTS_PER_5_MINUTES": "300"}
)


class FakeGroup:
    def __init__(self, fail: Callable[[IngestError], None]) -> None:
        self.fail = fail
        self.assignment = Assignment()
        self.sessions_lost = 0
        self.left = threading.Event()

    def start(self) -> None:
        self.assignment.add([0, 1])

    def leave(self) -> None:
        self.left.set()

    def join(self, _: float) -> None:
        assert self.left.is_set()


class FakeViews:
    def __init__(self) -> None:
        self.latest: View | None = None

    def start(self) -> None: ...

    def close(self) -> None: ...


class World:
    def __init__(self, settings: Settings = SETTINGS) -> None:
        self.now = monotonic()
        self.signals = 0
        self.view_failed: Callable[[IngestError], None]
        self.children: list[FakeChild] = []
        self.views = FakeViews()
        self.groups: list[FakeGroup] = []
        self.metrics = FleetMetrics("g", process=False)
        self.supervisor = Supervisor(
            settings,
            OWN,
            self.metrics,
            numbers={0, 1},
            starter=self._starter,
            group=self._group,
            views=self._view_thread,
            signals=lambda: self.signals,
        )
        self.supervisor.turned_at = self.now
        self.group.start()
        self.probe = FleetProbe(settings, "v")
        self.probe.supervisor = self.supervisor

    @property
    def group(self) -> FakeGroup:
        return self.groups[0]

    def _group(self, fail: Callable[[IngestError], None]) -> Any:
        self.groups.append(FakeGroup(fail))
        return self.groups[0]

    def _view_thread(self, fail: Callable[[IngestError], None]) -> Any:
        self.view_failed = fail
        return self.views

    def _starter(self, _: Callable[[], None]) -> Any:
        def start(shard: int) -> Any:
            self.children.append(FakeChild(shard, self.now))
            return self.children[-1]

        return start

    def turn(self, *members: Member, after: float = 0.2) -> None:
        self.now += after
        if members:
            self.views.latest = View(self.now, True, members, {0: OWN, 1: OWN})
        self.supervisor.turn(self.now)


def told_to_end(child: FakeChild) -> bool:
    return any(isinstance(one, End) for one in child.commands)


@pytest.fixture
def world() -> World:
    return World()


def test_nothing_is_started_before_the_group_has_confirmed_the_membership(world: World) -> None:
    world.turn()
    world.turn(OTHER)
    assert world.children == []
    assert not world.probe.ready().ok
    world.turn(OWN, OTHER)
    assert [child.shard for child in world.children] == [0, 1]


def test_a_member_without_an_answer_of_the_group_is_not_introduced(world: World) -> None:
    world.group.assignment = Assignment()
    world.turn(OWN)
    assert not world.supervisor.introduced
    world.group.assignment.add([])
    world.turn(OWN)
    assert world.supervisor.introduced
    assert world.probe.ready().ok


def test_the_first_command_of_a_child_is_its_budget(world: World) -> None:
    world.turn(OWN)
    for child in world.children:
        (first,) = child.commands
        assert isinstance(first, Budget)
        assert first.processes == 4
        assert 0 < first.attempts <= 300


def test_an_instance_that_contradicts_the_fleet_ends_before_it_starts_anything(world: World) -> None:
    world.views.latest = View(1.0, True, (OWN, replace(OTHER, shards=3)), {})
    with pytest.raises(Stop, match="K2_SHARD_COUNT=3, this one 2"):
        world.supervisor.run()
    assert world.children == []
    assert world.group.left.is_set()


def test_an_instance_that_came_first_goes_on(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.turn(OWN)
    world.turn(OWN, replace(OTHER, shards=3))
    assert "that instance must not start" in caplog.text
    assert world.supervisor.leaving_since is None


def test_another_version_is_said_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        world.turn(OWN, replace(OTHER, version="v2"))
    assert caplog.text.count("instance b runs version v2, this one v") == 1


def test_a_fatal_error_of_the_group_ends_the_children_and_is_raised(world: World) -> None:
    world.turn(OWN)
    world.group.fail(Stop("the protocol is another"))
    world.turn(OWN)
    assert all(map(told_to_end, world.children))
    for child in world.children:
        child.ended = 0
    with pytest.raises(Stop, match="the protocol is another"):
        world.supervisor.run()


def test_a_second_signal_does_not_wait_for_successors(world: World) -> None:
    world.turn(OWN, OTHER)
    for child in world.children:
        child.says(world.now, "active")
    world.turn(OWN, OTHER)
    world.signals = 1
    world.turn(OTHER)
    assert world.group.left.is_set()
    assert not any(map(told_to_end, world.children))
    world.signals = 2
    world.turn(OTHER)
    assert all(map(told_to_end, world.children))


def test_a_signal_before_the_start_is_obeyed() -> None:
    world = World()
    world.signals = 1
    world.supervisor.run()
    assert world.group.left.is_set()
    assert world.children == []


DRAIN = SETTINGS.service.drain_timeout_seconds + END_SECONDS
LEAVE = SETTINGS.service.fleet_leave_timeout_seconds


def seconds_until_killed(world: World) -> float:
    began = world.now
    while not any(child.killed for child in world.children):
        world.turn(OTHER)
        for child in world.children:
            child.says(world.now, "active")
        assert world.now - began < 100
    assert all(child.killed for child in world.children)
    return world.now - began


def test_a_child_that_does_not_end_is_killed_at_last(world: World) -> None:
    world.turn(OWN)
    for child in world.children:
        child.says(world.now, "active")
    world.turn(OWN)
    world.signals = 1
    assert seconds_until_killed(world) == pytest.approx(LEAVE + DRAIN, abs=1.0)


def test_children_have_their_time_for_draining_also_after_a_late_second_signal(world: World) -> None:
    world.turn(OWN)
    for child in world.children:
        child.says(world.now, "active")
    world.turn(OWN)
    world.signals = 1
    for _ in range(int((LEAVE - 1) / 0.2)):
        world.turn(OTHER)
        for child in world.children:
            child.says(world.now, "active")
    assert not any(map(told_to_end, world.children))
    world.signals = 2
    assert seconds_until_killed(world) == pytest.approx(DRAIN, abs=0.5)


def test_after_a_fatal_error_children_have_their_time_for_draining_and_no_more(world: World) -> None:
    world.turn(OWN)
    world.group.fail(Stop("the protocol is another"))
    assert seconds_until_killed(world) == pytest.approx(DRAIN, abs=0.5)


def test_a_view_that_crashed_ends_the_instance(world: World) -> None:
    world.view_failed(Stop("the view crashed"))
    with pytest.raises(Stop, match="the view crashed"):
        world.supervisor.run()


def test_another_member_with_this_instance_s_id_ends_one_that_is_not_confirmed_yet(world: World) -> None:
    world.views.latest = View(1.0, True, (OWN, replace(OWN, nonce="n9")), {})
    with pytest.raises(Stop, match=r"another member of the group .* has K2_INSTANCE_ID=a, at h"):
        world.supervisor.run()
    assert world.children == []


def test_one_that_is_confirmed_says_once_that_another_member_has_its_id(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.turn(OWN)
    for _ in range(3):
        world.turn(OWN, replace(OWN, nonce="n9"))
    assert caplog.text.count("give each instance its own") == 1
    assert world.supervisor.leaving_since is None


def test_shards_without_connection_attempts_are_said_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World(replace(SETTINGS, binance=replace(SETTINGS.binance, connection_attempts_per_5_minutes=40)))
    for _ in range(3):
        world.turn(OWN, after=1.0)
    assert "no connection attempts" not in caplog.text
    world = World(replace(SETTINGS, binance=replace(SETTINGS.binance, connection_attempts_per_5_minutes=5)))
    for _ in range(3):
        world.turn(OWN, after=1.0)
    assert caplog.text.count("no connection attempts are left for shards 0, 1: they wait. 1 instances share h") == 1


def test_metrics_say_whether_it_is_ready_without_a_request(world: World) -> None:
    def value(name: str) -> float | None:
        return world.metrics.registry.get_sample_value(f"ingest_fleet_{name}")

    age = value("view_age_seconds")
    assert age is not None
    assert math.isnan(age), "no view is not a fresh view"
    world.turn()
    age = value("view_age_seconds")
    assert age is not None
    assert math.isnan(age)
    world.turn(OWN)
    assert (value("view_age_seconds"), value("ready")) == (0.0, 0.0)
    for child in world.children:
        child.says(world.now, "active")
    world.turn(OWN)
    assert value("ready") == 1.0
    world.signals = 1
    world.turn(OWN)
    assert value("ready") == 0.0


def test_ready_means_that_every_assigned_shard_is_written_here(world: World) -> None:
    world.turn(OWN)
    world.turn(OWN)
    assert "shard 0 is not written here yet: no child reports" in world.probe.ready().reason
    for child in world.children:
        child.says(world.now, "active")
    world.turn(OWN)
    assert world.probe.ready().ok
    status = world.probe.status()
    assert status["shard"] == {"index": "auto", "count": 2}
    assert [one["instance"] for one in status["members"]] == ["a"]
    assert status["shards"]["1"]["owner"] == "a"
