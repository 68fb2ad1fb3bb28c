"""The versions that the form offers."""

from pathlib import Path
from typing import Any

import pytest

from ingest_ops.agent.slots import AgentTrouble
from ingest_ops.deployment.versions import FILE, known, refresh


class Agent:
    def __init__(self, *versions: str) -> None:
        self.found = list(versions)

    def versions(self) -> list[str]:
        if not self.found:
            raise AgentTrouble("it does not answer")
        return self.found


def test_the_form_offers_what_the_agent_named_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_DEPLOY_REPORTS", str(tmp_path))
    assert known() == []
    agent: Any = Agent("v2", "v1")
    refresh(tmp_path, agent)
    assert known() == ["v2", "v1"]
    written = (tmp_path / FILE).stat().st_mtime_ns
    refresh(tmp_path, agent)
    assert (tmp_path / FILE).stat().st_mtime_ns == written, "the DAG is read again only where there is something new"
    silent: Any = Agent()
    refresh(tmp_path, silent)
    assert known() == ["v2", "v1"]


@pytest.mark.parametrize("text", ["", "{", '{"v": 1}', "7"])
def test_a_list_that_cannot_be_read_offers_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("K2_DEPLOY_REPORTS", str(tmp_path))
    (tmp_path / FILE).parent.mkdir()
    (tmp_path / FILE).write_text(text)
    assert known() == []
