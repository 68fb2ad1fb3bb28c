"""What ends a command of the archive. Every text says what, where and what to do."""


class ArchiveError(Exception):
    """It cannot work until something is changed: settings, a table of another version, a disk that is full."""


class TryAgain(ArchiveError):
    """A part does not answer now, or another run is at the same day."""


class NotFinished(ArchiveError):
    """The day is not over."""
