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
    stall_seconds: float = 1.0
    """A client that has taken no byte of its response for so long gives way where there are too many."""
    connections: int = 256
    """Open connections. One more makes room by closing the oldest without a complete head."""
    per_client: int = 128
    """Of these, connections of one address without a complete head. So many cost little, and a client that is slow to
    send its head keeps its connection the longer while another one of its address opens connections without a pause."""
    answers: int = 64
    """Of these, requests whose head is complete and that have no right token."""
    protected: int = 16
    """Of these, requests with a right token (or for health) whose body is awaited: no other one displaces them."""
    held: int = 16
    """Of these, connections kept open after their response; one more displaces the oldest of the network with most."""
    unsent_bytes: int = 32 * 2**20
    """Of all responses that their clients have yet to take; the slowest client is closed beyond that."""
    running: int = 4
    """Requests that handlers work on at once, besides trusted ones."""
    reserved: int = 4
    """Trusted requests (with a right token, or for health) that handlers work on at once besides ``running``."""
    waiting: int = 16
    """Requests without a right token that wait for a handler. One more, and one of the busiest network is answered with
    503."""
