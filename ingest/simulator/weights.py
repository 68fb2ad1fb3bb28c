"""The exchange's request weight per IP: 429 above the limit, 418 for who does not stop then.

Documented (REST "IP Limits"): 6000 per minute and IP; exceeding answers 429, going on regardless bans the IP for
2 minutes up to 3 days; both carry Retry-After in seconds. How many calls "going on" means is not documented.
Times are epoch seconds of the caller's clock.
"""

from __future__ import annotations

import math
from typing import NamedTuple

FIRST_BAN_S = 120.0
LONGEST_BAN_S = 3 * 86_400.0


class Refusal(NamedTuple):
    """Why an IP gets no answer: `status` 429 or 418, for `retry_after` whole seconds, until `until`."""

    status: int
    retry_after: int
    until: float


class _Account:
    __slots__ = ("banned_until", "bans", "refused", "used", "window")

    def __init__(self) -> None:
        self.window = -1
        self.used = 0
        self.refused = 0
        self.bans = 0
        self.banned_until = 0.0


class WeightMeter:
    """Counts weight per IP in windows aligned to the clock, as Binance's -1M counters are.

    `patience` calls after the first refused one are answered 429; the next bans the IP for 120 s, and for twice the
    time before with every further ban, up to 3 days.
    """

    def __init__(self, limit: int = 6000, *, window_s: float = 60.0, patience: int = 10) -> None:
        if limit < 1 or window_s <= 0 or patience < 0:
            raise ValueError(
                f"limit {limit} and window_s {window_s} must be positive, patience {patience} not negative"
            )
        self.limit = limit
        self.window_s = window_s
        self.patience = patience
        self._accounts: dict[str, _Account] = {}

    def charge(self, ip: str, weight: int, now: float) -> int:
        """Charge one call and return the weight used in the current window; ask `refusal` whether it is answered."""
        account = self._account(ip, now)
        if now < account.banned_until:
            return account.used
        account.used += weight
        if account.used > self.limit:
            account.refused += 1
            if account.refused > self.patience + 1:
                self.ban(ip, now)
        return account.used

    def used(self, ip: str, now: float) -> int:
        """The weight used in the current window."""
        return self._account(ip, now).used

    def refusal(self, ip: str, now: float) -> Refusal | None:
        """Whether the IP's last charged call is refused, and for how long."""
        account = self._account(ip, now)
        if now < account.banned_until:
            return Refusal(418, max(1, math.ceil(account.banned_until - now)), account.banned_until)
        if account.used > self.limit:
            until = (account.window + 1) * self.window_s
            return Refusal(429, max(1, math.ceil(until - now)), until)
        return None

    def ban(self, ip: str, now: float, seconds: float | None = None) -> float:
        """Ban an IP, by default for the next longer time it has coming; returns when the ban ends."""
        account = self._account(ip, now)
        if seconds is None:
            seconds = min(LONGEST_BAN_S, FIRST_BAN_S * 2.0 ** min(account.bans, 32))
            account.bans += 1
        account.refused = 0
        account.banned_until = now + seconds
        return account.banned_until

    def reset_ban(self, ip: str) -> None:
        """Forget everything about an IP."""
        self._accounts.pop(ip, None)

    def _account(self, ip: str, now: float) -> _Account:
        account = self._accounts.get(ip)
        if account is None:
            account = self._accounts[ip] = _Account()
        window = int(now // self.window_s)
        if window != account.window:
            account.window = window
            account.used = 0
            account.refused = 0
        return account
