"""What an agent offers, whichever way it runs the slots: build, start, stop, status of two slots. Nothing else."""

import re
from typing import Protocol

import msgspec

SLOTS = ("blue", "green")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class AgentRefusal(Exception):
    """The request cannot be carried out; the text says why. Repeating it changes nothing."""


class AgentTrouble(Exception):
    """It did not work this time; the text says what was seen. It may be tried again."""


class SlotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a slot from outside of it."""

    slot: str
    running: bool
    version: str = ""
    """What was started last; empty where nothing was."""
    started_at: float | None = None
    """When it was started last, seconds since 1970; also of one that has ended."""
    exit_code: int | None = None
    """How it ended, where it has."""
    restarts: int = 0
    status_url: str = ""
    control_url: str = ""
    detail: str = ""


WORDS = ("stop", "hold", "resume")
"""What a person may ask of the deployment that is open."""


class ControlRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A person's request to the open deployment. ``at``: seconds since 1970."""

    id: str
    word: str
    by: str
    at: float


class Slots(Protocol):
    """A way to run the slots. Every verb can be repeated: it looks first and does what is missing.

    Methods raise ``AgentRefusal`` or ``AgentTrouble``, block until done, and are called from several threads.
    """

    def build(self, version: str) -> str:
        """Make a version ready to start; returns what it is (an image's digest, a command)."""

    def start(self, slot: str, version: str) -> SlotStatus:
        """Run that version in the slot. A slot that runs it already is left alone; another version is refused."""

    def stop(self, slot: str) -> SlotStatus:
        """Stop the slot: commit and close, killed if it does not listen."""

    def status(self, slot: str) -> SlotStatus:
        """How the slot stands."""

    def versions(self) -> list[str]:
        """What can be started, or built, the newest first; for a form to offer."""

    def close(self) -> None:
        """Let go. What runs goes on."""


def check_slot(slot: str) -> str:
    """Return the slot. Raises ``AgentRefusal`` for any other name."""
    if slot not in SLOTS:
        raise AgentRefusal(f"no slot {slot[:64]!r}: there are {' and '.join(SLOTS)}")
    return slot


def check_version(version: str) -> str:
    """Return the version. Raises ``AgentRefusal`` for what is no plain name."""
    if not VERSION.fullmatch(version):
        raise AgentRefusal(f"no version {version[:80]!r}: allowed is {VERSION.pattern}")
    return version
