"""Other programs that read the topic, each in a virtual environment of its own, locked by hash; made on first use.

Like Kafka's jars they are fetched once into ``.cache``; Java connectors come from Maven and are pinned by checksum.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.harness.processes import ROOT

LOCKS = ROOT / "requirements" / "readers"
CACHE = ROOT / ".cache" / "readers"
SECONDS = 1200


class EngineUnavailable(Exception):
    """The engine cannot be installed here; the text says why."""


def engine(name: str) -> Path:
    """The interpreter of an engine's environment, made if it is missing or its lock has changed.

    Raises ``EngineUnavailable``.
    """
    wanted = (LOCKS / f"{name}.txt").read_text()
    folder = CACHE / name
    python, complete = folder / "bin" / "python", folder / ".complete"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if complete.exists() and complete.read_text() == wanted:
            return python
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "tools.environment", f"requirements/readers/{name}.txt", "--venv", str(folder))
        complete.write_text(wanted)
    return python


def jars(artifacts: Mapping[str, str]) -> list[Path]:
    """Jars from Maven by their coordinates and SHA-256. Raises ``EngineUnavailable``."""
    folder = CACHE / "jars"
    folder.mkdir(parents=True, exist_ok=True)
    with (CACHE / "jars.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return [_jar(folder, coordinates, digest) for coordinates, digest in artifacts.items()]


def _jar(folder: Path, coordinates: str, digest: str) -> Path:
    _, artifact, version = coordinates.split(":")
    jar = folder / f"{artifact}-{version}.jar"
    if not jar.exists():
        maven = shutil.which("mvn")
        if maven is None:
            raise EngineUnavailable("no mvn to fetch connectors: install Maven (Debian: apt-get install maven)")
        fresh = folder / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        _run(maven, "-q", "-B", "dependency:copy", f"-Dartifact={coordinates}", f"-DoutputDirectory={fresh}")
        _checked(fresh / jar.name, coordinates, digest).replace(jar)
    return _checked(jar, coordinates, digest)


def _checked(jar: Path, coordinates: str, digest: str) -> Path:
    found = hashlib.sha256(jar.read_bytes()).hexdigest()
    if found != digest:
        jar.unlink()
        raise EngineUnavailable(f"{coordinates}: its SHA-256 is {found}, expected {digest}")
    return jar


def _run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=SECONDS)
    if done.returncode:
        raise EngineUnavailable(f"{' '.join(command[:6])} ...:\n{(done.stdout + done.stderr)[-1500:]}")
