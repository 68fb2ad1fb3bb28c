"""Does what a page says, word for word: ``python -m tests.harness.walk docs/tutorials/first_ten_minutes.md``.

In a copy of the checkout that has the running virtual environment (``--fresh``: none), with ``PATH`` and ``HOME`` as
its only variables, and, where the machine allows it, in network and process namespaces of its own: the page's ports are
then free whatever else runs here.

Exit code 0: everything was printed as shown; 1: something was not; 2: the page cannot be followed.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.harness.kafka import CACHE as JARS
from tests.harness.page import BadPage, Shown, Step, read

ROOT = Path(__file__).resolve().parents[2]
HIDDEN_AND_COPIED = frozenset({".ci", ".dockerignore", ".env.example", ".gitignore"})
NOT_COPIED = frozenset({"__pycache__", "_build", "build", "dist", "htmlcov", "secrets"})
STEP_SECONDS = 600.0
AGAIN_SECONDS = 180.0
END_SECONDS = 60.0
PLACES = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


class Different(Exception):
    """Something is not as the page says."""


class Terminal:
    """A shell that is told one block after the other, as a reader would."""

    MARK = "k2-end-of-block"

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.printed: list[str] = []
        self._news = threading.Condition()
        self._shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile"], cwd=directory, env=_environment(), text=True, errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._listen, name=f"terminal-{name}", daemon=True)
        self._reader.start()
        self._say("trap 'k2_failed=$?' ERR")

    def _listen(self) -> None:
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            with self._news:
                self.printed.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    def _say(self, text: str) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(text + "\n")
        self._shell.stdin.flush()

    def run(self, commands: str, seconds: float = STEP_SECONDS) -> list[str]:
        """Everything that they print. Raises ``Different`` where one fails, or does not end."""
        start = len(self.printed)
        self._say(f"k2_failed=0\n{commands}\nprintf '\\n%s %s\\n' {self.MARK} $k2_failed")
        end = self._wait(lambda: self._mark(start), seconds)
        if end is None:
            raise Different(f"no end within {seconds:g} s:\n{self.tail(start)}")
        code = self.printed[end].split()[1]
        if code != "0":
            raise Different(f"exit code {code}:\n{self.tail(start)}")
        return self.printed[start:end]

    def _mark(self, start: int) -> int | None:
        return next((at for at in range(start, len(self.printed)) if self.printed[at].startswith(self.MARK)), None)

    def begin(self, commands: str, shown: Shown | None, seconds: float = STEP_SECONDS) -> None:
        """Start what stays, and wait for what is shown of it. Raises ``Different``."""
        start = len(self.printed)
        self._say(commands)
        if shown is None:
            return
        if self._wait(lambda: None if shown.difference(self.printed[start:]) else 1, seconds) is None:
            why = shown.difference(self.printed[start:])
            raise Different(f"not within {seconds:g} s, or it ended: {why}\n{self.tail(start)}")

    def _wait(self, found: "object", seconds: float) -> int | None:
        assert callable(found)
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                result: int | None = found()
                left = deadline - time.monotonic()
                if result is not None or left <= 0 or not self._reader.is_alive():
                    return result
                self._news.wait(min(left, 1.0))

    def interrupt(self, seconds: float = END_SECONDS) -> None:
        """Ctrl-C, and wait for the end of what ran; the terminal is closed with it. Raises ``Different``."""
        self._signal(signal.SIGINT)
        with suppress(OSError):
            assert self._shell.stdin is not None
            self._shell.stdin.close()
        try:
            self._shell.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise Different(f"Ctrl-C did not end it within {seconds:g} s:\n{self.tail(0)}") from error

    def close(self) -> None:
        """End it, politely at first: a broker takes its Java along."""
        for number, seconds in ((signal.SIGINT, 10.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
            if self._shell.poll() is None:
                self._signal(number)
                with suppress(OSError):
                    assert self._shell.stdin is not None
                    self._shell.stdin.close()
                with suppress(subprocess.TimeoutExpired):
                    self._shell.wait(seconds)

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, number)

    def tail(self, start: int, lines: int = 60) -> str:
        """The end of what it printed since."""
        return "\n".join(self.printed[start:][-lines:])


def _environment() -> dict[str, str]:
    """What a terminal has that knows nothing of us."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "CI") if name in os.environ}
    return kept | {"LANG": "C.UTF-8"}


def _ignored(folder: str, names: list[str]) -> set[str]:
    """What a clone has not: caches that other processes write meanwhile, results, secrets."""
    if Path(folder) == ROOT / "reports":
        return set(names) - {"README.md", "examples"}
    hidden = {name for name in names if name.startswith(".")} - HIDDEN_AND_COPIED
    return hidden | (set(names) & NOT_COPIED) | {name for name in names if name.endswith(".egg-info")}


