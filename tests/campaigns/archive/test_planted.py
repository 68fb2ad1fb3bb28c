"""A few planted faults of the sink; all of them: ``make archive-proof``."""

from pathlib import Path

import pytest

from tests.campaigns.archive.faults import made_world, tried
from tests.campaigns.archive.planted import FAULTS
from tests.harness.archive_world import Worlds
from tests.harness.registry import Registry

pytestmark = pytest.mark.integration

SHORT = ("price_altered", "row_dropped_in_both", "day_ends_late", "commit_too_early", "uncommitted")


def test_planted_faults_are_found_and_a_sound_run_passes(kafka: str, schema_registry: Registry, tmp_path: Path) -> None:
    chosen = [one for one in FAULTS if one.name in SHORT]
    assert len(chosen) == len(SHORT)
    with Worlds(kafka, schema_registry.url, tmp_path) as worlds:
        found = {one.name: one.how for one in tried(made_world(worlds), [*chosen, None])}
    assert found.pop("control") == ""
    assert [name for name, how in found.items() if not how] == []


def test_there_are_at_least_thirty() -> None:
    assert len({one.name for one in FAULTS}) == len(FAULTS) >= 30
