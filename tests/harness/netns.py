"""Packets to and from a loopback port, dropped without a word: what a dead network does, and no socket call can."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator


def can_drop() -> bool:
    """Whether this process can add rules to the packet filter: tried with one of a port that nobody has."""
    if os.geteuid() != 0 or shutil.which("iptables") is None:
        return False
    drop = Drop(1)
    try:
        drop.begin()
    except subprocess.CalledProcessError:
        return False  # a kernel may list rules and take none
    drop.end()
    return True


class Drop:
    """Drops everything of a port while it is on. Nothing else on the machine is touched."""

    def __init__(self, port: int) -> None:
        self._rules = [
            ["INPUT", "-i", "lo", "-p", "tcp", side, str(port), "-j", "DROP"] for side in ("--dport", "--sport")
        ]
        self._on = False

    def begin(self) -> None:
        """From now on nothing passes. Raises ``CalledProcessError``."""
        if not self._on:
            for rule in self._rules:
                subprocess.run(["iptables", "-w", "-A", *rule], check=True, capture_output=True)
            self._on = True

    def end(self) -> None:
        """Let it pass again."""
        if self._on:
            for rule in self._rules:
                subprocess.run(["iptables", "-w", "-D", *rule], check=False, capture_output=True)
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
