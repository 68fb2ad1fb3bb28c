"""Writes a bill of materials for each image from its lock, as CycloneDX JSON (``make sbom``).

The same lock gives the same bytes. Needs the tools of requirements/release.txt in the running interpreter.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tools import locks

IMAGES = {"ingest": "requirements/service.txt", "airflow": "requirements/airflow.txt"}
"""Image -> the lock that it installs."""


def write(image: str, lock: str, target: Path) -> Path:
    """Write one bill of materials, validated against its schema. Raises ``BadLock``."""
    locks.check(lock)
    path = target / f"sbom-{image}.json"
    command = [
        sys.executable, "-m", "cyclonedx_py", "requirements", lock, "--pyproject", "pyproject.toml",
        "--mc-type", "application", "--output-format", "JSON", "--output-reproducible", "--validate",
        "--output-file", str(path),
    ]  # fmt: skip
    done = subprocess.run(command, cwd=locks.ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise locks.BadLock(f"{lock}: cyclonedx-py made no bill of materials:\n{done.stdout}{done.stderr}")
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the bills of materials."""
    parser = argparse.ArgumentParser(prog="python -m tools.sbom", description=main.__doc__)
    parser.add_argument("--target", type=Path, default=locks.ROOT / "dist", help="folder (default: dist)")
    options = parser.parse_args(arguments)
    options.target.mkdir(parents=True, exist_ok=True)
    try:
        for image, lock in IMAGES.items():
            sys.stdout.write(f"{write(image, lock, options.target)}\n")
    except locks.BadLock as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
