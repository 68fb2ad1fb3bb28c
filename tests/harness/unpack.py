"""Unpacking of tar archives on every supported Python: the oldest, 3.11.2, has no ``filter`` of its own."""

import tarfile
from pathlib import Path


class UnsafeArchiveError(Exception):
    """A member of the archive would be written outside the folder, or is neither file nor folder; the text names it."""


def unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Write all files and folders of an open archive below ``folder``; nothing if one must not be written there.

    Raises ``UnsafeArchiveError``.
    """
    root = folder.resolve()
    members = archive.getmembers()
    for member in members:
        if not (member.isfile() or member.isdir()):
            raise UnsafeArchiveError(f"{archive.name!r}: {member.name!r} is neither a file nor a folder")
        if not (root / member.name).resolve().is_relative_to(root):
            raise UnsafeArchiveError(f"{archive.name!r}: {member.name!r} leads out of the folder")
        member.uid = member.gid = -1  # of whoever unpacks, as the filter "data" has it
        member.uname = member.gname = ""
        member.mode = member.mode & 0o755 | (0o700 if member.isdir() else 0o600)
    archive.extraction_filter = lambda member, _: member  # checked above; Python 3.12 and later warn without one
    for member in members:
        archive.extract(member, root)
