"""The row of deployments is right only where every version was deployed and ended as it must."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.campaigns.deployment.drill import DONE, EXPECTED
from tests.campaigns.deployment.judged_sources import plugins_sha256
from tests.campaigns.verdicts.deployments import deployments

RIGHT = {version: state for version, (state, _, _) in EXPECTED.items()}


def drill(folder: Path, states: dict[str, str], **more: str) -> Path:
    path = folder / "deploy.json"
    rows = [{"version": version, "state": state, "reason": ""} for version, state in states.items()]
    path.write_text(json.dumps({"finished_at": "today", "deployments": rows, **more}))
    return path


def test_a_whole_drill_as_expected_is_right(tmp_path: Path) -> None:
    found = deployments([drill(tmp_path, RIGHT, plugins_sha256=plugins_sha256())])
    assert found.wrong == []
    assert found.cases == len(EXPECTED)
    assert found.note.endswith("of these plugins/")


@pytest.mark.parametrize(("states", "wrong"), [
    ({"v2": DONE}, len(EXPECTED) - 1),
    ({}, len(EXPECTED)),
    (dict.fromkeys(EXPECTED, "no report"), len(EXPECTED)),
    ({**RIGHT, "alters": DONE}, 1),
    ({**RIGHT, "alters": "no report"}, 1),
    ({**RIGHT, "v2": "ABORTED"}, 1),
    ({**RIGHT, "unheard-of": DONE}, 1),
])  # fmt: skip
def test_what_was_not_deployed_or_ended_otherwise_is_wrong(tmp_path: Path, states: dict[str, str], wrong: int) -> None:
    found = deployments([drill(tmp_path, states)])
    assert len(found.wrong) == wrong, found.wrong
    assert all(any(one.startswith(f"{name}:") for one in found.wrong) for name in EXPECTED if name not in states)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"deployments": [{}]}', '{"deployments": null}'])
def test_a_file_that_is_no_outcome_is_wrong(tmp_path: Path, text: str) -> None:
    (tmp_path / "deploy.json").write_text(text)
    assert "make deploy-drill" in deployments([tmp_path / "deploy.json"]).wrong[0]


def test_no_file_is_wrong(tmp_path: Path) -> None:
    assert deployments([tmp_path / "deploy.json"]).wrong


@pytest.mark.parametrize(("more", "words"), [
    ({}, "not stated"), ({"plugins_sha256": "0" * 64}, "ANOTHER plugins/ (000000000000)"),
])  # fmt: skip
def test_an_outcome_of_other_sources_says_so(tmp_path: Path, more: dict[str, Any], words: str) -> None:
    assert words in deployments([drill(tmp_path, RIGHT, **more)]).note


def test_the_digest_changes_with_a_byte_or_a_name(tmp_path: Path) -> None:
    path = tmp_path / "plugins" / "one.py"
    path.parent.mkdir()
    path.write_text("A = 1\n")
    first = plugins_sha256(tmp_path)
    path.write_text("A = 2\n")
    second = plugins_sha256(tmp_path)
    path.rename(path.with_name("two.py"))
    assert len({first, second, plugins_sha256(tmp_path)}) == 3
