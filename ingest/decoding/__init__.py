"""Bytes from outside into values, with one way to fail: ``Undecodable``, whatever the bytes are.

Decoders fail in more ways than their documentation names: thousands of nested brackets raise ``RecursionError``, a
number such as 1e400 becomes infinite and raises ``OverflowError`` where it is first used, bytes that are no UTF-8 raise
``UnicodeDecodeError``. A place that forgets one of them ends its process. Whatever comes from a topic, a registry, an
exchange, a network client or a file that others can write is decoded here; a test finds decoders elsewhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import msgspec

T = TypeVar("T")

DESCRIBED: Final = 200
"""Characters of the description at most: it may quote the bytes."""

FAILURES: Final = (
    ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, RecursionError, TypeError, ValueError,
    msgspec.MsgspecError,
)  # fmt: skip
"""What decoding bytes of any content raises, and using the value as one of the expected shape. ``MemoryError``: a
length in a few bytes that claims more than there is."""
JSON_FAILURES: Final = (msgspec.MsgspecError, RecursionError, UnicodeError)
"""What msgspec raises on JSON text of any content. Anything else is a mistake of ours, such as a value that is no text,
and passes."""


class Undecodable(ValueError):
    """The bytes are not valid in the expected format. The text says why, in at most ``DESCRIBED`` characters."""


@contextmanager
def decoding() -> Iterator[None]:
    """Turn every failure inside into ``Undecodable``: for a decoder of its own, or for looking into a decoded value."""
    try:
        yield
    except Undecodable:
        raise
    except FAILURES as error:
        raise undecodable(error) from error


def decode_json(data: bytes | str) -> Any:
    """The value of JSON text, without NaN and numbers beyond a float. Raises ``Undecodable``."""
    try:
        return msgspec.json.decode(data)
    except JSON_FAILURES as error:
        raise undecodable(error) from error


def decode_typed(data: bytes | str, kind: type[T]) -> T:
    """JSON text as a value of this type. Raises ``Undecodable``."""
    try:
        return msgspec.json.decode(data, type=kind)
    except JSON_FAILURES as error:
        raise undecodable(error) from error


def decode_with(decoder: "msgspec.json.Decoder[T]", data: bytes | str) -> T:
    """JSON text by a decoder that is kept, which saves a look-up of its type. Raises ``Undecodable``."""
    try:
        return decoder.decode(data)
    except JSON_FAILURES as error:
        raise undecodable(error) from error


def undecodable(error: BaseException) -> Undecodable:
    """The failure of a decoder as ``Undecodable``, with its text shortened."""
    text = f"no {error.args[0]!r}" if isinstance(error, KeyError) and error.args else str(error)
    return Undecodable((text or type(error).__name__)[:DESCRIBED])
