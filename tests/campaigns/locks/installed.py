"""Compares a virtual environment with the lock it was installed from, file by file."""

import csv
import hashlib
import io
import subprocess
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path

from tests.campaigns.locks.index import NEWER, Index
from tools.locks import Pin, normal

WRITTEN_BY_PIP = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


def site(venv: Path) -> Path:
    """Folder of the installed packages."""
    return next(venv.glob("lib/python3*/site-packages"))


def differences(venv: Path, pins: Mapping[str, Pin], index: Index, tools: frozenset[str]) -> list[str]:
    """Everything in the environment that is not exactly what the lock says; ``tools`` were there before."""
    found = {normal(one.name): one for one in distributions(path=[str(site(venv))])}
    there = {name: one.version for name, one in found.items() if name not in tools}
    wanted = {name: pin.version for name, pin in pins.items()}
    result = [f"{name} {there.get(name)} is installed, {wanted.get(name)} is locked"
              for name in sorted(there.keys() | wanted.keys()) if there.get(name) != wanted.get(name)]  # fmt: skip
    result += [f"{name} was downloaded" for name in index.served if f"-{NEWER}-" in name]
    result += [f"{name} was looked up and is not locked" for name in sorted(index.asked - wanted.keys())]
    by_hash = {hashlib.sha256(content).hexdigest(): name for name, content in index.files.items()}
    claimed: set[Path] = set()
    for name, one in found.items():
        result += _broken(one, claimed)
        if name in pins:
            files = [by_hash[value] for value in pins[name].hashes & by_hash.keys() if by_hash[value] in index.served]
            result += [] if files else [f"{name}: no file with a locked hash was downloaded"]
            result += [text for file in files if file.endswith(".whl") for text in _altered(venv, index.files, file)]
    result += [f"{path} belongs to no package" for path in _files(site(venv)) if path.resolve() not in claimed]
    return result + _check(venv)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _broken(one: Distribution, claimed: set[Path]) -> list[str]:
    """Files that are not what RECORD says."""
    result = []
    for name, digest, _ in csv.reader((one.read_text("RECORD") or "").splitlines()):
        path = Path(str(one.locate_file(name))).resolve()
        claimed.add(path)
        if digest and path.suffix != ".pyc":
            algorithm, _, value = digest.partition("=")
            real = urlsafe_b64encode(hashlib.new(algorithm, path.read_bytes()).digest()).decode().rstrip("=")
            result += [] if real == value else [f"{path}: differs from RECORD"]
    return result


def _altered(venv: Path, files: Mapping[str, bytes], wheel: str) -> list[str]:
    """Files whose bytes are not those in the wheel; scripts may have another first line."""
    result = []
    with zipfile.ZipFile(io.BytesIO(files[wheel])) as archive:
        for member in archive.namelist():
            if member.endswith("/") or (".dist-info/" in member and Path(member).name in WRITTEN_BY_PIP):
                continue
            if member.endswith(".pyc"):  # a cache: the interpreter writes it again as it likes
                continue
            path, script = _place(venv, member)
            if path is None:
                continue
            packed = archive.read(member)
            real = path.read_bytes() if path.exists() else None
            if script and real is not None:
                packed, real = packed.partition(b"\n")[2], real.partition(b"\n")[2]
            result += [] if real == packed else [f"{path}: is not what {wheel} has"]
    return result


def _place(venv: Path, member: str) -> tuple[Path | None, bool]:
    """Where a file of a wheel is installed, and whether it is a script; None for headers."""
    root, _, rest = member.partition("/")
    if not root.endswith(".data"):
        return site(venv) / member, False
    kind, _, rest = rest.partition("/")
    places = {"purelib": site(venv), "platlib": site(venv), "scripts": venv / "bin", "data": venv}
    return (places[kind] / rest if kind in places else None), kind == "scripts"


def _check(venv: Path) -> list[str]:
    """What ``pip check`` finds: requirements that are missing or of another version."""
    command = [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else done.stdout.splitlines()
