"""How it is known that a symbol's day is whole at both ends: earlier and later records, positions, the exchange."""

import logging
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

import httpx2
import msgspec

from ingest.decoding import Undecodable, decode_typed
from ingest.http.answers import MiB, ask
from ingest.reader.consumer import TopicConsumer
from ingest.reader.placing import offset_of, partition_of
from ingest.reader.records import ReaderError
from ingest_ops.archive.certificate import SymbolEntry
from ingest_ops.archive.errors import TryAgain
from ingest_ops.archive.exchange_client import exchange_client
from ingest_ops.archive.positions import Position
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.archive.tally import SymbolDay, day_bounds

log = logging.getLogger(__name__)

MOST_BYTES: Final = MiB
"""Of the exchange's answer: one trade is asked for."""
NEAR: Final = 5_000
"""Records that are searched for one earlier trade."""

Known = tuple[str, str]
"""How it is known, and why it is not; one of them is empty."""


class RestTrade(msgspec.Struct, frozen=True):
    """An entry of ``GET /api/v3/historicalTrades``."""

    id: int
    time: int


Earlier = tuple[int, int]
"""Id and time of the last record before an id."""


def start_of(
    day: date, facts: SymbolDay, position: Position | None, before: SymbolEntry | None,
    search: Callable[[int], Earlier | None],
) -> Known:  # fmt: skip
    """How the first id is known to be the first of the day. ``search``: the last record before an id.

    What ``search`` finds is noted in the facts.
    """
    if facts.before_id is not None:
        return "earlier record", ""
    first = facts.first_id if facts.first_id is not None else facts.after_id
    last = None if before is None else last_known(before)
    if last is not None and (first is None or first <= last + 1):
        return "day before", ""
    if first is None:
        return ("position", "") if facts.trades == 0 and position is not None else ("", "the symbol has no position")
    if first == 0:
        return "first trade of the symbol", ""
    if last is None and position is not None and position.first_id == first:
        return "", f"recording began in this day, with id {first}"
    found = search(first)
    if found is not None and found[1] >= day_bounds(day)[0]:
        return "", (
            f"id {found[0]} is of this day and was not read, because its record has an earlier time than"
            " K2_ARCHIVE_EARLY_SECONDS before midnight: set that higher"
        )
    if last is not None:
        return "day before", ""
    if found is not None:
        facts.before_id = found[0]
        if found[0] + 1 < first:
            facts.gaps.insert(0, (found[0] + 1, first - 1))
        return "earlier record", ""
    gone = "" if position is None else f": ids from {position.first_id} to {first - 1} were recorded and are gone"
    return "", f"the topic no longer holds what is before id {first}{gone}"


def end_of(
    day: date, facts: SymbolDay, position: Position | None, committed_us: int, grace_us: int, last_voided: int,
    newest: Callable[[int], Known],
) -> Known:  # fmt: skip
    """How the last id is known to be the last of the day. ``newest`` asks the exchange for what follows an id."""
    _, end = day_bounds(day)
    if facts.after_id is not None:
        return "later record", ""
    if position is None:
        return "", "the symbol has no position"
    if committed_us < end + grace_us:
        return "", "its writer has not committed anything long enough after midnight"
    last = max(facts.last_id if facts.last_id is not None else -1, last_voided)
    if facts.last_id is not None and last < position.last_id:
        return "", f"the position is at id {position.last_id}, the last record read is {last}"
    if facts.last_id is None and (position.last_time_us is None or position.last_time_us >= day_bounds(day)[0]):
        return "", f"the position, at id {position.last_id}, has trades of this day or later that were not read"
    return newest(position.last_id)


class Exchange:
    """Asks the exchange's REST API what follows an id. Close it."""

    def __init__(self, settings: ArchiveSettings, day: date) -> None:
        self._url = settings.rest_url.rstrip("/")
        _, self._end = day_bounds(day)
        self._client = exchange_client(
            self._url, timeout=settings.timeout_seconds, headers={"X-MBX-TIME-UNIT": "MICROSECOND"}
        )

    def follows(self, symbol: str, last_id: int) -> Known:
        """Whether the exchange has a trade of the day after this id."""
        if not self._url:
            return "", "the exchange was not asked for later trades: no address of its REST API is set"
        params: dict[str, Any] = {"symbol": symbol, "fromId": last_id + 1, "limit": 1}
        try:
            answer = ask(
                self._client, "GET", f"{self._url}/api/v3/historicalTrades", params=params, most_bytes=MOST_BYTES
            )
            if answer.status_code != 200:
                return "", f"the exchange answered {answer.status_code}: {answer.text[:100]}"
            trades = decode_typed(answer.content, list[RestTrade])
        except (httpx2.HTTPError, Undecodable) as error:
            return "", f"the exchange did not say what follows id {last_id}: {error}"
        later = [one for one in trades if one.id > last_id]
        if later and later[0].time < self._end:
            return "", f"the exchange has id {later[0].id} of this day, which is not recorded"
        return "position, and the exchange's history", ""

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class EarlierRecords:
    """Finds the last record of a symbol before an id, by bisection over the offsets."""

    def __init__(self, settings: ArchiveSettings, sample: Callable[[bytes], tuple[int, int]]) -> None:
        self._settings = settings
        self._sample = sample

    def before(self, symbol: str, trade_id: int) -> Earlier | None:
        """The record with the greatest id below this one that the topic still has; None without one."""
        consumer = TopicConsumer(
            self._settings.bootstrap_servers, self._settings.topic, self._settings.kafka,
            timeout=self._settings.timeout_seconds,
        )  # fmt: skip
        try:
            partition = partition_of(symbol.encode(), len(consumer.partitions()))
            begin = offset_of(consumer, partition, symbol, trade_id - 1, lambda one: self._sample(one.value or b"")[0])
            low, _ = consumer.bounds(partition)
            found: Earlier | None = None
            for message in consumer.read({partition: max(low, begin - NEAR)}, follow=False):
                if message.key == symbol.encode() and message.value is not None:
                    number, time_us = self._sample(message.value)
                    if number >= trade_id:
                        break
                    found = number, time_us
        except ReaderError as error:
            raise TryAgain(str(error)) from error
        else:
            return found
        finally:
            consumer.close()


def last_known(before: SymbolEntry) -> int | None:
    """The last id that a day's entry accounts for."""
    return before.last_id if before.last_id is not None else before.previous_last_id


def entries(symbols: list[SymbolEntry]) -> Mapping[str, SymbolEntry]:
    """Entries by symbol."""
    return {one.symbol: one for one in symbols}
