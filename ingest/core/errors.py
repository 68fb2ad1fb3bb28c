"""Errors, named by what the caller does next.

IngestError
 +-- Retry            wait ``after`` seconds and do the same again
 |    +-- Banned      the exchange refuses this address; nothing may be sent before ``after`` seconds have passed
 +-- Reject           this one message is unusable: keep its bytes, go on with the next
 +-- Fenced           another writer holds the transactional id: write nothing more
 +-- Recycle          the outcome of a transaction is unknown or its producer spent: destroy it and start over
 +-- Stop             it cannot ever work: say why and end the process
      +-- BadSettings the settings are wrong: exit code 2
"""


class IngestError(Exception):
    """The root of every error that this package raises on purpose."""


class Retry(IngestError):
    """A passing trouble: do the same again after ``after`` seconds."""

    def __init__(self, message: str, *, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class Banned(Retry):
    """HTTP 418 or 403: every further request makes it worse until ``after`` seconds have passed [rest]."""


class Reject(IngestError):
    """One message cannot be used. ``reason`` is a short, bounded label; ``symbol`` and ``trade_id`` where known."""

    def __init__(self, reason: str, detail: str, *, symbol: str | None = None, trade_id: int | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.symbol = symbol
        self.trade_id = trade_id


class Fenced(IngestError):
    """The broker has given our transactional id to another producer."""


class Recycle(IngestError):
    """The producer must not be used again: its last transaction's outcome is unknown or may still arrive late."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


class Stop(IngestError):
    """It cannot work without a person changing something. The text says what."""


class BadSettings(Stop):
    """One or more settings are wrong. ``problems`` has one line for each: name, value, what is allowed."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def ending(group: BaseExceptionGroup[BaseException], finished: type[BaseException]) -> BaseException | None:
    """Return what to raise for a task group that ended: None if every error in it is ``finished``.

    A group of ``Stop`` alone gives the first of them; anything else stays a group, without ``finished``. Use this in a
    plain ``except BaseExceptionGroup``: Python before 3.11.4 wraps what an ``except*`` block raises in another group.
    """
    unfinished = group.split(finished)[1]
    if unfinished is None or unfinished.split(Stop)[1] is not None:
        return unfinished
    error: BaseException = unfinished
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def crashed(what: str, error: Exception) -> IngestError:
    """Return an unexpected error as one that ends the service: half of something may have been done."""
    found = IngestError(f"{what}: {type(error).__name__}: {error}")
    found.__cause__ = error
    return found
