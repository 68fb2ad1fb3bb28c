"""``make locks-proof``: every lock, with the oldest and the newest pip, from an index of newer versions."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.campaigns.locks.proof import PIPS, NotProved, prove
from tests.harness.locked_files import NotDownloaded, download, folder_of
from tools.locks import LOCKS, BadLock


def main(arguments: Sequence[str] | None = None) -> int:
    """Install locks from an index that offers newer versions of everything, and compare byte by byte."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.locks", description=main.__doc__)
    parser.add_argument("--lock", action="append", choices=sorted(LOCKS), help="only this one")
    options = parser.parse_args(arguments)
    failed = False
    pips: dict[str, Path] = {}
    for age, name in PIPS.items():
        file = next(file for file in download(name, sys.executable) if file.endswith(".whl"))
        pips[age] = folder_of(name) / file
    for name in options.lock or proved():
        python = _python(LOCKS[name].python)
        if python is None:
            sys.stdout.write(f"skipped  {name}: no Python {LOCKS[name].python}; PYTHON313=/path/to/it adds it\n")
            continue
        for age, pip in pips.items():
            own = _bundled(python) if age == "oldest" and python != sys.executable else None
            failed |= not _one(name, python, age, own or pip)
    return 1 if failed else 0


def proved() -> list[str]:
    """Every lock except those of the two pips, which all others are installed with."""
    return [name for name in LOCKS if name not in PIPS.values()]


def _one(name: str, python: str, age: str, pip: Path) -> bool:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="k2-locks-") as directory:
        try:
            number = prove(name, Path(directory) / "venv", python, pip, download(name, python))
        except (NotProved, NotDownloaded, BadLock) as error:
            sys.stdout.write(f"FAILED   {name} with {pip.stem.split('-py')[0]}: {error}\n")
            return False
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"exact    {name} with the {age} pip ({pip.stem.split('-')[1]}): {number} packages, {seconds:.0f} s\n"
    )
    sys.stdout.flush()
    return True


def _bundled(python: str) -> Path | None:
    """The pip that another interpreter brings: the oldest of all does not run on Python 3.12 and later."""
    code = "import ensurepip, pathlib; print(*pathlib.Path(ensurepip.__file__).parent.glob('_bundled/pip-*.whl'))"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return Path(found[0]) if found else None


def _python(version: str) -> str | None:
    """Interpreter of a minor version: this one, the one that PYTHON313 names, or one on the path."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return sys.executable
    found = shutil.which(os.environ.get(f"PYTHON{version.replace('.', '')}", f"python{version}"))
    if found is None:
        return None
    works = subprocess.run([found, "-c", "import venv"], capture_output=True, check=False)  # a shim may lead nowhere
    return None if works.returncode else found


if __name__ == "__main__":
    sys.exit(main())
