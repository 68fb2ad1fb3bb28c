"""A service that is a child of a fleet's supervisor: commands on standard input, reports on standard output.

Signals are the supervisor's business: one that reaches every process (Ctrl-C, systemd's control group) must not end a
child that has no successor yet. The end of the input means that the supervisor is gone: the child writes on until it is
fenced, or for as long as an instance that leaves does, and ends.
"""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

from ingest.core.child_protocol import Attempt, Budget, Command, End, Promote, Report, command, line
from ingest.core.errors import Retry, Stop
from ingest.core.role import Role
from ingest.decoding import Undecodable
from ingest.service.parts import Parts

log = logging.getLogger(__name__)

REPORT_SECONDS = 0.25
MOST_BYTES = 4096
"""Of a command."""


class Supervision:
    """The child's end of both pipes."""

    def __init__(self, source: int, output: int) -> None:
        """Both are file descriptors. Raises ``Stop`` where the first line is no budget."""
        self._lines = _lines(source)
        self._output = output
        first = _decoded(next(self._lines, b""))
        if not isinstance(first, Budget):
            raise Stop("--supervised: for the supervisor of a fleet alone, which gives the budget first")
        self._budget = first
        self._unreported = 0
        """Connection attempts that did not fit into the pipe."""
        # A supervisor that is frozen must not freeze its children: a report that does not fit into the pipe is dropped.
        os.set_blocking(output, False)

    @classmethod
    def of_standard_streams(cls) -> "Supervision":
        """Talk with the process that started this one. Raises ``Stop`` where there is none to talk with."""
        try:
            return cls(sys.stdin.fileno(), sys.stdout.fileno())
        except (AttributeError, OSError, ValueError) as error:  # closed, or not of the operating system
            raise Stop("--supervised: for the supervisor of a fleet alone, which gives two pipes") from error

    def attach(self, parts: Parts) -> None:
        """Apply the first budget, and report from now on each connection attempt before it is made."""
        parts.receiving.history.rest.share_address(self._budget.processes)
        parts.receiving.feed.report_attempts(lambda _: self._report_attempt())
        self._apply(parts, self._budget)

    def _apply(self, parts: Parts, budget: Budget) -> None:
        self._budget = budget
        parts.receiving.feed.limit_attempts(budget.attempts)

    def _report_attempt(self) -> None:
        self._unreported += 1
        self._report_attempts()

    def _report_attempts(self) -> None:
        """Report attempts that the supervisor does not know of; those of a frozen one's time count from later on."""
        while self._unreported and self._write(line(Attempt())):
            self._unreported -= 1

    def _write(self, data: bytes) -> bool:
        """Write a line, whole or not at all; returns whether it was written."""
        try:
            os.write(self._output, data)
        except (BlockingIOError, BrokenPipeError):
            return False
        return True

    async def run(self, parts: Parts, stop: Callable[[], None]) -> None:
        """Obey and report until cancelled."""
        loop = asyncio.get_running_loop()
        commands: asyncio.Queue[Command | None] = asyncio.Queue()

        def put(item: Command | None) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(commands.put_nowait, item)

        threading.Thread(target=_read, args=(self._lines, put), name="supervision", daemon=True).start()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._report(parts), name="reports")
            while (item := await commands.get()) is not None:
                self._obey(item, parts, stop, group)
            await self._orphaned(parts, stop)

    def _obey(self, item: Command, parts: Parts, stop: Callable[[], None], group: asyncio.TaskGroup) -> None:
        match item:
            case Budget():
                self._apply(parts, item)
            case Promote():
                group.create_task(_promote(item, parts), name="promotion")
            case End():
                stop()

    async def _report(self, parts: Parts) -> None:
        while True:
            self._report_attempts()
            self._write(line(self._said(parts)))
            with suppress(TimeoutError):
                async with asyncio.timeout(REPORT_SECONDS):
                    await parts.writing.leadership.changed_role()

    def _said(self, parts: Parts) -> Report:
        leadership, now = parts.writing.leadership, asyncio.get_running_loop().time()
        live = parts.receiving.feed.groups_live()
        last = leadership.last_commit
        return Report(
            role=leadership.role.value,
            generation=leadership.generation,
            warm=leadership.ready_to_write.is_set() and bool(live) and all(live.values()),
            commit_age=None if last is None else round(max(0.0, now - last), 3),
            lease_age=round(max(0.0, now - leadership.lease_seen), 3),
            attempts=self._budget.attempts,
            metrics_url=parts.endpoints.addresses["metrics_url"],
            control_url=parts.endpoints.addresses.get("control_url"),
        )

    async def _orphaned(self, parts: Parts, stop: Callable[[], None]) -> None:
        seconds = parts.settings.service.fleet_leave_timeout_seconds
        log.warning("the supervisor is gone: writing on for at most %g s, until a successor has taken over", seconds)
        leadership = parts.writing.leadership
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while leadership.role in (Role.ACTIVE, Role.TAKING_OVER, Role.FENCED):
                    await leadership.changed_role()
        stop()
        await asyncio.Event().wait()  # until cancelled: the service drains


async def _promote(item: Promote, parts: Parts) -> None:
    try:
        await parts.handover.promote(item.deployment_id, item.generation)
    except (Stop, Retry, TimeoutError) as refusal:
        log.warning("the supervisor's promotion was not carried out: %s", str(refusal) or "it took too long")


def _lines(source: int) -> Iterator[bytes]:
    """The lines of a pipe until its end. No buffered file: its lock, held by a thread, aborts the exit of Python."""
    rest = b""
    while data := os.read(source, MOST_BYTES):
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
        rest = rest[-MOST_BYTES:]


def _read(lines: Iterator[bytes], put: Callable[[Command | None], None]) -> None:
    """Read commands until the supervisor is gone (on a thread of its own)."""
    for text in lines:
        item = _decoded(text)
        if item is not None:
            put(item)
    put(None)


def _decoded(text: bytes) -> Command | None:
    try:
        return command(text)
    except Undecodable as error:
        log.warning("a command of the supervisor cannot be read: %s", error)
        return None
