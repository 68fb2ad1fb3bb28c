"""The revision of a checkout, as git itself lays it down and without git where that is missing."""

import subprocess
from pathlib import Path

import pytest

from ingest_ops.agent.revision import revision_of, tags_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def git(checkout: Path, *arguments: str) -> str:
    command = ["git", "-C", str(checkout), "-c", "user.name=a", "-c", "user.email=a@b.invalid", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_branch_a_packed_one_and_no_branch(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "a/branch")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "one")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert revision_of(tmp_path) == commit[:12]
    git(tmp_path, "pack-refs", "--all")
    assert not (tmp_path / ".git/refs/heads/a/branch").exists()
    assert revision_of(tmp_path) == commit[:12]
    git(tmp_path, "checkout", "-q", "--detach")
    assert revision_of(tmp_path) == commit[:12]


@pytest.mark.parametrize("head", ["", "ref: refs/heads/none", "ref: refs/heads", "rubbish", "\xff"])
def test_what_cannot_be_told_is_unknown(tmp_path: Path, head: str) -> None:
    assert revision_of(tmp_path) == "unknown"
    (tmp_path / ".git" / "refs" / "heads").mkdir(parents=True)
    (tmp_path / ".git" / "HEAD").write_bytes(head.encode("latin-1"))
    assert revision_of(tmp_path) == "unknown"
    (tmp_path / ".git" / "packed-refs").write_text(f"# pack-refs with: peeled\n{COMMIT} refs/heads/other\n")
    assert revision_of(tmp_path) == "unknown"


def test_tags_of_a_checkout_loose_and_packed(tmp_path: Path) -> None:
    assert tags_of(tmp_path) == []
    git = tmp_path / ".git"
    (git / "refs" / "tags").mkdir(parents=True)
    (git / "refs" / "tags" / "v2.0").write_text("1" * 40)
    (git / "packed-refs").write_text(
        f"# pack-refs\n{'2' * 40} refs/heads/main\n{'3' * 40} refs/tags/v1.0\n^{'4' * 40}\n"
    )
    assert tags_of(tmp_path) == ["v2.0", "v1.0"]