@contextmanager
def copied(*, fresh: bool) -> Iterator[Path]:
    """A copy of the checkout with Kafka's jars and, unless it is ``fresh``, the running virtual environment in it."""
    with tempfile.TemporaryDirectory(prefix="k2-walk-") as folder:
        copy = Path(folder) / "k2-ingest"
        shutil.copytree(ROOT, copy, ignore=_ignored, symlinks=True)
        (copy / ".cache").mkdir()
        JARS.mkdir(parents=True, exist_ok=True)
        (copy / ".cache" / JARS.name).symlink_to(JARS)
        if not fresh:
            _link_environment(copy / ".venv")
        yield copy


def _link_environment(environment: Path) -> None:
    environment.mkdir()
    for one in Path(sys.prefix).iterdir():
        if not one.name.startswith("."):
            (environment / one.name).symlink_to(one)
    for stamp in (".demo", ".all"):  # it is installed: nothing is to be done
        (environment / stamp).touch()


def follow(steps: Sequence[Step], directory: Path) -> None:
    """Do the steps. Raises ``Different`` at the first that is not as shown."""
    terminals: dict[str, Terminal] = {}
    try:
        for step in steps:
            began = time.monotonic()
            try:
                _do(step, terminals, directory)
            except Different as error:
                raise Different(f"line {step.line}, {step.commands or step.interrupt!r}:\n{error}") from error
            name = (step.not_run and f"not run: {step.not_run}") or step.commands or f"Ctrl-C {step.interrupt}"
            sys.stdout.write(f"{time.monotonic() - began:6.1f} s  {step.terminal:9} {name.splitlines()[0][:90]}\n")
            sys.stdout.flush()
    except Different:
        for one in terminals.values():
            sys.stdout.write(f"--- terminal {one.name}\n{one.tail(0, 30)}\n")
        raise
    finally:
        for one in reversed(terminals.values()):
            one.close()


def _do(step: Step, terminals: dict[str, Terminal], directory: Path) -> None:
    if step.not_run:
        return
    for name in step.interrupt:
        terminals.pop(name).interrupt()
    if not step.commands:
        return
    if step.terminal not in terminals:
        terminals[step.terminal] = Terminal(step.terminal, directory)
    terminal = terminals[step.terminal]
    if step.stays:
        terminal.begin(step.commands, step.shown)
        return
    deadline = time.monotonic() + AGAIN_SECONDS
    while True:
        try:
            printed = terminal.run(step.commands)
            why = step.shown.difference(printed) if step.shown is not None else ""
        except Different as error:
            if not step.again:
                raise
            printed, why = [], str(error)
        if not why:
            return
        if not step.again or time.monotonic() > deadline:
            raise Different(f"{why}\nprinted:\n" + "\n".join(printed[-60:]))
        time.sleep(0.5)


def elsewhere() -> list[str]:
    """The command before ours that gives namespaces of our own; empty where the machine does not allow it."""
    for command in (PLACES, (PLACES[0], "--map-root-user", *PLACES[1:])):
        with suppress(OSError):
            done = subprocess.run(
                [*command, "sh", "-c", "ip link set lo up"], capture_output=True, check=False, timeout=30
            )
            if done.returncode == 0:
                return list(command)
    return []


def main(arguments: Sequence[str] | None = None) -> int:
    """Follow a page; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.walk", description=__doc__.splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--section", action="append", help="these alone, by the beginning of the heading; repeatable")
    parser.add_argument("--fresh", action="store_true", help="without a virtual environment: the page makes one")
    parser.add_argument("--here", action="store_true", help="in this network, whatever has the ports")
    options = parser.parse_args(arguments)
    try:
        steps = read(options.page)
    except (BadPage, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if options.section:
        steps = [step for step in steps if step.section.startswith(tuple(options.section))]
    if not any(step.commands for step in steps):
        sys.stderr.write(f"{options.page}: nothing to do\n")
        return 2
    if not options.here and (namespaces := elsewhere()):
        again = [sys.executable, "-m", "tests.harness.walk", "--here", str(options.page)]
        again += [part for name in options.section or () for part in ("--section", name)]
        again += ["--fresh"] if options.fresh else []
        # The shell stays: as the first process it also waits for those whose parents have gone.
        command = [*namespaces, "sh", "-c", 'ip link set lo up && "$@"; exit $?', "sh", *again]
        return subprocess.run(command, check=False).returncode
    try:
        with copied(fresh=options.fresh) as directory:
            follow(steps, directory)
    except Different as error:
        sys.stdout.write(f"DIFFERENT: {options.page}: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
