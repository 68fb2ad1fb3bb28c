"""``RESUME=1``: what was right on the same sources is not played again, so that a whole run can be made in parts."""

import hashlib
import json
import subprocess
import threading
from pathlib import Path

from tests.harness.processes import ROOT

SOURCES = ("ingest", "plugins", "tests/campaigns/field", "tests/harness", "requirements")


def sources() -> str:
    """A hash of all files that an outcome depends on: another one, and everything is played again."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *SOURCES],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    digest = hashlib.sha256()
    for name in sorted(filter(None, listed.stdout.split(b"\0"))):
        path = ROOT / name.decode()
        if path.is_file():
            digest.update(name + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


class Parts:
    """Outcomes of earlier parts, kept in a file for each hash of the sources. Safe from any thread."""

    def __init__(self, folder: Path) -> None:
        self.hash = sources()
        self._file = folder / f"parts-{self.hash}.jsonl"
        self._lock = threading.Lock()
        self.right: dict[str, tuple[str, float]] = {}
        """Example -> what was observed, and the seconds that it took."""
        if self._file.exists():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                name, observed, seconds = json.loads(line)
                self.right[name] = (observed, seconds)

    def keep(self, name: str, observed: str, seconds: float) -> None:
        """Note that an example was right."""
        with self._lock:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, observed, round(seconds, 1)], ensure_ascii=False) + "\n")
