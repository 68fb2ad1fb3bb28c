"""Answers of other programs, which may be hostile or wrong, read up to a bound in bytes and in time."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import httpx2

MiB = 2**20
ANSWER_SECONDS = 300.0
"""For one answer as a whole, however steadily it comes: each single read has a time-out of its own."""


class TooMuch(httpx2.ReadError):
    """An answer beyond its bound."""


def pieces(parts: Iterable[bytes], *, most_bytes: int, most_seconds: float = ANSWER_SECONDS) -> Iterator[bytes]:
    """Pass the parts of a body on. Raises ``TooMuch`` beyond the bound; the part that is beyond it is not passed on."""
    until, size = time.monotonic() + most_seconds, 0
    for part in parts:
        size += len(part)
        if size > most_bytes:
            raise TooMuch(f"an answer beyond {most_bytes} bytes")
        if time.monotonic() > until:
            raise TooMuch(f"an answer that takes more than {most_seconds:g} s")
        yield part


def ask(
    client: httpx2.Client,
    method: str,
    url: str,
    *,
    most_bytes: int,
    most_seconds: float = ANSWER_SECONDS,
    **options: Any,
) -> httpx2.Response:
    """Ask, and read the answer up to the bound, decompressed. Raises ``httpx2.HTTPError``, ``TooMuch`` among them."""
    with client.stream(method, url, **options) as answer:
        body = b"".join(pieces(answer.iter_bytes(), most_bytes=most_bytes, most_seconds=most_seconds))
        headers = [(name, value) for name, value in answer.headers.items() if name not in _OF_TRANSPORT]
        return httpx2.Response(answer.status_code, headers=headers, content=body, request=answer.request)


_OF_TRANSPORT = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""They say how the body came; it has been decoded."""
