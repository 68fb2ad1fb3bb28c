"""Packets to and from a loopback port, dropped without a word: what a dead network does, and no socket call can."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

KEPT = Path(tempfile.gettempdir()) / "k2-dropped-ports"
"""A file for each port with a rule, named by it, that holds the number of the process which set the rule."""


def can_drop() -> bool:
    """Whether this process can add rules to the packet filter: tried with one of a port that nobody has."""
    if os.geteuid() != 0 or shutil.which("iptables") is None:
        return False
    drop = Drop(11)  # not one that tests connect to in vain
    try:
        drop.begin()
    except subprocess.CalledProcessError:
        return False  # a kernel may list rules and take none
    drop.end()
    return True


def _rules(port: int) -> list[list[str]]:
    return [["INPUT", "-i", "lo", "-p", "tcp", side, str(port), "-j", "DROP"] for side in ("--dport", "--sport")]


def _remove(port: int) -> None:
    for rule in _rules(port):
        subprocess.run(["iptables", "-w", "-D", *rule], check=False, capture_output=True)
    (KEPT / str(port)).unlink(missing_ok=True)


def remove_stale() -> list[int]:
    """Remove the rules of processes that ended without doing so (SIGKILL); returns their ports."""
    stale = []
    for kept in KEPT.glob("*"):
        with contextlib.suppress(OSError, ValueError):
            if not psutil.pid_exists(int(kept.read_text())):
                stale.append(int(kept.name))
    for port in stale:
        _remove(port)
    return stale


class Drop:
    """Drops everything of a port while it is on. Nothing else on the machine is touched."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._on = False

    def begin(self) -> None:
        """From now on nothing passes. Raises ``CalledProcessError``."""
        if not self._on:
            remove_stale()
            KEPT.mkdir(exist_ok=True)
            (KEPT / str(self._port)).write_text(str(os.getpid()))
            for rule in _rules(self._port):
                subprocess.run(["iptables", "-w", "-A", *rule], check=True, capture_output=True)
            self._on = True

    def end(self) -> None:
        """Let it pass again."""
        if self._on:
            _remove(self._port)
            self._on = False


@contextlib.contextmanager
def dropped(port: int) -> Iterator[None]:
    """Everything of a port is dropped while the context is open."""
    drop = Drop(port)
    drop.begin()
    try:
        yield
    finally:
        drop.end()
