"""Reads secrets from environment variables or, preferably, from files that they name."""

from collections.abc import Mapping
from pathlib import Path

from ingest.command.masking import refused


def secret(environment: Mapping[str, str], name: str) -> str:
    """The value of ``name`` or the content of the file ``<name>_FILE``; empty if neither is set.

    Raises ``ValueError`` where both are set, or the file cannot be read.
    """
    value, path = environment.get(name, ""), environment.get(f"{name}_FILE", "")
    if value and path:
        raise ValueError(f"{name} and {name}_FILE are both set: set one of them")
    if not path:
        return value
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "it is no text"
        raise ValueError(f"{name}_FILE={refused(path)!r}: cannot be read ({cause})") from error


def token(path: Path) -> str:
    """Read a bearer token. Raises ``OSError``, also where the file holds none."""
    found = path.read_text(encoding="utf-8", errors="replace").strip()
    if not (found and found.isascii() and found.isprintable()) or " " in found:
        raise OSError("the file must hold one token")
    return found
