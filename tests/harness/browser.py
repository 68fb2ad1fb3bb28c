"""Debian's Chromium without a window, by its DevTools protocol: pages are opened and used. Knows no pytest."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import ClientConnection, connect

from tests.harness import loopback
from tests.harness.kafka import free_ports

START_SECONDS = 60.0
LOAD_SECONDS = 60.0
PLACE = """
(() => {
  const node = %s;
  if (!node || node.disabled || node.getAttribute("aria-disabled") === "true") return null;
  node.scrollIntoView({block: "center", inline: "center", behavior: "instant"});
  const box = node.getBoundingClientRect();
  if (!box.width || !box.height) return null;
  const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
  const hit = document.elementFromPoint(x, y);
  return hit && (node.contains(hit) || hit.contains(node)) ? [x, y] : null;
})()
"""
"""Where the middle of an element is; null as long as it cannot be clicked."""


CONTRAST = """
(() => {
  const parse = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = node => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  let worst = 21, text = "";
  for (const node of document.querySelectorAll("h1, h2, p, td, th, dt, dd, a, li, summary")) {
    if (!node.textContent.trim() || !node.getClientRects().length) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst) [worst, text] = [ratio, node.textContent.trim().slice(0, 60)];
  }
  return `${worst.toFixed(2)} ${text}`;
})()
"""
"""The least contrast of any text of a page, and the beginning of that text."""


@dataclass(frozen=True)
class Answer:
    """What a server said to one request of a page."""

    method: str
    url: str
    status: int


class BrowserUnavailable(Exception):
    """There is no Chromium; the text says what to install."""


class Browser:
    """One page of a Chromium that runs while the context is open."""

    def __init__(self) -> None:
        self._port = free_ports(1)[0]
        self._profile = tempfile.mkdtemp(prefix="k2-browser-")
        self._number = 0
        self._methods: dict[str, str] = {}
        self.answers: list[Answer] = []
        """Of every request of the pages since ``forget``."""
        self.exceptions: list[str] = []
        """What no script of the pages has caught since ``forget``."""

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
        # Closed by hand, in __exit__. Between two commands nothing is read: a pong would wait behind events.
        self._socket: ClientConnection = connect(
            self._page(),
            max_size=None,
            max_queue=None,
            ping_interval=None,
            open_timeout=START_SECONDS,
            proxy=None,
            legacy=True,
        )
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")
        return self

    def forget(self) -> None:
        """Nothing of what pages have sent and thrown until now."""
        self._methods.clear()
        self.answers.clear()
        self.exceptions.clear()

    def _note(self, event: dict[str, Any]) -> None:
        name, found = event.get("method"), event.get("params", {})
        if name == "Network.requestWillBeSent":
            self._methods[found["requestId"]] = found["request"]["method"]
        elif name == "Network.responseReceived":
            method = self._methods.get(found["requestId"], "GET")
            self.answers.append(Answer(method, found["response"]["url"], int(found["response"]["status"])))
        elif name == "Runtime.exceptionThrown":
            details = found["exceptionDetails"]
            self.exceptions.append(str(details.get("exception", {}).get("description") or details.get("text")))

    def _page(self) -> str:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with loopback.urlopen(f"http://127.0.0.1:{self._port}/json", timeout=5) as answer:
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
            self._note(found)

    def open(self, path: Path, *, width: int, dark: bool = False) -> None:
        """Open a file in a window of that width."""
        self.window(width=width, dark=dark)
        self.visit(path.absolute().as_uri())

    def window(self, *, width: int, height: int = 844, dark: bool = False) -> None:
        """The size of the window, pixels, and whether its user prefers dark pages. Below 600 it is a phone's."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )  # fmt: skip
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)

    def visit(self, url: str) -> None:
        """Load an address to its end. Raises ``TimeoutError``."""
        self.call("Page.navigate", url="about:blank")
        self.until("location.href === 'about:blank'", "an empty page")
        self.call("Page.navigate", url=url)
        self.until("location.href !== 'about:blank' && document.readyState === 'complete'", url)

    def until(self, expression: str, what: str, *, seconds: float = LOAD_SECONDS) -> Any:
        """Wait until an expression in the page is true; returns its value. Raises ``TimeoutError`` with the text."""
        deadline = time.monotonic() + seconds
        # An element has no value that could be returned.
        while not (found := self.evaluate(f"(found => found && found.nodeType ? true : found)({expression})")):
            if time.monotonic() > deadline:
                text = str(self.evaluate("document.body ? document.body.innerText : ''"))
                raise TimeoutError(f"{what} did not come within {seconds:g} s: {expression}\n{text[:3000]}")
            time.sleep(0.1)
        return found

    def click(self, element: str, *, seconds: float = LOAD_SECONDS) -> None:
        """Click, as a mouse does, on the element that an expression finds, once it is there, still, and enabled."""
        place, before = self.until(PLACE % element, f"{element} to click on", seconds=seconds), None
        while place != before:
            time.sleep(0.1)
            place, before = self.until(PLACE % element, f"{element} to click on", seconds=seconds), place
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            button = "none" if kind == "mouseMoved" else "left"
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button=button, clickCount=1,
                buttons=int(kind == "mousePressed"),
            )  # fmt: skip

    def fill(self, element: str, text: str) -> None:
        """Replace what a field has, as a keyboard does."""
        self.click(element)
        self.key("a", control=True)
        self.key("Delete")
        if text:
            self.call("Input.insertText", text=text)

    def key(self, name: str, *, control: bool = False) -> None:
        """Press one key."""
        codes = {"a": 65, "Delete": 46, "Enter": 13, "Escape": 27, "Tab": 9, "ArrowDown": 40}
        common: dict[str, Any] = {"key": name, "windowsVirtualKeyCode": codes[name], "modifiers": 2 if control else 0}
        if name == "Enter":
            common["text"] = "\r"
        if control and name == "a":
            common["commands"] = ["selectAll"]
        self.call("Input.dispatchKeyEvent", type="keyDown", **common)
        common.pop("commands", None)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def picture(self, path: Path) -> Path:
        """Write what the window shows as PNG; returns the path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
        return path

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
