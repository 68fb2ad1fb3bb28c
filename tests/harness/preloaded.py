"""Small C libraries that are preloaded into one process under test, compiled on first use."""

import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

from tests.harness.processes import ROOT

_lock = threading.Lock()


class NoCompilerError(Exception):
    """The library cannot be built here; the text says what to install."""


def library(source: Path, folder: Path = ROOT / ".cache") -> Path:
    """Path of the library made from a C file, built on first use and after a change. Raises ``NoCompilerError``.

    Threads and processes may ask at once: each builds a file of its own and moves it into place.
    """
    target = folder / f"{source.stem}.so"
    with _lock:
        if target.exists() and target.stat().st_mtime >= source.stat().st_mtime:
            return target
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise NoCompilerError(f"no C compiler for {source.name} (Debian: apt-get install gcc libc6-dev)")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            fresh = Path(name) / target.name
            done = subprocess.run(
                [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(fresh), str(source)],
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            if done.returncode:
                raise NoCompilerError(f"{source.name} could not be compiled:\n{done.stderr[-2000:]}")
            fresh.replace(target)
    return target
