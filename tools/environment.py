"""Virtual environments: made complete or made again, filled from one lock by one process at a time.

``python -m tools.environment LOCK --venv FOLDER`` makes the environment if there is none that works, installs the lock,
and with ``--projects`` both distributions of this tree. Needs nothing but Python.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tools import locks
from tools.locks import ROOT, BadLock

INCOMPLETE = ".incomplete"
"""Mark in an environment that is being made or filled. An environment that has it is made again."""
LOCKED = ".locked"
"""File in an environment: the names of the distributions that each lock has installed, as JSON."""
INPUTS = (locks.SERVICE, locks.OPERATIONS, "setup.py", "plugins/setup.py")
"""Files besides the lock whose change makes an environment with both distributions outdated."""
LESSER = {"requirements/all.txt": ("requirements/demo.txt",)}
"""Lock -> locks that are contained in it."""
KEPT = {
    "PIP_CACHE_DIR", "PIP_CERT", "PIP_CLIENT_CERT", "PIP_CONFIG_FILE", "PIP_DEFAULT_TIMEOUT", "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_KEYRING_PROVIDER", "PIP_NO_CACHE_DIR", "PIP_NO_COMPILE", "PIP_NO_INDEX",
    "PIP_NO_INPUT",
    "PIP_PROXY", "PIP_RETRIES", "PIP_TIMEOUT", "PIP_TRUSTED_HOST",
}  # fmt: skip
"""pip's variables that say where files come from. The others (PIP_TARGET, PIP_USER ...) change what is installed."""
DROPPED = {"PYTHONHOME", "PYTHONPATH", "PYTHONPLATLIBDIR", "PYTHONSTARTUP", "PYTHONUSERBASE"}


class NoEnvironment(BadLock):
    """The environment cannot be made or filled; the text says why and what to do."""


def python_of(venv: Path) -> Path:
    """The environment's interpreter."""
    return venv / "bin" / "python"


