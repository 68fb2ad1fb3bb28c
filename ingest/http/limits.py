"""Bounds of one HTTP server."""

from typing import Final

import msgspec

POLL_SECONDS: Final = 0.2
"""How soon the serving thread sees that the server closes, or that a deadline has passed."""


class Limits(msgspec.Struct, frozen=True):
    """Seconds and counts. Each bound holds for one listening socket."""

    head_seconds: float = 2.0
    """The request line and all headers must have arrived within this."""
    body_seconds: float = 10.0
    """The body must have arrived within this, from the head on."""
    send_seconds: float = 10.0
    """A response must have left within this."""
    linger_seconds: float = 1.0
    """Bytes that a refused client still sends are read and dropped for at most this long."""
    close_seconds: float = 1.0
    """Responses under way may still leave within this when the server closes."""
    connections: int = 96
    """Open connections. One more makes room by closing the oldest that has not sent a request yet."""
    per_client: int = 48
    """Of these, connections of one address that have not sent a request yet."""
    running: int = 4
    """Requests that handlers work on at once, besides trusted ones."""
    reserved: int = 4
    """Trusted requests (with a right token, or for health) that handlers work on at once besides ``running``."""
    waiting: int = 16
    """Requests that wait for a handler; one more is answered with 503."""
