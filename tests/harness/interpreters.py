"""The Python interpreters that a test can use besides its own."""

import os
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

DEBIAN = Path("/usr/bin/python3")
ROOT = Path(__file__).resolve().parents[2]


@cache
def version_of(python: str) -> tuple[int, int, int]:
    """Version of an interpreter."""
    text = "import sys; print(*sys.version_info[:3])"
    done = subprocess.run([python, "-I", "-c", text], capture_output=True, text=True, check=True, timeout=60)
    major, minor, patch = (int(part) for part in done.stdout.split())
    return major, minor, patch


@cache
def interpreters() -> tuple[str, ...]:
    """Return this interpreter, then Debian's or the one that ``K2_TEST_PYTHON`` names, of the same minor version.

    Wheels of one minor version fit each of its patch releases, so that both use the packages that are installed here.
    """
    other = os.environ.get("K2_TEST_PYTHON") or (str(DEBIAN) if DEBIAN.exists() else "")
    if not other or version_of(other)[:2] != sys.version_info[:2] or version_of(other) == sys.version_info[:3]:
        return (sys.executable,)
    return sys.executable, other


def environment(python: str) -> dict[str, str]:
    """Environment in which ``python`` finds this tree and the installed packages."""
    paths = [str(ROOT), str(ROOT / "plugins")]
    if python != sys.executable:
        paths.append(sysconfig.get_path("purelib"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
