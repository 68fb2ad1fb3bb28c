"""The edge of a process: every end of a command has an exit code, and no error ends without one."""

import io
import sys
from collections.abc import Callable

from ingest.command import exit_codes, terminal


def prepare_streams() -> None:
    """Escape what the terminal's encoding cannot show instead of failing on it."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def exit_code_of(who: str, command: Callable[[], int]) -> int:
    """Run a command; returns its exit code, or that of how it failed. ``who`` begins the lines of an error."""
    try:
        return _flushed(who, command())
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError as error:
        if not _stdout_is_closed():
            return _crashed(error)
        return exit_codes.NO_READER
    except Exception as error:  # noqa: BLE001 - the process ends here; the traceback is written
        return _crashed(error)


def _flushed(who: str, code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        terminal.discard(sys.stdout)
        terminal.complain(who, f"standard output cannot be written: {error}")
        return exit_codes.UNUSABLE
    return code


def _stdout_is_closed() -> bool:
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        terminal.discard(sys.stdout)
        return True
    return False


def _crashed(error: Exception) -> int:
    if sys.excepthook is sys.__excepthook__:
        terminal.crash(error)
    else:  # the log's: one JSON object
        sys.excepthook(type(error), error, error.__traceback__)
    return exit_codes.CRASHED
