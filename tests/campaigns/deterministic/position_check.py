"""Positions and records in the broker in memory, as a take-over and the search after it see them."""

from collections.abc import Iterable, Mapping

from ingest.core.streams import TRADE
from ingest.core.trade import Position
from ingest.kafka.position_check import Checked, compare
from ingest.kafka.position_records import stored_void
from ingest.kafka.positions import ShardState
from ingest.kafka.tail_reader import Tail
from tests.campaigns.deterministic.broker import Broker, Place
from tests.campaigns.deterministic.client import PARTITIONS

SEEN = 20
"""Records of each partition that a take-over sees: few, so that the search has something to do."""


def _newest(broker: Broker, topic: str, last: int | None = None) -> tuple[dict[str, int], bool]:
    """The newest visible record of each symbol, of the last ones alone; and whether nothing is hidden behind them."""
    newest: dict[str, int] = {}
    complete = True
    for partition in range(PARTITIONS):
        records, end = broker.read((topic, partition), 0)
        complete &= end == len(broker.logs.get((topic, partition), ()))
        for record in records if last is None else records[-last:]:
            symbol = (record.key or b"").decode()
            newest[symbol] = max(int(record.value.split(b" ")[0]), newest.get(symbol, -1))
    return newest, complete


def _tail(newest: dict[str, int], *, complete: bool) -> Tail:
    return Tail(newest, complete=frozenset(range(PARTITIONS) if complete else ()), partitions=PARTITIONS)


class ModelCheck:
    """``PositionCheck`` on the model."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._broker = broker
        self._topic = topic
        self._tail = Tail()

    def positions_read(self, state: ShardState) -> None:
        """Nothing has to be opened."""

    def fenced(self) -> None:
        """What is visible now is all that the predecessor has written."""
        newest, complete = _newest(self._broker, self._topic, SEEN)
        self._tail = _tail(newest, complete=complete)

    def finish(self, positions: Mapping[str, Position]) -> Checked:
        """The real comparison."""
        return compare(positions, self._tail, [TRADE])

    def cancel(self) -> None:
        """Nothing is open."""


class ModelRecords:
    """``RecordSearch`` on the model."""

    def __init__(self, broker: Broker, topic: str, positions: Place) -> None:
        self._broker = broker
        self._topic = topic
        self._positions = positions

    async def compare(self, positions: Mapping[str, Position], seconds: float) -> Checked:
        """Found at once, by the real comparison."""
        del seconds
        newest, complete = _newest(self._broker, self._topic)
        return compare(positions, _tail(newest, complete=complete), [TRADE])

    async def voids(self, names: Iterable[str]) -> dict[str, dict[int, int]]:
        """Everything that is committed."""
        found: dict[str, dict[int, int]] = {name: {} for name in names}
        for record in self._broker.read(self._positions, 0)[0]:
            void = stored_void(record.key, record.value)
            if void is not None and void.symbol in found:
                found[void.symbol][void.first_id] = void.last_id
        return found
