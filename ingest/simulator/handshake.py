"""What a handshake with the streams comes to."""

from __future__ import annotations

from typing import NamedTuple


class Refused(NamedTuple):
    """A handshake that is answered with something else than 101."""

    status: int
    reason: str
    body: bytes
    content_type: str = "text/html"
    retry_after: int = 0


class Opening(NamedTuple):
    """The subscriptions in the URL."""

    streams: tuple[str, ...]
    combined: bool
    microseconds: bool
