"""A kill at two steps; every step, twenty times each: ``make archive-proof``."""

from pathlib import Path

import pytest

from tests.campaigns.archive.kills import made_world, tried
from tests.harness.archive_world import Worlds
from tests.harness.registry import Registry

pytestmark = pytest.mark.integration


def test_after_a_kill_the_day_is_old_or_right(kafka: str, schema_registry: Registry, tmp_path: Path) -> None:
    with Worlds(kafka, schema_registry.url, tmp_path) as worlds:
        found = list(tried(made_world(worlds), ["certificate", "committed"], times=1))
    assert [one for one in found if one.problem or not one.reached] == []
