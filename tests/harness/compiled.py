"""The package with its hot path compiled, in ``build/compiled``: built where a source is newer, linked otherwise.

``python -m tests.harness.compiled`` makes it. A process whose working directory is that tree imports the compiled
modules; everything else there is a link to the sources.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.harness.processes import ROOT

TREE = ROOT / "build" / "compiled"
LINKED = ("pyproject.toml", "plugins", "tests", "dags", "deploy", "docs", "reports", "docker-compose.yaml")
"""What tests look for beside the package."""


class BuildFailedError(RuntimeError):
    """The text says what the compiler said."""


def hot() -> list[str]:
    """The modules that are compiled, as dotted names."""
    paths = re.findall(r'^    "(ingest/.*)\.py",$', (ROOT / "setup.py").read_text(), re.MULTILINE)
    return [path.replace("/", ".") for path in paths]


def tree() -> Path:
    """The tree, up to date. Takes about half a minute where something was changed. Raises ``BuildFailedError``."""
    TREE.mkdir(parents=True, exist_ok=True)
    with (TREE.parent / "compiled.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers share it
        sources = [ROOT / "setup.py", *(ROOT / f"{name.replace('.', '/')}.py" for name in hot())]
        marker = TREE / ".made"
        if not marker.exists() or marker.stat().st_mtime < max(source.stat().st_mtime for source in sources):
            shutil.rmtree(TREE)
            shutil.rmtree(ROOT / "build" / "mypyc", ignore_errors=True)
            _build()
            marker.touch()
        _link()
    return TREE


def _build() -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-lib", str(TREE), "--build-temp", "build/mypyc"],
        cwd=ROOT, env={**os.environ, "K2_COMPILE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise BuildFailedError(f"setup.py ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")


def _link() -> None:
    for source in sorted((ROOT / "ingest").rglob("*")):
        if source.is_file() and source.suffix != ".pyc":
            _point(TREE / source.relative_to(ROOT), source)
    for name in LINKED:
        _point(TREE / name, ROOT / name)


def _point(link: Path, source: Path) -> None:
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source)


if __name__ == "__main__":
    sys.stdout.write(f"{', '.join(hot())}: compiled in {tree().relative_to(ROOT)}\n")
