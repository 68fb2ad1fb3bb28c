"""The files of a lock, in a folder from which pip can install them without an index."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from tools import locks

CACHE = locks.ROOT / ".cache" / "locks"


class NotDownloaded(Exception):
    """The index does not have a file of the lock, or does not answer; the text says which lock."""


def folder_of(name: str) -> Path:
    """Where the files of a lock are kept."""
    return CACHE / Path(name).stem


def download(name: str, python: str, root: Path = locks.ROOT) -> dict[str, bytes]:
    """Locked files of one lock by name, from the configured index or the cache of an earlier run."""
    folder = folder_of(name)
    done = folder / ".lock"
    text = locks.read(name, root)
    if not done.exists() or done.read_text() != text:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with tempfile.TemporaryDirectory(prefix="k2-locks-") as directory:
            _download(name, folder, python, Path(directory), root)
        done.write_text(text)
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def _download(name: str, folder: Path, python: str, directory: Path, root: Path) -> None:
    """Fetch wheels first. pip wants metadata of sources, too, which the tools among the wheels make."""
    for number, (part, options) in enumerate(locks.parts(name, root)):
        if number:
            subprocess.run([python, "-m", "venv", str(directory / "venv")], check=True)
            python = str(directory / "venv" / "bin" / "python")
            _pip(name, python, "install", "--no-index", "--no-deps", "-f", str(folder), "-r", str(directory / "0"))
        (directory / str(number)).write_text(part)
        _pip(name, python, "download", *options, "--dest", str(folder), "-r", str(directory / str(number)))


def _pip(name: str, python: str, *arguments: str) -> None:
    if subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "-q", *arguments], check=False).returncode:
        raise NotDownloaded(f"{name}: pip could not download it from the configured index, its message is above")
