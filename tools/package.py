"""Builds both distributions twice, compares and checks them, and runs what was installed from them (``make package``).

The two builds start from copies of the tracked files that differ in times and permissions; their archives must be the
same bytes. Needs the tools of requirements/release.txt in the running interpreter.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from tools import environment, locks

ROOT = locks.ROOT
PROJECTS = (".", "plugins")
PLACEHOLDER = ".example/"


class BadPackage(Exception):
    """The distributions cannot be published; the text says why."""


def copy(target: Path, *, mode: int) -> None:
    """Copy the tracked files, as they are in the work tree, with the given permissions and the time of now."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)  # noqa: S607
    for name in listed.stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())
            (target / name).chmod(mode)


def build(tree: Path, target: Path) -> dict[str, str]:
    """Build the sdist of each distribution, and its wheel from that; returns the SHA-256 of each file by name."""
    for project in PROJECTS:
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(tree / project)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BadPackage(f"{project}: the build failed:\n{done.stdout}{done.stderr}")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(target.iterdir())}


def build_twice(target: Path) -> dict[str, str]:
    """Build from two copies. Raises ``BadPackage`` if one byte differs."""
    results = []
    for mode in (0o644, 0o600):
        with tempfile.TemporaryDirectory(prefix="k2-package-") as directory:
            copy(Path(directory) / "tree", mode=mode)
            made = Path(directory) / "dist"
            results.append(build(Path(directory) / "tree", made))
            if mode == 0o644:
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(made, target)
    first, second = results
    if first != second:
        differing = sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))
        raise BadPackage(f"two builds of the same sources differ: {', '.join(differing)}")
    (target / "SHA256SUMS").write_text("".join(f"{value}  {name}\n" for name, value in first.items()))
    return first


def check_metadata(target: Path, *, release: bool) -> None:
    """Let twine judge metadata and readme. A release needs the real address of the repository."""
    files = [str(path) for path in sorted(target.iterdir()) if path.name != "SHA256SUMS"]
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *files], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BadPackage(f"twine does not accept the metadata:\n{done.stdout}{done.stderr}")
    repository = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["k2"]["repository"]
    if PLACEHOLDER in repository:
        text = f"the repository's address is a placeholder ({repository}): set [tool.k2] repository in pyproject.toml"
        if release:
            raise BadPackage(text)
        sys.stdout.write(f"note: {text} before a release\n")


def run_installed(target: Path) -> str:
    """Install the wheels beside the locked requirements of the service, and ask both for their version."""
    with tempfile.TemporaryDirectory(prefix="k2-package-") as directory:
        venv = Path(directory) / "venv"
        environment.install("requirements/service.txt", venv)
        wheels = [str(path) for path in sorted(target.glob("*.whl"))]
        install = environment.pip(venv, "install", "--quiet", "--no-deps", "--no-index", *wheels)
        subprocess.run(install, check=True, env=environment.variables())
        subprocess.run(environment.pip(venv, "check"), check=True, stdout=subprocess.DEVNULL)
        python = str(venv / "bin" / "python")
        bare = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "K2_"))}
        commands = [[str(venv / "bin" / "ingest")], [python, "-m", "ingest"], [str(venv / "bin" / "ingest-ops")]]
        answers = [
            subprocess.run(
                [*command, "--version"], check=True, capture_output=True, text=True, cwd=directory, env=bare
            ).stdout.strip()
            for command in commands
        ]
    return ", ".join(answers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the distributions twice, compare, check, install and run them."""
    parser = argparse.ArgumentParser(prog="python -m tools.package", description=main.__doc__)
    parser.add_argument("--target", type=Path, default=ROOT / "dist", help="folder of the archives (default: dist)")
    parser.add_argument("--release", action="store_true", help="refuse what must not be published")
    options = parser.parse_args(arguments)
    try:
        for name, value in build_twice(options.target).items():
            sys.stdout.write(f"{value}  {name}\n")
        sys.stdout.write("two builds: the same bytes\n")
        check_metadata(options.target, release=options.release)
        sys.stdout.write("metadata and readme: accepted by twine check --strict\n")
        sys.stdout.write(f"installed in a fresh environment: {run_installed(options.target)}\n")
    except (BadPackage, locks.BadLock) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
