"""Installs a lock with a given pip from an index of newer versions, and compares the result with the lock."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.campaigns.locks.index import Index
from tests.campaigns.locks.installed import differences, site
from tools import locks

PIPS = {"oldest": "tests/campaigns/locks/pip-oldest.txt", "newest": "tests/campaigns/locks/pip-newest.txt"}
BARE = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
"""Environment without the machine's settings of pip, such as further places to look for packages."""


class NotProved(Exception):
    """The lock could not be installed, or something else than the lock was; the text says what."""


def environment(index: Index) -> dict[str, str]:
    """Settings of pip for the loopback index alone."""
    own = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": index.url, "PIP_NO_CACHE_DIR": "1", "PIP_NO_COMPILE": "1"}
    return BARE | own


def with_pip(venv: Path, python: str, pip: Path) -> None:
    """Make an environment with one version of pip in it."""
    subprocess.run([python, "-m", "venv", "--without-pip", "--clear", str(venv)], check=True)
    place = [
        str(venv / "bin" / "python"),
        str(pip / "pip"),
        "install",
        "--quiet",
        "--no-index",
        "--no-compile",
        str(pip),
    ]
    subprocess.run(place, check=True, env=BARE)


def prove(name: str, venv: Path, python: str, pip: Path, files: Mapping[str, bytes]) -> int:
    """Install and compare; returns the number of packages. Raises ``NotProved``."""
    with_pip(venv, python, pip)
    pins = locks.check(name)
    with Index(files) as index:
        command = [sys.executable, "-m", "tools.environment", name, "--venv", str(venv)]
        done = subprocess.run(
            command, cwd=locks.ROOT, env=environment(index), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NotProved(f"{name}: {done.stdout}{done.stderr}")
        found = differences(venv, pins, index, frozenset({"pip"} - pins.keys()))
    if found:
        raise NotProved("\n".join([f"{name} in {site(venv)}:", *found]))
    return len(pins)
