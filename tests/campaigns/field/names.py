"""Names with several addresses for one process, by a preloaded library; and an HTTP server that answers as scripted."""

import asyncio
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.harness.processes import ROOT
from tests.harness.scripted_http import Answer, Request, ScriptedHttp
from tests.harness.wall_clock import NoCompilerError

SOURCE = Path(__file__).with_name("names.c")
LIBRARY = ROOT / ".cache" / "names.so"
_lock = threading.Lock()


def environment(table: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """For a process that shall resolve these names to these addresses, in this order. Raises ``NoCompilerError``."""
    entries = ";".join(f"{name}={','.join(addresses)}" for name, addresses in table.items())
    with _lock:
        return {"LD_PRELOAD": str(_library()), "FIELD_NAMES": entries}


def _library() -> Path:
    if LIBRARY.exists() and LIBRARY.stat().st_mtime >= SOURCE.stat().st_mtime:
        return LIBRARY
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NoCompilerError("no C compiler for names of several addresses (Debian: apt-get install gcc libc6-dev)")
    LIBRARY.parent.mkdir(parents=True, exist_ok=True)
    fresh = LIBRARY.with_suffix(f".{os.getpid()}")
    done = subprocess.run(
        [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(fresh), str(SOURCE)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode:
        raise NoCompilerError(f"names.c could not be compiled:\n{done.stderr[-2000:]}")
    fresh.replace(LIBRARY)
    return LIBRARY


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
