"""When a planted fault begins: a while after the version has a role."""

import os
import signal
import threading
from collections.abc import Callable

from ingest.core.role import Role
from ingest.service.shadow_runner import ShadowRunner

AFTER_SECONDS = float(os.environ.get("FAULT_AFTER_SECONDS", "3"))


def die() -> None:
    """End as the kernel would end it."""
    os.kill(os.getpid(), signal.SIGKILL)


def later(call: Callable[[], None]) -> None:
    """Call it after a while, whatever the loop does."""
    timer = threading.Timer(AFTER_SECONDS, call)
    timer.daemon = True
    timer.start()


def when(wanted: Role, call: Callable[[], None]) -> None:
    """Call it a while after this instance first takes that role."""
    original = ShadowRunner.on_role

    done: list[Role] = []

    def on_role(self: ShadowRunner, role: Role) -> None:
        original(self, role)
        if role is wanted and not done:
            done.append(role)
            later(call)

    ShadowRunner.on_role = on_role  # type: ignore[method-assign]


def once(role: Role) -> threading.Event:
    """An event that is set a while after this instance first takes that role."""
    event = threading.Event()
    when(role, event.set)
    return event
