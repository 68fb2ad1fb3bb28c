"""The folder in which a simulated exchange keeps its trades over restarts.

``ledger.<n>.journal`` begins with a line that names the format, and a frame with the market it belongs to and every
listing as it was then; the frames behind it hold operations. A frame is handed to the operating system before a client
is told what it holds: it survives the end of the process, SIGKILL included, but not a loss of power. There are two
files at most: where the newer one is full, another one begins, and the older one is removed with the trades that it
holds.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from typing import Any
from zlib import crc32

from ingest.simulator.ledger import Ledger
from ingest.simulator.operations import Journal, OperationError, perform

MAGIC = b"K2 Ingest simulator's ledger "
FORMAT = b"1"
LINE = MAGIC + FORMAT + b"\n"
_HEAD = Struct("<III")  # bytes of the frame, their checksum, and that of these two
_NAME = re.compile(r"ledger\.([0-9]{1,18})\.journal")


class StateError(OSError):
    """A folder that cannot be used, with what to do. No ValueError: that is a bad request to the admin API."""


class StateFolder:
    """The journal of one ledger in files. One process at a time: the lock ends with it."""

    def __init__(self, folder: Path, ledger: Ledger, identity: dict[str, Any], *, most_bytes: int) -> None:
        """Fill ``ledger``, which must be empty, with what the folder has, and record from then on what happens to it.

        ``identity``: what must be the same at each start. ``most_bytes``: of operations in each of the two files.
        Raises StateError for a folder that is in use, damaged, or of another identity or format.
        """
        self._folder = folder
        self._ledger = ledger
        self._identity = identity
        self._most = most_bytes
        self._file = -1
        self._failed = ""
        self._number = 0
        self._size = self._full = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise StateError(f"--state {folder}: {error.strerror}: name a folder that can be written") from error
        self.journal = Journal(self._write)
        try:
            self._take_lock()
            self._open()
        except BaseException:
            self.close()
            raise
        ledger.attach(self.journal)

    def close(self) -> None:
        """Write what was gathered, unless writing has failed before, and give the folder free."""
        if not self._failed:
            self.journal.flush()
        self._ledger.attach(None)
        for number in (self._file, self._lock):
            if number >= 0:
                os.close(number)
        self._file = self._lock = -1

    def _take_lock(self) -> None:
        import fcntl  # only here: Windows has none, and without --state no need of it

        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StateError(
                f"--state {self._folder}: another simulator uses it: end that one, or name another folder"
            ) from error

    def _path(self, number: int) -> Path:
        return self._folder / f"ledger.{number}.journal"

    def _open(self) -> None:
        """Read what is there, cut off a torn end, remove what a kill in a rotation has left, and go on writing."""
        try:
            found = sorted(int(name[1]) for one in self._folder.iterdir() if (name := _NAME.fullmatch(one.name)))
            read = found[-2:]
            for number in read:
                self._replay(number, first=number == read[0], newest=number == read[-1])
            if read:
                self._number = read[-1]
                self._file = os.open(self._path(self._number), os.O_WRONLY | os.O_CLOEXEC)
                os.ftruncate(self._file, self._size)
                os.lseek(self._file, self._size, os.SEEK_SET)
                self._remove_others()
            else:
                self._begin(1)
        except StateError:
            raise
        except OSError as error:
            raise StateError(f"--state {self._folder}: {error}: name a folder that can be read and written") from error

    def _replay(self, number: int, *, first: bool, newest: bool) -> None:
        path = self._path(number)
        data = path.read_bytes()
        frames = self._frames(path, data, torn=newest)
        head = next(frames, None)
        if head is None:
            raise self._damaged(path, len(data), "it has no beginning")
        self._begins(path, head[1], first=first)
        self._full = head[0] + self._most
        self._size = head[0]
        for end, operations in frames:
            try:
                perform(self._ledger, operations)
            except OperationError as error:
                raise self._damaged(path, self._size, str(error)) from error
            self._size = end

    def _begins(self, path: Path, data: bytes, *, first: bool) -> None:
        """Take over, or compare, the state with which a file begins."""
        try:
            head = json.loads(data)
            identity, state = head["identity"], head["ledger"]
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(path, len(LINE), f"no state: {error!r}") from error
        if identity != self._identity:
            differ = "; ".join(
                f"{key}: {_short(identity.get(key))} there, {_short(mine)} here"
                for key, mine in self._identity.items()
                if identity.get(key) != mine
            )
            raise StateError(
                f"--state {self._folder}: it belongs to another market ({differ}): "
                "start with the same options, or remove the folder and begin with an empty topic"
            )
        if not first:
            if state != json.loads(json.dumps(self._ledger.state())):
                raise self._damaged(path, len(LINE), "it does not follow the file before it")
            return
        try:
            self._ledger.restore(state)
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(path, len(LINE), f"no state: {error!r}") from error

    def _frames(self, path: Path, data: bytes, *, torn: bool) -> Iterator[tuple[int, bytes]]:
        """Where each frame ends, and what it holds. With ``torn`` the last one may lack its end: it is left out."""
        if not data.startswith(LINE):
            if data.startswith(MAGIC):
                raise StateError(f"{path}: its format is another version's: remove the folder {self._folder}")
            raise self._damaged(path, 0, "it is no journal of the simulator")
        at = len(LINE)
        while at < len(data):
            start = at + _HEAD.size
            if start <= len(data):
                length, checksum, check = _HEAD.unpack_from(data, at)
                if check != crc32(data[at : at + 8]):
                    raise self._damaged(path, at, "a wrong checksum")
                if start + length <= len(data):
                    frame = data[start : start + length]
                    if crc32(frame) != checksum:
                        raise self._damaged(path, start, "a wrong checksum")
                    at = start + length
                    yield at, frame
                    continue
            if not torn:
                raise self._damaged(path, at, "its end is missing")
            return

    def _damaged(self, path: Path, at: int, what: str) -> StateError:
        return StateError(
            f"{path}: damaged at byte {at}: {what}: remove the folder {self._folder} and begin with an empty topic"
        )

    def _write(self, operations: bytes) -> None:
        """The journal's sink. Raises StateError, and again each time after a failure: a gap would be worse."""
        if self._failed:
            raise StateError(self._failed)
        try:
            _write_all(self._file, _frame(operations))
            self._size += _HEAD.size + len(operations)
            if self._size >= self._full:
                self._begin(self._number + 1)
        except OSError as error:
            self._failed = f"--state {self._folder}: not written: {error}: make room and start again"
            raise StateError(self._failed) from error

    def _begin(self, number: int) -> None:
        """Go on in a new file, which is there whole or not at all, and remove all but the one before it."""
        head = json.dumps({"identity": self._identity, "ledger": self._ledger.state()}, separators=(",", ":")).encode()
        data = LINE + _frame(head)
        draft = self._folder / "ledger.part"
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            _write_all(file, data)
            draft.rename(self._path(number))
        except BaseException:
            os.close(file)
            raise
        if self._file >= 0:
            os.close(self._file)
        self._file, self._number, self._size, self._full = file, number, len(data), len(data) + self._most
        self._remove_others()

    def _remove_others(self) -> None:
        kept = {self._path(self._number).name, self._path(self._number - 1).name}
        for one in self._folder.iterdir():
            if one.name not in kept and (_NAME.fullmatch(one.name) or one.name == "ledger.part"):
                one.unlink()


def _frame(data: bytes) -> bytes:
    start = Struct("<II").pack(len(data), crc32(data))
    return start + Struct("<I").pack(crc32(start)) + data


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}... ({len(text)} characters)"


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
