"""Text for people: control characters escaped, so that foreign text cannot steer a terminal or forge a line."""

import os
import re
import sys
import traceback
from typing import TextIO

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_BREAKS = re.compile("[\t\n]")


class OutputError(Exception):
    """Standard output cannot be written, as on a full device; the text says why."""


def printable(text: str) -> str:
    """Escape control characters, direction marks and half surrogate pairs; tabs and line feeds stay."""
    return _CONTROL.sub(_escape, text)


def one_line(text: str) -> str:
    """The same, with tabs and line feeds escaped, too."""
    return _BREAKS.sub(_escape, printable(text))


def _escape(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


def write(text: str, stream: TextIO | None = None) -> None:
    """Write to standard output (or ``stream``) and flush; what its encoding cannot show is escaped.

    A reader that has closed the pipe, as ``head`` does, is no error: the command's exit code stays what it is.
    Raises ``OutputError`` if the text cannot be written, except to standard error: no stream is left to report that on.
    """
    target = stream if stream is not None else sys.stdout
    encoding = target.encoding or "utf-8"
    try:
        target.write(printable(text).encode(encoding, "backslashreplace").decode(encoding))
        target.flush()
    except BrokenPipeError:
        discard(target)
    except OSError as error:
        discard(target)
        if target is not sys.stderr:
            raise OutputError(f"standard output cannot be written: {error}") from error


def discard(stream: TextIO) -> None:
    """Send the rest of a stream to nowhere: the interpreter flushes once more at its end."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())


def complain(who: str, text: str) -> None:
    """Write an error to standard error, each of its lines after ``who``: a line of its own is always ours."""
    lines = printable(text).split("\n")
    write("".join(f"{who}: {line}\n" for line in lines), sys.stderr)


def crash(error: BaseException) -> None:
    """Write the traceback of an unexpected error to standard error."""
    write("".join(traceback.format_exception(error)), sys.stderr)
