"""A few generated days; 10,000 symbol-days: ``make archive-proof``."""

from pathlib import Path

import pytest

from tests.campaigns.archive.symbol_days import days_of
from tests.harness.archive_world import Worlds
from tests.harness.registry import Registry

pytestmark = pytest.mark.integration


def test_ledger_table_and_certificates_agree(kafka: str, schema_registry: Registry, tmp_path: Path) -> None:
    with Worlds(kafka, schema_registry.url, tmp_path) as worlds:
        found = list(days_of(worlds, symbols=25, days=2, seed=3))
    assert [one.differences for one in found if one.differences] == []
    assert sum(one.symbols for one in found) >= 45
