"""A checkout as a user has one: a folder with the files of a commit, and the commands that README.md names."""

import re
import shutil
import subprocess
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from tests.harness.kafka import ROOT
from tests.harness.unpack import unpack

BLOCK = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)


def previous() -> str:
    """What is upgraded from: the newest tag that is not of this commit, or without one the commit before."""
    found = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "HEAD^"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() if found.returncode == 0 else "HEAD^"


def clone() -> Path:
    """An empty folder that containers of other users may read."""
    folder = Path(tempfile.mkdtemp(prefix="k2-stack-"))
    folder.chmod(0o755)
    return folder


def check_out(folder: Path, commit: str | None = None) -> None:
    """Make the folder's files those of a commit, or of this working tree; what is not tracked stays: .env, secrets."""
    for name in _tracked(folder):
        (folder / name).unlink(missing_ok=True)
    if commit is None:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        ).stdout.decode()  # fmt: skip
        names = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    else:
        archive = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            names = [one.name for one in tar.getmembers() if one.isfile()]
            unpack(tar, folder)
    _list(folder).write_text("\n".join(names))


def _list(folder: Path) -> Path:
    return folder.with_suffix(".tracked")


def _tracked(folder: Path) -> list[str]:
    return _list(folder).read_text().splitlines() if _list(folder).exists() else []


def remove(folder: Path) -> None:
    """The folder and what is known of it."""
    shutil.rmtree(folder, ignore_errors=True)
    _list(folder).unlink(missing_ok=True)


def commands(page: Path, beginning: str) -> list[str]:
    """The lines of a page's shell blocks that begin so, without their comments."""
    lines = [line for block in BLOCK.findall(page.read_text("utf-8")) for line in block.splitlines()]
    return [line.partition("  #")[0].strip() for line in lines if line.startswith(beginning)]
