"""The steps of a change of the number of shards, interleaved with writers and other runs, killed anywhere."""

import logging
import random

import pytest

from ingest.kafka import layout_guard
from tests.unit.ingest.kafka.resharding_kafka import CommandPort, WriterPort
from tests.unit.ingest.kafka.resharding_world import World, settle

SEEDS = 60


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def play(seed: int, ticks: int = 2500) -> World:
    """A run in which processes begin and are killed at random, and commits are uncertain."""
    dice = random.Random(f"plan {seed}")
    world = World(seed, dice.randint(1, 3))
    for shard in range(world.shards):
        world.writer(shard, world.shards)
    world.kafka.uncertain = dice.choice((0.0, 0.02, 0.1))
    for _ in range(ticks):
        roll = dice.random()
        if roll < 0.004:
            world.reshard(dice.randint(1, 4), abort=dice.random() < 0.2)
        elif roll < 0.010 and world.actors:
            world.kill(dice.choice(world.actors))
        elif roll < 0.020 and len(world.actors) < 8:
            layout = world.layout()
            shards = (world.shards if layout is None else layout.shards) if dice.random() < 0.8 else 4
            shard = dice.randrange(shards)
            if shard < world.kafka.partitions and not (layout is None and shards != world.shards):
                world.writer(shard, shards)
        world.tick()
    settle(world, dice.randint(1, 4))
    return world


@pytest.mark.parametrize("part", range(4))
def test_no_order_of_steps_loses_or_repeats_a_record(part: int) -> None:
    for seed in range(part * SEEDS, (part + 1) * SEEDS):
        assert play(seed).problems() == [], f"seed {seed}"


def broken(count: int) -> bool:
    """Whether one of the seeds shows that something is wrong."""
    for seed in range(count):
        try:
            if play(seed, 1500).problems():
                return True
        except AssertionError:
            return True
    return False


def test_without_the_fences_records_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CommandPort, "fence", lambda *_: None)
    assert broken(100)


def test_without_the_guard_of_the_writers_records_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_guard.LayoutGuard, "__call__", lambda *_: None)
    assert broken(100)


def test_without_heeding_open_transactions_a_writer_misses_the_intent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WriterPort, "unfinished", lambda _: False)
    assert broken(100)
