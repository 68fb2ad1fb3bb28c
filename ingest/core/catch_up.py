"""Which of two sources of missing trades costs less request weight. Pure.

``historicalTrades`` gives every trade for a weight of 25. ``aggTrades`` costs 4 and gives exactly those trades that are
an aggregate of their own; when one of the missing ones is folded with others, 25 must be spent all the same.
"""

from typing import Final

PRIOR: Final = (0.9, 50.0)
"""The share of aggregates of one trade before any was seen (0.915 of 1,242 recorded ones), and its weight."""
WORTH: Final = 4.0 / 25.0
"""Aggregates are the cheaper first question while the chance that they suffice is above this."""
MOST: Final = 500
"""And for at most so many missing trades: a page has 1,000 aggregates, the newest ones."""
FORGET: Final = 2000.0
"""Observations after which old ones lose their weight."""


class AggregateOdds:
    """Learns how many aggregates are single trades."""

    def __init__(self) -> None:
        share, self._seen = PRIOR
        self._single = share * self._seen

    @property
    def share(self) -> float:
        """The share of aggregates that are one trade."""
        return self._single / self._seen

    def observe(self, single: int, several: int) -> None:
        """Take the numbers of aggregates of one trade and of several."""
        self._single += single
        self._seen += single + several
        if self._seen > FORGET:
            self._single *= FORGET / self._seen
            self._seen = FORGET

    def worth(self, missing: int) -> bool:
        """Return whether aggregates are worth asking for so many missing trades."""
        return 0 < missing <= MOST and self.share**missing > WORTH
