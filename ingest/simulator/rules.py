"""The rules the exchange keeps towards its clients, all of them adjustable, and the clock it keeps them by."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

ErrorShape = Literal["nested", "flat"]
LifetimeEnd = Literal["close", "reset", "notice"]
"""``close``: with 1001; ``reset``: TCP reset; ``notice``: serverShutdown first, and 1001 after the lead."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What Binance documents for its market streams, or what is well attested where it documents nothing."""

    ping_interval_s: float = 20.0
    pong_timeout_s: float = 60.0
    """From the ping that was not answered."""
    strict_pong: bool = True
    """Whether a pong with a payload that no ping had ends the connection while a ping waits for its pong."""
    messages: int = 5
    """Pings, pongs and texts a client may send in `message_window_s`."""
    message_window_s: float = 1.0
    streams: int = 1024
    """Subscriptions per connection."""
    connects: int = 300
    """Handshakes per address in `connect_window_s`."""
    connect_window_s: float = 300.0
    lifetime_s: float = 86_400.0
    lifetime_end: LifetimeEnd = "close"
    notice_lead_s: float = 10.0
    control_bytes: int = 4096
    """Longer control messages get no answer at all."""
    url_chars: int = 8004
    error_shape: ErrorShape = "nested"
    ban_after: int = 0
    """Closes for too many messages after which the address is refused with 418; 0: never."""
    ban_s: float = 120.0
    negotiate_deflate: bool = True
    compress: bool = False
    """Whether data are compressed where permessage-deflate was negotiated."""
    backlog_bytes: int = 64 * 2**20
    """A client that leaves more than this unread is cut off."""
    close_timeout_s: float = 2.0


class ExchangeClock:
    """Epoch microseconds as the exchange sees them: the machine's, plus a skew that a test may set."""

    def __init__(self) -> None:
        self.skew_us = 0

    def now_us(self) -> int:
        """The exchange's time."""
        return time.time_ns() // 1000 + self.skew_us


class MessageWindow:
    """A strict rolling window: no more than `limit` events in any `seconds`."""

    def __init__(self, limit: int, seconds: float) -> None:
        self._seconds = seconds
        self._times: deque[float] = deque(maxlen=limit)

    def note(self, now: float) -> bool:
        """Count one event; False if it is one too many."""
        times = self._times
        fits = len(times) < (times.maxlen or 0) or now - times[0] >= self._seconds
        times.append(now)
        return fits


class Attempts:
    """Handshakes per address, and the addresses that are banned. Times are any monotonic seconds."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._windows: dict[str, MessageWindow] = {}
        self._offences: dict[str, int] = {}
        self._banned_until: dict[str, float] = {}

    def refused(self, ip: str, now: float) -> tuple[int, int] | None:
        """Count a handshake; the HTTP status and Retry-After it is refused with, or None."""
        left = self._banned_until.get(ip, now) - now
        if left > 0:
            return 418, max(1, round(left))
        window = self._windows.get(ip)
        if window is None:
            window = self._windows[ip] = MessageWindow(self._rules.connects, self._rules.connect_window_s)
        return None if window.note(now) else (429, max(1, round(self._rules.connect_window_s)))

    def offended(self, ip: str, now: float) -> bool:
        """Count a connection closed for too many messages; True if the address is banned for it."""
        count = self._offences[ip] = self._offences.get(ip, 0) + 1
        if not self._rules.ban_after or count < self._rules.ban_after:
            return False
        self._offences[ip] = 0
        self._banned_until[ip] = now + self._rules.ban_s
        return True
