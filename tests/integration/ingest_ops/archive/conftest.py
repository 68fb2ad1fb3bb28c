"""Worlds on the session's broker."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.archive_world import World, Worlds
from tests.harness.registry import Registry

MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(kafka: str, schema_registry: Registry, tmp_path: Path) -> Iterator[MakeWorld]:
    """Make a world: ``prepare`` fills the market, ``change`` alters what is published of it."""
    with Worlds(kafka, schema_registry.url, tmp_path) as worlds:
        yield worlds.make
