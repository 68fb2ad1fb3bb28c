"""Files of the warehouse, in a folder or an object store, by their full location."""

import errno
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from pyarrow import fs
from pyiceberg.io.pyarrow import PyArrowFileIO

from ingest_ops.archive.errors import ArchiveError, TryAgain

PIECE: Final = 8 * 2**20
FULL: Final = (errno.ENOSPC, errno.EDQUOT)


class Storage:
    """Reads, writes, lists and removes. Errors of the store are ``TryAgain``, a full disk ``ArchiveError``."""

    def __init__(self, properties: Mapping[str, str]) -> None:
        self._io = PyArrowFileIO(dict(properties))
        self._properties = dict(properties)

    def place(self, location: str) -> tuple[Any, str]:
        """File system and path of a location."""
        scheme, netloc, path = PyArrowFileIO.parse_location(location, self._properties)
        return self._io.fs_by_scheme(scheme, netloc), path

    def read(self, location: str) -> bytes:
        """The content of a file. Raises ``FileNotFoundError``."""
        system, path = self.place(location)
        try:
            with system.open_input_stream(path) as file:
                data: bytes = file.read()
                return data
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise TryAgain(f"{location} cannot be read: {error}") from error

    def write(self, location: str, data: bytes) -> None:
        """Write a file whole: another name first where the store is a folder."""
        system, path = self.place(location)
        draft = path + ".part" if isinstance(system, fs.LocalFileSystem) else path
        try:
            if draft != path:
                system.create_dir(path.rpartition("/")[0], recursive=True)
            with system.open_output_stream(draft) as file:
                file.write(data)
            if draft != path:
                system.move(draft, path)
        except (OSError, pa.ArrowException) as error:
            raise _writing(location, error) from error

    def upload(self, source: Path, location: str) -> None:
        """Copy a local file to a location."""
        system, path = self.place(location)
        draft = path + ".part" if isinstance(system, fs.LocalFileSystem) else path
        try:
            if draft != path:
                system.create_dir(path.rpartition("/")[0], recursive=True)
            with source.open("rb") as read, system.open_output_stream(draft) as file:
                while piece := read.read(PIECE):
                    file.write(piece)
            if draft != path:
                system.move(draft, path)
        except (OSError, pa.ArrowException) as error:
            raise _writing(location, error) from error

    def digest(self, location: str) -> tuple[int, str]:
        """Size and SHA-256 of a file. Raises ``FileNotFoundError``."""
        system, path = self.place(location)
        size, hashed = 0, hashlib.sha256()
        try:
            with system.open_input_stream(path) as file:
                while piece := file.read(PIECE):
                    size += len(piece)
                    hashed.update(piece)
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise TryAgain(f"{location} cannot be read: {error}") from error
        return size, hashed.hexdigest()

    def names(self, location: str, before: float | None = None) -> list[str]:
        """Names directly below a location, sorted; none if it does not exist.

        ``before``: of files last changed before this time alone, in seconds since 1970.
        """
        system, path = self.place(location)
        try:
            found = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
        except (OSError, pa.ArrowException) as error:
            raise TryAgain(f"{location} cannot be listed: {error}") from error
        return sorted(
            one.base_name
            for one in found
            if before is None or (one.mtime_ns is not None and one.mtime_ns < before * 1e9)
        )

    def remove(self, location: str) -> None:
        """Remove a file; one that is gone is no error."""
        system, path = self.place(location)
        try:
            system.delete_file(path)
        except FileNotFoundError:
            return
        except (OSError, pa.ArrowException) as error:
            raise TryAgain(f"{location} cannot be removed: {error}") from error


def _writing(location: str, error: Exception) -> ArchiveError:
    if isinstance(error, OSError) and error.errno in FULL:
        return ArchiveError(f"{location} cannot be written: the disk is full; free some space and run it again")
    return TryAgain(f"{location} cannot be written: {error}")
