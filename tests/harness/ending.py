"""Programs that are ended from outside leave by their ``with`` blocks: no process and no folder of theirs stays."""

import contextlib
import signal
import sys
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, ``kill`` and a terminal that is closed."""


def by_signal() -> None:
    """From now on the first of ``SIGNALS`` raises ``SystemExit`` with 128 + its number; later ones wait for the end.

    A signal that the caller ignores (``nohup``) stays ignored.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def _leave(number: int, _: FrameType | None) -> None:
    for other in SIGNALS:
        signal.signal(other, lambda *_: None)  # not SIG_IGN, which every child would inherit
    with contextlib.suppress(OSError):  # the terminal may be gone
        sys.stderr.write(f"\nended by {signal.Signals(number).name}: stopping what was started\n")
    sys.exit(128 + number)
