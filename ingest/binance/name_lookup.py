"""Resolves host names on threads of its own, one for each name at a time.

A resolver that hangs (a name server that drops packets) must not take the threads of the loop's executor, which others
wait for, and must not keep the process from ending; attempts that are given up must not add further threads.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import Any

Found = Sequence[tuple[int, int, int, str, Any]]
"""What ``socket.getaddrinfo`` returns."""
_Running = asyncio.Future[Found | Exception]


class NameLookup:
    """Used on one loop."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, int], _Running] = {}

    async def find(self, host: str, port: int) -> Found:
        """Return the TCP addresses of a name. Safe to cancel. Raises ``OSError``, or ``UnicodeError``: not a name."""
        running = self._running.get((host, port))
        if running is None:
            running = self._running[host, port] = self._begin(host, port)
        found = await asyncio.shield(running)
        if isinstance(found, Exception):
            raise found
        return found

    def _begin(self, host: str, port: int) -> _Running:
        loop = asyncio.get_running_loop()
        running: _Running = loop.create_future()

        def settle(found: Found | Exception) -> None:
            del self._running[host, port]
            running.set_result(found)

        def run() -> None:
            found: Found | Exception
            try:
                found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except Exception as error:  # noqa: BLE001 (raised where the result is awaited)
                found = error
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(settle, found)

        thread = threading.Thread(target=run, name=f"look-up of {host}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the container's limit of threads
            raise OSError(f"{host} cannot be looked up: {error}") from error
        return running
