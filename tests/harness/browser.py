"""Debian's Chromium without a window, by its DevTools protocol: pages are opened and measured. Knows no pytest."""

import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

from tests.harness.kafka import free_ports

START_SECONDS = 60.0
LOAD_SECONDS = 60.0


class BrowserUnavailable(Exception):
    """There is no Chromium; the text says what to install."""


class Browser:
    """One page of a Chromium that runs while the context is open."""

    def __init__(self) -> None:
        self._port = free_ports(1)[0]
        self._profile = tempfile.mkdtemp(prefix="k2-browser-")
        self._number = 0

    def __enter__(self) -> Self:
        program = shutil.which("chromium")
        if program is None:
            raise BrowserUnavailable("no chromium: install it (Debian: apt-get install chromium)")
        self._process = subprocess.Popen(
            [
                program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                f"--user-data-dir={self._profile}", f"--remote-debugging-port={self._port}", "about:blank",
            ],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        # Closed by hand, in __exit__.
        self._socket: ClientConnection = connect(self._page(), max_size=None, open_timeout=START_SECONDS, legacy=True)
        self.call("Page.enable")
        return self

    def _page(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/json", timeout=5) as answer:
                    pages = [one for one in json.load(answer) if one["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
            except (urllib.error.URLError, OSError, ValueError):
                pass
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise BrowserUnavailable("chromium did not start")
            time.sleep(0.2)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol. Raises ``RuntimeError`` for one that is refused."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            found = json.loads(self._socket.recv(timeout=LOAD_SECONDS))
            if found.get("id") == self._number:
                if "error" in found:
                    raise RuntimeError(f"{method}: {found['error']}")
                return dict(found["result"])

    def open(self, path: Path, *, width: int, dark: bool = False) -> None:
        """Open a file in a window of that width."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=True)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Page.navigate", url=path.absolute().as_uri())
        deadline = time.monotonic() + LOAD_SECONDS
        while self.evaluate("document.readyState") != "complete" or self.evaluate("location.href") == "about:blank":
            if time.monotonic() > deadline:
                raise TimeoutError(f"{path} does not load")
            time.sleep(0.05)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page, whatever its content security policy forbids the page itself."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(10)
        shutil.rmtree(self._profile, ignore_errors=True)
