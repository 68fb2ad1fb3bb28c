"""Names with several addresses for one process, by a preloaded library; and an HTTP server that answers as scripted."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness.preloaded import library
from tests.harness.scripted_http import Answer, Request, ScriptedHttp

SOURCE = Path(__file__).with_name("names.c")


def environment(table: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """For a process that shall resolve these names to these addresses, in this order. Raises ``NoCompilerError``."""
    entries = ";".join(f"{name}={','.join(addresses)}" for name, addresses in table.items())
    return {"LD_PRELOAD": str(library(SOURCE)), "FIELD_NAMES": entries}


@contextmanager
def http_server(answer: Callable[[Request], Answer]) -> Iterator[ScriptedHttp]:
    """A scripted HTTP server on a thread of its own."""
    server = ScriptedHttp(answer)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="scripted-http", daemon=True)
    thread.start()

    async def listen() -> Any:
        return await asyncio.start_server(server.handle, "127.0.0.1", 0)

    listener = asyncio.run_coroutine_threadsafe(listen(), loop).result(10)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(listener.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
