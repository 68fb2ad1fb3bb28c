"""Where a read begins: the offset of each partition, from an id, a time or a stored position."""

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import Final

from ingest.reader.consumer import TopicConsumer
from ingest.reader.placing import TradeId, offsets_of
from ingest.reader.records import BEGIN_AGAIN, ReaderError, Start
from ingest.reader.topic_watch import TopicState, check_same

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Kafka has no earlier times."""

Bounds = Mapping[int, tuple[int, int]]
"""Partition -> its first offset and the one after the last."""


def check_topic(start: Start, topic: str) -> None:
    """Raise ``ReaderError`` if the position is of another topic."""
    if start.topic is not None and start.topic != topic:
        raise ReaderError(f"the position is of topic {start.topic}, not of {topic}: read that topic, or {BEGIN_AGAIN}")


def checked_symbols(symbols: Iterable[str]) -> tuple[str, ...]:
    """Symbols, each once. Raises ``ReaderError`` for what no symbol of a topic can be: it would select nothing."""
    if isinstance(symbols, str):
        raise ReaderError(f"symbols are {symbols!r}: expected a list of names, e.g. [{symbols.upper()!r}]")
    found = tuple(dict.fromkeys(symbols))
    wrong = next((one for one in found if one != one.upper()), None)
    if wrong is not None:
        raise ReaderError(f"symbol {wrong!r}: names of symbols are in upper case: {wrong.upper()!r}")
    return found


def beginning(
    consumer: TopicConsumer, topic: str, state: TopicState, start: Start, symbols: Collection[str], id_of: TradeId
) -> dict[int, int]:
    """The offset of every partition at which a read begins. Raises ``ReaderError``."""
    check_same(topic, start.topic_id, state.topic_id)
    bounds = {partition: consumer.bounds(partition) for partition in range(state.partitions)}
    lows = {one: low for one, (low, _) in bounds.items()}
    if start.offsets is not None:
        _check_offsets(topic, start.offsets, bounds)
        return {**lows, **start.offsets}
    if start.newest:
        return {one: high for one, (_, high) in bounds.items()}
    if start.time is not None:
        return consumer.at_time(bounds, start.time) if start.time > EPOCH else lows
    return _at_ids(consumer, bounds, start.ids, symbols, id_of) if start.ids else lows


def _check_offsets(topic: str, offsets: Mapping[int, int], bounds: Bounds) -> None:
    """A position before the first offset is good: what was deleted meanwhile is stated by the read."""
    for partition, offset in offsets.items():
        if partition not in bounds:
            raise ReaderError(
                f"the position has partition {partition}, and {topic} has {len(bounds)} partitions: it is of another"
                f" topic; {BEGIN_AGAIN}"
            )
        high = bounds[partition][1]
        if offset > high:
            raise ReaderError(
                f"{topic}, partition {partition}: the position is at offset {offset}, beyond the end at {high}: the"
                f" topic was created again or has lost records; {BEGIN_AGAIN}"
            )


def _at_ids(
    consumer: TopicConsumer, bounds: Bounds, ids: Mapping[str, int], symbols: Collection[str], id_of: TradeId
) -> dict[int, int]:
    found: dict[int, int] = {}
    for symbol, trade_id in ids.items():
        for one, place in offsets_of(consumer, len(bounds), symbol, trade_id, id_of).items():
            found[one] = min(found.get(one, place), place)
    only = bool(symbols) and set(symbols) <= set(ids)
    # A partition without the symbols can get them when others are added.
    return {one: high if only else low for one, (low, high) in bounds.items()} | found
