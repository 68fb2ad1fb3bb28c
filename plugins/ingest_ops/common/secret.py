"""Reads secrets from environment variables or, preferably, from files that they name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ingest.command.masking import refused
from ingest_ops.common.files import read_file

MOST_BYTES: Final = 2**20
"""Of a file with a secret, or with a list of names."""


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
        return content(Path(path)).rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{name}_FILE={refused(path)!r}: cannot be read ({cause(error)})") from error


def content(path: Path) -> str:
    """The text of a regular file of at most ``MOST_BYTES``. Raises ``OSError``; see ``cause``."""
    try:
        return read_file(path, MOST_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise OSError("it is no text") from None
    except ValueError:  # a null byte
        raise OSError("no file has such a name") from None


def cause(error: OSError) -> str:
    """Why a file cannot be read, without its name: a setting's value may be a secret that is no name."""
    return error.strerror or str(error)


def token(path: Path) -> str:
    """Read a bearer token. Raises ``OSError``, also where the file holds none; see ``cause``."""
    found = read_file(path, MOST_BYTES).decode("utf-8", errors="replace").strip()
    if not (found and found.isascii() and found.isprintable()) or " " in found:
        raise OSError("the file must hold one token")
    return found


def authorization(path: Path) -> str:
    """The value of the header ``Authorization``, from the file as it is now: its token may be replaced at any time.

    Raises ``OSError``: the text names the file, masked where it may be a secret, and says why it cannot be used.
    """
    try:
        return f"Bearer {token(path)}"
    except OSError as error:
        raise OSError(f"the token file {refused(path)!r} cannot be used: {cause(error)}") from error
