"""Which address to try next: several addresses of one exchange, the first is the favourite. Pure."""

from collections.abc import Sequence

PENALTY_SECONDS = 60.0
"""How long an address that failed is avoided while another one is left."""


class Endpoints:
    """Addresses of the same exchange in order of preference, with those that failed set aside for a while."""

    def __init__(self, urls: Sequence[str], *, penalty: float = PENALTY_SECONDS) -> None:
        if not urls:
            raise ValueError("no address given")
        self._urls = [url.rstrip("/") for url in urls]
        self._penalty = penalty
        self._avoid_until = dict.fromkeys(self._urls, float("-inf"))

    def best(self, now: float) -> str:
        """The first address that has not failed lately, else the one whose failure is the oldest."""
        for url in self._urls:
            if self._avoid_until[url] <= now:
                return url
        return min(self._urls, key=self._avoid_until.__getitem__)

    def failed(self, url: str, now: float, *, seconds: float | None = None) -> None:
        """Avoid this address for a while (default ``penalty`` seconds)."""
        self._avoid_until[url] = now + (self._penalty if seconds is None else seconds)

    def worked(self, url: str) -> None:
        """Forget that this address ever failed."""
        self._avoid_until[url] = float("-inf")

    def another(self, now: float) -> bool:
        """Whether some address has not failed lately."""
        return any(until <= now for until in self._avoid_until.values())