def variables() -> dict[str, str]:
    """The variables for pip: without those that would change what is installed, or where."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in DROPPED and (name in KEPT or not name.startswith("PIP_"))
    }


def pip(venv: Path, *arguments: str) -> list[str]:
    """A command of the environment's pip. Isolated: neither the folder nor the user's packages take part."""
    return [str(python_of(venv)), "-I", "-m", "pip", "--disable-pip-version-check", *arguments]


def usable(venv: Path) -> bool:
    """Whether the environment is complete: its interpreter and its pip run, and nothing was broken off."""
    if (venv / INCOMPLETE).exists() or not os.access(python_of(venv), os.X_OK):
        return False
    try:
        done = subprocess.run(pip(venv, "--version"), env=variables(), capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def create(venv: Path) -> None:
    """Make an empty environment of the running interpreter in the place of what is there. Raises ``NoEnvironment``."""
    if venv.exists() and any(venv.iterdir()):
        if not any((venv / mark).exists() for mark in (INCOMPLETE, "pyvenv.cfg")):
            raise NoEnvironment(f"{venv}: is no virtual environment and not empty: remove it, or name another folder")
        sys.stderr.write(
            f"{venv}: does not work or was interrupted while it was filled: the environment is made again\n"
        )
    for path in venv.iterdir() if venv.exists() else ():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    venv.mkdir(parents=True, exist_ok=True)
    (venv / INCOMPLETE).touch()
    command = [sys.executable, "-m", "venv", str(venv)]
    done = subprocess.run(command, env=variables(), capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(venv, ignore_errors=True)
        text = " ".join((done.stdout + done.stderr).split())
        raise NoEnvironment(
            f"{venv}: {sys.executable} cannot make a virtual environment (Debian: apt-get install python3-venv): {text}"
        )


@contextlib.contextmanager
def alone(venv: Path) -> Iterator[None]:
    """Keep every other process that makes or fills the same environment waiting; it prints a line."""
    folder = ROOT / ".cache"
    folder.mkdir(exist_ok=True)
    name = hashlib.sha256(str(venv.absolute()).encode()).hexdigest()[:12]
    with (folder / f"environment-{name}.lock").open("a") as file:
        _wait(file, venv)
        yield


def _wait(file: TextIO, venv: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"{venv}: another process fills it: waiting\n")
        fcntl.flock(file, fcntl.LOCK_EX)


def install(name: str, venv: Path, root: Path = ROOT) -> None:
    """Install a lock into a virtual environment, or nothing if the lock is bad. Raises ``BadLock``.

    The environment is made if it is missing, broken or incomplete. pip downloads and verifies every file before it
    installs the first. What the lock installed earlier and no longer has is removed; what was installed by hand stays.
    """
    pins = locks.check(name, root)
    if not usable(venv):
        create(venv)
    mark = venv / INCOMPLETE
    mark.touch()
    failed = any(subprocess.run(one, env=variables(), check=False).returncode for one in commands(name, venv, root))
    if not failed:
        _remove_former(name, venv, set(pins))
    mark.unlink()
    if failed:
        raise BadLock(
            f"{name}: pip did not install it, its message is above. An index that no longer has a locked file, or has "
            "another one under its name, needs `make locks`"
        )


def commands(name: str, venv: Path, root: Path = ROOT) -> Iterator[list[str]]:
    """Commands that install a lock: all wheels at once, then what must be built, by tools that the first installed."""
    start = pip(venv, "install", "--quiet")
    every = list(locks.parts(name, root))
    if len(every) == 1:  # by its own name, which pip's messages repeat
        yield [*start, *every[0][1], "--requirement", str(root / name)]
        return
    for part, options in every:
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(part)
            file.flush()
            yield [*start, *options, "--requirement", file.name]


def _remove_former(name: str, venv: Path, now: set[str]) -> None:
    """Uninstall what this lock installed earlier and no lock of the environment has any more."""
    noted = venv / LOCKED
    try:
        installed = {lock: set(names) for lock, names in json.loads(noted.read_text()).items()}
    except (OSError, ValueError, AttributeError, TypeError):  # none, or broken off: nothing is known of before
        installed = {}
    former = installed.get(name, set())
    installed[name] = now
    if gone := sorted(former - set().union(*installed.values())):
        sys.stderr.write(f"{venv}: removing what the lock no longer has: {', '.join(gone)}\n")
        done = subprocess.run(pip(venv, "uninstall", "--quiet", "--yes", *gone), env=variables(), check=False)
        if done.returncode:
            raise NoEnvironment(f"{venv}: pip did not remove {', '.join(gone)}, its message is above: remove {venv}")
    noted.write_text(json.dumps({lock: sorted(names) for lock, names in installed.items()}))


def mark_of(lock: str, venv: Path) -> Path:
    """File that says when the lock and both distributions were installed."""
    return venv / f".{Path(lock).stem}"


def fresh(lock: str, venv: Path) -> bool:
    """Whether the lock and both distributions were installed since the last change of what they are made from."""
    mark = mark_of(lock, venv)
    if not mark.exists() or (venv / INCOMPLETE).exists() or not os.access(python_of(venv), os.X_OK):
        return False
    return all((ROOT / name).stat().st_mtime <= mark.stat().st_mtime for name in (lock, *INPUTS))


def fill(lock: str, venv: Path) -> None:
    """Install a lock and both distributions of this tree, editable. Raises ``BadLock``."""
    install(lock, venv)
    command = pip(venv, "install", "--quiet", "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    command += ["-e", str(ROOT / "plugins")]
    if subprocess.run(command, env=variables(), cwd=ROOT, check=False).returncode:
        raise NoEnvironment(f"{venv}: pip did not install this tree, its message is above")
    for one in (lock, *LESSER.get(lock, ())):
        mark_of(one, venv).touch()


def other_version(venv: Path) -> str | None:
    """The environment's version of Python where it is not that of the running interpreter."""
    try:
        lines = (venv / "pyvenv.cfg").read_text("utf-8").splitlines()
    except OSError:
        return None
    found = [value.strip() for key, _, value in (line.partition("=") for line in lines) if key.strip() == "version"]
    return found[0] if found and found[0] != ".".join(map(str, sys.version_info[:3])) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a virtual environment and install a lock into it."""
    parser = argparse.ArgumentParser(prog="python -m tools.environment", description=main.__doc__)
    parser.add_argument("lock", metavar="LOCK", help="e.g. requirements/all.txt")
    parser.add_argument("--venv", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--projects", action="store_true", help="both distributions of this tree, too, if outdated")
    parser.add_argument("--chosen", action="store_true", help="the interpreter was chosen: say where it is not used")
    options = parser.parse_args(arguments)
    lock, venv = str(options.lock), Path(options.venv)
    try:
        if not (options.projects and fresh(lock, venv)):
            with alone(venv):
                if not options.projects:
                    install(lock, venv)
                elif not fresh(lock, venv):  # another process may have filled it meanwhile
                    fill(lock, venv)
    except BadLock as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except OSError as error:
        sys.stderr.write(f"{error.filename or venv}: {error.strerror or error}\n")
        return 2
    if options.chosen and (version := other_version(venv)):
        asked = sys.version.split()[0]
        sys.stderr.write(f"note: {venv} has Python {version}, PYTHON names {asked}: remove {venv} to change it\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
