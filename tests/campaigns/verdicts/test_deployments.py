"""The row of deployments is right only where every version was deployed, from these sources, and ended as it must."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.campaigns.deployment import judged_sources
from tests.campaigns.deployment.drill import DONE, EXPECTED
from tests.campaigns.deployment.judged_sources import sources_sha256, still
from tests.campaigns.verdicts import deployments as module
from tests.campaigns.verdicts.deployments import deployments
from tests.harness.processes import ROOT

RIGHT = {version: state for version, (state, _, _) in EXPECTED.items()}
HERE = sources_sha256()


def drill(
    folder: Path,
    states: dict[str, str],
    *,
    unlike: str = "",
    digest: str | None = HERE,
    counts: dict[str, int] | None = None,
) -> Path:
    """An outcome. ``unlike``: a version that ended in its state, but not as expected."""
    path = folder / "deploy.json"
    rows = [
        {"version": version, "state": state, "reason": "", "good": version != unlike}
        for version, state in states.items()
    ]
    good = [state for version, state in states.items() if RIGHT.get(version) == DONE]
    bad = [state for version, state in states.items() if RIGHT.get(version, DONE) != DONE]
    right = {
        "good_versions": len(good), "false_refusals": sum(state != DONE for state in good), "bad_versions": len(bad),
        "bad_versions_live": bad.count(DONE),
    }  # fmt: skip
    made = {"finished_at": "today", "sources_sha256": digest, "deployments": rows, **right, **(counts or {})}
    path.write_text(json.dumps(made))
    return path


def test_a_whole_drill_as_expected_is_right(tmp_path: Path) -> None:
    found = deployments([drill(tmp_path, RIGHT)])
    assert found.wrong == []
    assert found.cases == len(EXPECTED)
    assert found.note.startswith("0 of 32 bad versions live, 0 of 5 good ones refused; ")


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


@pytest.mark.parametrize("version", ["v2", "alters"])
def test_a_version_that_the_drill_did_not_find_as_expected_is_wrong(tmp_path: Path, version: str) -> None:
    """Its state is right; its audit, its trail, its step or the writers were not."""
    (wrong,) = deployments([drill(tmp_path, RIGHT, unlike=version)]).wrong
    assert wrong.startswith(f"{version}: {RIGHT[version]}, but not as expected")


@pytest.mark.parametrize(("count", "number"), [
    ("good_versions", 4), ("false_refusals", 1), ("bad_versions", 31), ("bad_versions_live", 1),
])  # fmt: skip
def test_counts_that_are_not_those_of_its_deployments_are_wrong(tmp_path: Path, count: str, number: int) -> None:
    (wrong,) = deployments([drill(tmp_path, RIGHT, counts={count: number})]).wrong
    assert wrong.startswith(f"the drill counts {count}: {number}, its deployments are ")


@pytest.mark.parametrize("text", ["", "[]", "{%s}", '{%s, "deployments": [{}]}', '{%s, "deployments": null}'])
def test_a_file_that_is_no_outcome_is_wrong(tmp_path: Path, text: str) -> None:
    (tmp_path / "deploy.json").write_text(text.replace("%s", f'"sources_sha256": "{HERE}"'))
    assert "make deploy-drill" in deployments([tmp_path / "deploy.json"]).wrong[0]


def test_without_an_outcome_nothing_is_judged_and_the_row_says_so(tmp_path: Path) -> None:
    found = deployments([tmp_path / "deploy.json"])
    assert (found.cases, found.wrong) == (0, [])
    assert found.note.startswith("NOT JUDGED: no outcome of a drill")


@pytest.mark.parametrize(("digest", "words"), [
    (None, "states no digest"), ("", "states no digest"), ("0" * 64, f"{'0' * 40}, here {HERE}"),
    ("changed during the drill", "changed during the drill"),
])  # fmt: skip
def test_an_outcome_of_other_sources_is_not_judged(tmp_path: Path, digest: str | None, words: str) -> None:
    found = deployments([drill(tmp_path, {**RIGHT, "alters": DONE}, digest=digest)])
    assert (found.cases, found.wrong) == (0, [])
    assert words in found.note
    assert found.note.startswith("NOT JUDGED: deploy.json: the drill is not of these plugins/ and ingest/")


def test_where_the_digest_of_these_sources_is_unknown_nothing_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown() -> str:
        raise RuntimeError("git is not installed")

    monkeypatch.setattr(module, "sources_sha256", unknown)
    found = deployments([drill(tmp_path, RIGHT)])
    assert (found.wrong, found.note) == (
        [], "NOT JUDGED: deploy.json: which sources are here is not known: git is not installed"
    )  # fmt: skip


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one source in each folder."""
    for name in ("plugins/one.py", "ingest/core.pyx"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("A = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["plugins/one.py", "ingest/core.pyx"])
def test_the_digest_changes_with_a_byte_or_a_name(tree: Path, name: str) -> None:
    first = sources_sha256(tree)
    (tree / name).write_text("A = 2\n")
    second = sources_sha256(tree)
    git(tree, "mv", name, f"{name}.txt")
    assert len({first, second, sources_sha256(tree)}) == 3


def test_the_digest_is_of_the_files_that_git_names_alone(tree: Path) -> None:
    first = sources_sha256(tree)
    (tree / "plugins" / "build").mkdir()
    (tree / "plugins" / "build" / "copy.py").write_text("A = 1\n")
    (tree / "README.md").write_text("# One\n")
    git(tree, "add", "README.md")
    assert sources_sha256(tree) == first


def test_without_the_names_of_git_there_is_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    with pytest.raises(RuntimeError, match="it names no file"):
        sources_sha256(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="git is not installed"):
        sources_sha256(ROOT)


def test_sources_that_change_during_a_drill_leave_no_digest(tree: Path) -> None:
    first = sources_sha256(tree)
    assert still(first, tree) == first
    (tree / "plugins" / "one.py").write_text("A = 2\n")
    assert still(first, tree) == "changed during the drill"
    (tree / "plugins" / "one.py").unlink()
    assert still(first, tree).startswith("unknown after the drill: ")


def test_the_folders_are_those_that_a_deployment_runs() -> None:
    assert judged_sources.FOLDERS == ("plugins", "ingest")
