from pathlib import Path

import pytest

from tests.harness.deployment.model import TwoSlots


@pytest.fixture
def world(tmp_path: Path) -> TwoSlots:
    return TwoSlots(tmp_path)
