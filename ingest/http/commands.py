"""Every command carries an id and a time: repeated and delayed requests are refused.

Headers: ``X-Command-Id``, 8 to 64 of ``A-Z a-z 0-9 . _ -``; ``X-Command-Time``, seconds since the epoch (UTC). A
command may name the process that it is for, ``X-Command-Process``: no other one takes it then, not even a later one of
the same slot.
"""

import re
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus

from ingest.http.messages import HttpError, Request

ID_HEADER = "X-Command-Id"
TIME_HEADER = "X-Command-Time"
PROCESS_HEADER = "X-Command-Process"
MAX_AGE_SECONDS = 60.0
"""How old a command may be by this clock."""
MAX_AHEAD_SECONDS = 2.0
"""How far its time may be ahead of this clock: less than a restart takes, after which its id would not be known."""
MAX_IDS = 4096
_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_TIME = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")


class CommandLog:
    """Remembers the ids of accepted commands for as long as their time would be accepted. Thread-safe.

    ``started`` is the time at which this process began: ids from before are unknown to it, so older commands are
    refused.
    """

    def __init__(self, time: Callable[[], float], *, started: float | None = None, process: str | None = None) -> None:
        self._time = time
        self._started = time() if started is None else started
        self._lock = threading.Lock()
        self._seen: OrderedDict[str, float] = OrderedDict()
        self.process = process or uuid.uuid4().hex
        """The name of this process, for commands that are meant for it alone."""

    def accept(self, request: Request) -> str:
        """Return the command's id. Raises ``HttpError``.

        400 without id or time; 409 for one that is repeated, old, from the future or for another process.
        """
        name, stamp = request.header(ID_HEADER), request.header(TIME_HEADER)
        if not _ID.fullmatch(name) or not _TIME.fullmatch(stamp):
            raise HttpError(
                HTTPStatus.BAD_REQUEST,
                f"a command needs {ID_HEADER} (8 to 64 letters, digits, '.', '_', '-') and {TIME_HEADER} "
                "(seconds since the epoch)",
            )
        meant = request.header(PROCESS_HEADER)
        if meant and meant != self.process:
            raise HttpError(HTTPStatus.CONFLICT, "the command is for another process than this one: read its status")
        now, sent = self._time(), float(stamp)
        if not -MAX_AHEAD_SECONDS <= now - sent <= MAX_AGE_SECONDS:
            raise HttpError(
                HTTPStatus.CONFLICT,
                f"the command is {now - sent:.0f} s old by this clock, which says {now:.3f} ({MAX_AGE_SECONDS:g} s are "
                f"accepted, and {MAX_AHEAD_SECONDS:g} s ahead): send it again, and compare the clocks",
            )
        if sent < int(self._started):
            raise HttpError(HTTPStatus.CONFLICT, "the command is older than this process: send it again")
        with self._lock:
            while self._seen and next(iter(self._seen.values())) < now:
                self._seen.popitem(last=False)
            if name in self._seen:
                raise HttpError(HTTPStatus.CONFLICT, f"command {name} was received before")
            if len(self._seen) >= MAX_IDS:
                raise HttpError(HTTPStatus.SERVICE_UNAVAILABLE, "too many commands in a minute", Retry_After="60")
            self._seen[name] = now + 2 * MAX_AGE_SECONDS
        return name
