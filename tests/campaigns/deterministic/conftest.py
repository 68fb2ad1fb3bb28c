"""What the models replace is put back: other tests of the same process want the real thing."""

import pytest

from tests.campaigns.deterministic.node import REPLACED


@pytest.fixture(autouse=True)
def put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in REPLACED:
        monkeypatch.setattr(module, name, getattr(module, name))
