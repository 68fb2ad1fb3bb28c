"""Which sources a drill judged: the digest of ``plugins/``, so that an outcome is not taken for another tree's."""

import hashlib
from pathlib import Path

from tests.harness.processes import ROOT


def plugins_sha256(root: Path = ROOT) -> str:
    """SHA-256 over the path and the bytes of every Python file below ``plugins/``, in the order of their paths."""
    found = hashlib.sha256()
    folder = root / "plugins"
    for path in sorted(folder.rglob("*.py")):
        body = path.read_bytes()
        found.update(f"{path.relative_to(folder).as_posix()} {len(body)}\n".encode())
        found.update(body)
    return found.hexdigest()
