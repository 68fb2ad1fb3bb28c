"""Several addresses of one exchange, each with its own penalties; the first is the favourite. Pure.

A failure sets an address aside for a while: it is used again early only where nothing else is left. A refusal (429,
418, a region that is not served) closes it: it is not used at all until the refusal is over. Neither concerns the other
addresses.
"""

from collections.abc import Sequence

PENALTY_SECONDS = 60.0
"""How long an address that failed is avoided while another one is left."""
NEVER = float("-inf")


class Endpoint:
    """What is known of one address. Times are monotonic seconds."""

    __slots__ = ("avoided_until", "banned", "refused_until", "url")

    def __init__(self, url: str) -> None:
        self.url = url
        self.avoided_until = NEVER
        self.refused_until = NEVER
        self.banned = False
        """Whether the refusal is a ban, which every further request makes longer [rest]."""


class Endpoints:
    """Addresses of the same exchange in order of preference."""

    def __init__(self, urls: Sequence[str], *, penalty: float = PENALTY_SECONDS) -> None:
        if not urls:
            raise ValueError("no address given")
        self._penalty = penalty
        self._all = {url.rstrip("/"): Endpoint(url.rstrip("/")) for url in urls}

    def __len__(self) -> int:
        return len(self._all)

    def usable(self, now: float) -> list[Endpoint]:
        """Return the addresses that may be used now, the best first: those that failed lately are last."""
        open_now = [endpoint for endpoint in self._all.values() if endpoint.refused_until <= now]
        return sorted(open_now, key=lambda endpoint: endpoint.avoided_until if endpoint.avoided_until > now else NEVER)

    def best(self, now: float) -> str | None:
        """Return the address to use now, None while all are refused."""
        usable = self.usable(now)
        return usable[0].url if usable else None

    def opens_in(self, now: float) -> tuple[float, bool]:
        """Return in how many seconds the first refusal ends, 0.0 where an address is open, and whether it is a ban."""
        first = min(self._all.values(), key=lambda endpoint: endpoint.refused_until)
        return max(0.0, first.refused_until - now), first.banned

    def failed(self, url: str, now: float) -> None:
        """Avoid this address for a while, as far as there is another one."""
        self._all[url].avoided_until = now + self._penalty

    def refused(self, url: str, now: float, seconds: float, *, banned: bool = False) -> None:
        """Do not use this address for so many seconds, whatever else is left."""
        endpoint = self._all[url]
        endpoint.refused_until = max(endpoint.refused_until, now + seconds)
        endpoint.banned = banned

    def worked(self, url: str) -> None:
        """Forget that this address failed. A refusal stands: another request may have met it meanwhile."""
        self._all[url].avoided_until = NEVER

    def another(self, now: float) -> bool:
        """Return whether some address has neither failed nor been refused lately."""
        return any(max(e.avoided_until, e.refused_until) <= now for e in self._all.values())
