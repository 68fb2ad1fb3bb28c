"""Jars that Maven fetches once into a folder, each verified by its SHA-256.

The folder is complete or absent: Maven writes into another one, which takes its place when every file is verified. A
jar that is damaged later (a full disk, an interrupted copy) is noticed at the next use, and all are fetched again.
"""

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SUMS = "SHA256SUMS"
SECONDS = 1200
FETCHES = 3


class Unavailable(Exception):
    """The jars cannot be had; the text says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Jars:
    """What a POM resolves to."""

    title: str
    pom: Path
    folder: Path
    properties: Mapping[str, str] = field(default_factory=dict)
    sums: Path | None = None
    """The expected digests, as ``sha256sum`` writes them. None: those of the first fetch."""

    def fetched(self) -> Path:
        """Folder with every jar, verified. Raises ``Unavailable``."""
        if self.folder.is_dir() and not self._problems(self.folder):
            return self.folder  # also where nothing can be written
        try:
            return self._fetched_alone()
        except OSError as error:
            raise Unavailable(
                f"{self.title}: {error.filename or self.folder}: {error.strerror or error}; it must be writable for "
                "the first fetch"
            ) from error

    def _fetched_alone(self) -> Path:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with (self.folder.parent / f"{self.folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for broken in self.folder.parent.glob(f"{self.folder.name}.????????"):  # of a fetch that was killed
                shutil.rmtree(broken, ignore_errors=True)
            if self.folder.is_dir():
                found = self._problems(self.folder)
                if not found:
                    return self.folder
                sys.stderr.write(f"{self.folder}: {found[0]}: fetching again\n")
            self._fetch()
        return self.folder

    def _problems(self, folder: Path) -> list[str]:
        stated = self.sums or folder / SUMS
        if not stated.exists():
            return [f"has no {SUMS}"]
        try:
            expected = read_sums(stated.read_text())
        except ValueError as error:
            if self.sums is None:
                return [f"{SUMS}: {error}"]
            raise Unavailable(f"{stated}: {error}; restore it: git checkout {stated.name}") from error
        found = {path.name: digest(path) for path in folder.glob("*.jar")}
        missing = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
        other = [f"{name} is not expected" for name in sorted(found.keys() - expected.keys())]
        differing = [
            f"{name} has SHA-256 {found[name]}, expected {expected[name]}"
            for name in sorted(found.keys() & expected.keys())
            if found[name] != expected[name]
        ]
        return [*differing, *missing, *other]

    def _fetch(self) -> None:
        maven = shutil.which("mvn")
        if maven is None:
            raise Unavailable(f"no mvn to fetch {self.title}: install Maven (Debian: apt-get install maven)")
        sys.stderr.write(f"fetching {self.title} into {self.folder}, once\n")
        with tempfile.TemporaryDirectory(dir=self.folder.parent, prefix=f"{self.folder.name}.") as directory:
            fresh = Path(directory) / "jars"
            self._maven(maven, fresh)
            if found := self._damage(fresh):
                # Maven's own repository may have kept a damaged file: once more without it.
                sys.stderr.write(f"{found[0]}: fetching past Maven's local repository\n")
                shutil.rmtree(fresh)
                self._maven(maven, fresh, f"-Dmaven.repo.local={directory}/repository")
                found = self._damage(fresh)
            if found:
                raise Unavailable(f"{self.title}: {'; '.join(found)}. Nothing was installed")
            (fresh / SUMS).write_text("".join(f"{digest(jar)}  {jar.name}\n" for jar in sorted(fresh.glob("*.jar"))))
            if self.folder.is_dir():
                shutil.rmtree(self.folder)
            self.folder.unlink(missing_ok=True)  # a file in its place
            fresh.rename(self.folder)

    def _damage(self, fresh: Path) -> list[str]:
        return self._problems(fresh) if self.sums is not None else []

    def _maven(self, maven: str, target: Path, *options: str) -> None:
        command = [
            maven, "-q", "-B", "-f", str(self.pom), "dependency:copy-dependencies", "-DincludeScope=runtime",
            f"-DoutputDirectory={target}", *(f"-D{name}={value}" for name, value in self.properties.items()), *options,
        ]  # fmt: skip
        for attempt in range(1, FETCHES + 1):  # it goes on where a broken connection has ended it
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
            if done.returncode == 0 and list(target.glob("*.jar")):
                return
            if attempt == FETCHES:
                text = (done.stdout + done.stderr)[-2000:]
                raise Unavailable(
                    f"mvn could not fetch {self.title}: the repository that Maven is configured for does not answer, "
                    f"or no longer has it (then choose another version in {self.pom.name}):\n{text}"
                )


def read_sums(text: str) -> dict[str, str]:
    """Digest by file name, as ``sha256sum`` writes them. Raises ``ValueError`` for a line that is something else."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        value, _, name = line.strip().partition("  ")
        if not re.fullmatch("[0-9a-f]{64}", value) or not name:
            raise ValueError(f"line {number}: {line!r} is not a SHA-256 and a file name")
        found[name] = value
    return found


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
