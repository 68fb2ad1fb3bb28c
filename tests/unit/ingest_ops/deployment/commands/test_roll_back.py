"""A roll-back of its own, where it is not clear what to go back from."""

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ingest_ops.deployment.commands.undoing import undo
from ingest_ops.deployment.plan import BadPlan
from tests.harness.deployment.model import FakeControl, TwoSlots, closing, deployer


@pytest.fixture
def world(tmp_path: Path) -> TwoSlots:
    return TwoSlots(tmp_path)


def _nobody(world: TwoSlots) -> None:
    world.slots["blue"].running = False


def _silent(world: TwoSlots) -> None:
    world.start("green", "v2")
    world.slots["blue"].role = "standby"


@pytest.mark.parametrize(("before", "words"), [
    (_nobody, "nothing is deployed that could be rolled back: blue is stopped, green is stopped"),
    (_silent, "not clear what to go back from: blue is standby, green is standby"),
    (lambda _: None, "blue writes, green is stopped; no version is known that was live in green"),
])  # fmt: skip
def test_a_roll_back_from_nothing_says_what_it_found_and_leaves_no_trace(
    world: TwoSlots, before: Callable[[TwoSlots], None], words: str
) -> None:
    before(world)
    slots = copy.deepcopy(world.slots)
    with closing(deployer(world)) as one:
        parts: Any = SimpleNamespace(
            agent=world, control=FakeControl(world), journal=one.journal, deployer=one, sleep=world.sleep, shard=""
        )
        with pytest.raises(BadPlan, match=words):
            undo(parts, "r1", version=None, audit=False)
        assert one.journal.latest() == []
    assert world.slots == slots
