"""How often each symbol trades, measured from the advance of its ids. Pure."""

from collections.abc import Mapping

HORIZON_SECONDS = 600.0
"""The rate is an average that forgets over about this time."""


class _Rate:
    __slots__ = ("last_id", "measured", "per_second", "since")

    def __init__(self, last_id: int, now: float) -> None:
        self.last_id = last_id
        self.since = now
        self.per_second = 0.0
        self.measured = 0.0


class Rates:
    """Trades per second of each symbol.

    Silence does not lower a rate until the next trade ends it: a symbol that has died is judged by how it lived.
    """

    def __init__(self) -> None:
        self._rates: dict[str, _Rate] = {}

    def observe(self, last_ids: Mapping[str, int], now: float) -> None:
        """Take every symbol's last id; symbols that are not named any more are forgotten."""
        for symbol in self._rates.keys() - last_ids.keys():
            del self._rates[symbol]
        for symbol, last_id in last_ids.items():
            rate = self._rates.get(symbol)
            if rate is None:
                self._rates[symbol] = _Rate(last_id, now)
            elif last_id > rate.last_id and now > rate.since:
                seconds = now - rate.since
                rate.measured = min(HORIZON_SECONDS, rate.measured + seconds)
                share = min(1.0, seconds / rate.measured)
                rate.per_second += share * ((last_id - rate.last_id) / seconds - rate.per_second)
                rate.last_id, rate.since = last_id, now

    def expected(self, symbol: str, seconds: float) -> float:
        """How many trades of a symbol should come in so many seconds; 0.0 while that is not known."""
        rate = self._rates.get(symbol)
        return rate.per_second * max(0.0, seconds) if rate is not None else 0.0
