"""The source revision of a checkout, read from its ``.git``: where versions are built there need be no git."""

import re
from pathlib import Path

from ingest_ops.common.files import read_file

UNKNOWN = "unknown"
LENGTH = 12
_HASH = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


def revision_of(checkout: Path) -> str:
    """The commit that is checked out, abbreviated; ``unknown`` where that cannot be told. Local changes do not show."""
    git = checkout / ".git"
    try:
        head = read_file(git / "HEAD").decode().strip()
        if head.startswith("ref: "):
            head = _resolve(git, head.removeprefix("ref: "))
    except (OSError, UnicodeDecodeError):
        return UNKNOWN
    return head[:LENGTH] if _HASH.fullmatch(head) else UNKNOWN


def _resolve(git: Path, name: str) -> str:
    """The commit of a branch: a file of its own, or a line of the packed ones. Raises ``OSError``."""
    loose = git / name
    if loose.is_file():
        return read_file(loose).decode().strip()
    for line in read_file(git / "packed-refs").decode().splitlines():
        commit, _, packed = line.partition(" ")
        if packed == name:
            return commit
    return ""


def tags_of(checkout: Path) -> list[str]:
    """The tags of a checkout, in reverse alphabetical order; empty if Git cannot list them."""
    git = checkout / ".git"
    folder = git / "refs" / "tags"
    try:
        loose = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        packed = read_file(git / "packed-refs").decode() if (git / "packed-refs").is_file() else ""
    except (OSError, UnicodeDecodeError):
        return []
    names = [line.partition(" refs/tags/")[2].strip() for line in packed.splitlines() if " refs/tags/" in line]
    return sorted({*loose, *names}, reverse=True)
