"""What the supervisor of a fleet's instance and its children say to each other: JSON lines on the child's pipes. Pure.

The supervisor writes commands to the child's standard input, the child writes reports to its standard output. The end
of the input means that the supervisor is gone.
"""

import msgspec

from ingest.decoding import Undecodable, decode_with


class Budget(msgspec.Struct, frozen=True, tag="budget"):
    """What the child may use of its address's limits from now on. The first command of all."""

    processes: int
    """That may use the address at once, this one included: the request weight is shared by what the exchange states."""
    attempts: int
    """Connection attempts in five minutes."""


class Promote(msgspec.Struct, frozen=True, tag="promote"):
    """Take over as this generation; refused where that one is not new any more."""

    deployment_id: str
    generation: int


class End(msgspec.Struct, frozen=True, tag="end"):
    """Commit what is here and end."""


class Report(msgspec.Struct, frozen=True, tag="report"):
    """What the child is and does."""

    role: str
    generation: int
    warm: bool
    """Symbols, schema and positions are known, and every group of symbols has a live connection."""
    commit_age: float | None
    """Seconds since it committed, None if it never has."""
    lease_age: float
    """Seconds since any writer of its shard was seen to commit."""
    attempts: int
    """In force."""
    metrics_url: str
    control_url: str | None = None


class Attempt(msgspec.Struct, frozen=True, tag="attempt"):
    """A connection attempt. Written before it is made: it is known whatever happens to the child afterwards."""


Command = Budget | Promote | End
Message = Report | Attempt

_encode = msgspec.json.Encoder().encode
_commands: msgspec.json.Decoder[Command] = msgspec.json.Decoder(Command)
_messages: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def line(message: Command | Message) -> bytes:
    """One line. Shorter than what a pipe takes whole (4 KiB)."""
    return _encode(message) + b"\n"


def command(text: bytes) -> Command:
    """Decode a command. Raises ``Undecodable``."""
    return decode_with(_commands, text)


def message(text: bytes) -> Message | None:
    """Decode what a child wrote; None for anything else that got onto its standard output."""
    try:
        return decode_with(_messages, text)
    except Undecodable:
        return None
