"""One child process: ``ingest run`` for one shard, with a pipe in each direction.

The thread of a child reads its reports until it has ended; everything else is called by the supervisor.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from ingest.core.child_protocol import Attempt, Budget, Command, End, Report, line, message
from ingest.fleet.budget import usage

log = logging.getLogger(__name__)

MOST_LINE = 64 * 1024
"""Bytes of a line; a longer one is none of ours and is read in pieces."""
COMMAND = (sys.executable, "-m", "ingest", "run", "--supervised")
RESERVED_NAMES = frozenset(
    {
        "K2_SHARD_INDEX", "K2_INSTANCE_ID", "K2_METRICS_HOST", "K2_METRICS_PORT", "K2_READY_FILE", "K2_CONTROL_PORT",
        "K2_STANDBY_WARM", "K2_FLEET_GROUP",
    }
)  # fmt: skip
"""What a child gets other values for."""


def child_environment(environment: Mapping[str, str], instance: str, shard: int, *, control: bool) -> dict[str, str]:
    """The settings of a child: those of the instance, with its shard, an id and ports of its own on loopback."""
    kept = {
        name: value for name, value in environment.items() if not {name, name.removesuffix("_FILE")} & RESERVED_NAMES
    }
    own = {
        "K2_SHARD_INDEX": str(shard),
        "K2_INSTANCE_ID": child_id(instance, shard),
        "K2_METRICS_HOST": "127.0.0.1",
        "K2_METRICS_PORT": "0",
    }
    return kept | own | ({"K2_CONTROL_PORT": "0"} if control else {})


def child_id(instance: str, shard: int) -> str:
    """The instance id of a child."""
    return f"{instance}-s{shard}"


class Child:
    """A started process. Its pipes are closed by its thread once it has ended."""

    def __init__(self, shard: int, environment: Mapping[str, str], *, on_news: Callable[[], None]) -> None:
        """Raises ``OSError`` where no process can be started. ``on_news`` is called on the child's thread."""
        self.shard = shard
        self.started_at = time.monotonic()
        self._on_news = on_news
        self._process = subprocess.Popen(  # noqa: S603 - this very program
            COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=dict(environment), close_fds=True
        )
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._report: Report | None = None
        self._reported_at = self.started_at
        self._usage = usage()
        self.sent: Budget | None = None
        self._thread = threading.Thread(target=self._listen, name=f"child of shard {shard}", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def ended(self) -> int | None:
        """Its exit code once everything that it wrote has been read, None before."""
        return None if self._thread.is_alive() else self._process.poll()

    def report(self) -> tuple[Report | None, float]:
        """The latest report, and when it came (or, without one, when the process was started)."""
        with self._lock:
            return self._report, self._reported_at

    def attempts(self, now: float) -> int:
        """Connection attempts that it has made within the exchange's window."""
        with self._lock:
            return self._usage.used(now)

    def send(self, command: Command) -> None:
        """Write a command; one that does not fit into the pipe of a frozen child is repeated by the next decision."""
        pipe = self._process.stdin
        with self._writing:  # else it may be closed between, and its number be another file's
            if pipe is None or pipe.closed:
                return
            os.set_blocking(pipe.fileno(), False)
            try:
                os.write(pipe.fileno(), line(command))
            except OSError as error:
                log.debug("shard %d: a command was not taken: %s", self.shard, error)
                return
        if isinstance(command, Budget):
            self.sent = command

    def end(self) -> None:
        """Let it commit what it has and end."""
        self.send(End())

    def kill(self) -> None:
        """End it now."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)

    def _listen(self) -> None:
        source = self._process.stdout
        if source is not None:
            with source:
                while text := source.readline(MOST_LINE):
                    self._take(text)
        self._process.wait()
        if self._process.stdin is not None:
            with self._writing, suppress(OSError):
                self._process.stdin.close()
        self._on_news()

    def _take(self, text: bytes) -> None:
        found, now = message(text), time.monotonic()
        with self._lock:
            if isinstance(found, Attempt):
                self._usage.note(now)
                return
            if found is None:
                return
            changed = self._report is None or self._report.role != found.role
            self._report, self._reported_at = found, now
        if changed:
            self._on_news()
