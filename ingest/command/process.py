"""The edge of a process: every end of a command has an exit code, and no error ends without one."""

import io
import os
import resource
import sys
from collections.abc import Callable

from ingest.command import exit_codes, terminal


def prepare_streams() -> None:
    """Escape what the terminal's encoding cannot show instead of failing on it; give a closed stream a place.

    Standard output that the caller has closed (``>&-``) becomes one that cannot be written: a command that prints ends
    with a clear line, one that prints nothing works. It also keeps its descriptor from becoming another file's.
    """
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def disable_core_dumps() -> None:
    """Let a crash of this process leave no core dump: it would hold every secret that the process has read.

    The limit is 1 byte and not 0: Linux ignores 0 where dumps go to a program (``core_pattern`` with a pipe), and for 1
    starts none (fs/coredump.c). Only the soft limit is set: ``prlimit --core=unlimited --pid`` turns dumps on again.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    if hard != 0:  # 0: already forbidden, and cannot be raised to 1
        resource.setrlimit(resource.RLIMIT_CORE, (1, hard))


def exit_code_of(who: str, command: Callable[[], int]) -> int:
    """Run a command; returns its exit code, or that of how it failed. ``who`` begins the lines of an error."""
    try:
        return _run(command)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except terminal.OutputError as error:
        terminal.complain(who, str(error))
        return exit_codes.UNUSABLE
    except OSError as error:
        code = _output_failed(who)
        return _crashed(error) if code is None else code
    except Exception as error:  # noqa: BLE001 - the process ends here; the traceback is written
        return _crashed(error)


def _run(command: Callable[[], int]) -> int:
    """Run a command and write what it has printed, also if it ends with ``SystemExit`` as ``--help`` does."""
    try:
        code = command()
    except SystemExit:
        sys.stdout.flush()
        raise
    sys.stdout.flush()
    return code


def _output_failed(who: str) -> int | None:
    """Return the exit code if standard output is what cannot be written, None if it can."""
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        terminal.discard(sys.stdout)
        return exit_codes.NO_READER
    except OSError as error:
        terminal.discard(sys.stdout)
        terminal.complain(who, f"standard output cannot be written: {error}")
        return exit_codes.UNUSABLE
    return None


def _crashed(error: Exception) -> int:
    if sys.excepthook is sys.__excepthook__:
        terminal.crash(error)
    else:  # the log's: one JSON object
        sys.excepthook(type(error), error, error.__traceback__)
    return exit_codes.CRASHED
