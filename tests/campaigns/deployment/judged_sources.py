"""Which sources a drill judged: their digest, so that an outcome is not taken for that of other sources."""

import hashlib
import subprocess
from pathlib import Path

from tests.harness.processes import ROOT

FOLDERS = ("plugins", "ingest")
"""The deployer, its gates and the agent; the service in each version that is deployed."""


def sources_sha256(root: Path = ROOT) -> str:
    """SHA-256 over path, size and bytes of every file that ``git ls-files plugins ingest`` names, as it is on the disk.

    Builds, caches and a virtual environment beside them change nothing. Raises ``RuntimeError`` if git does not answer
    or names no file, and ``OSError`` if a file that it names cannot be read.
    """
    command = ["git", "-C", str(root), "ls-files", "-z", "--", *FOLDERS]
    try:
        listed = subprocess.run(command, capture_output=True, check=False, timeout=60)
    except FileNotFoundError as error:
        raise RuntimeError("git is not installed: it names the files of the digest") from error
    names = sorted(listed.stdout.split(b"\0")[:-1])
    if listed.returncode or not names:
        why = listed.stderr.decode(errors="replace").strip() or "it names no file"
        raise RuntimeError(f"git ls-files {' '.join(FOLDERS)} in {root}: {why}")
    found = hashlib.sha256()
    for name in names:
        body = (root / name.decode()).read_bytes()
        found.update(name + f" {len(body)}\n".encode())
        found.update(body)
    return found.hexdigest()


def still(digest: str, root: Path = ROOT) -> str:
    """The digest of before, or a text in its place if the sources are others by now."""
    try:
        return digest if sources_sha256(root) == digest else "changed during the drill"
    except (OSError, RuntimeError) as error:
        return f"unknown after the drill: {error}"
