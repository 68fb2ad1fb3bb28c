"""Offsets that a topic no longer has or never had, and topics that change while they are read."""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.reader import Deleted, Gap, Reader, ReaderError, Record, Start, Trade, Undecodable, topic_watch
from ingest.reader.beginning import beginning
from ingest.reader.consumer import TopicConsumer
from ingest.reader.placing import partition_of
from ingest.reader.topic_watch import TopicState
from tests.harness.registry import Registry
from tests.harness.trades_topic import SCHEMA, TradesTopic, trade

SMALL_FETCHES = {
    "queued.min.messages": "1", "queued.max.messages.kbytes": "1", "fetch.message.max.bytes": "1000",
    "message.max.bytes": "1000", "fetch.max.bytes": "1000", "receive.message.max.bytes": "1000000",
    "fetch.queue.backoff.ms": "1",
}  # fmt: skip
"""One batch at a time, so that a read is in the middle of the topic when its records are deleted."""
NUMBERS = itertools.count()

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

Make = Callable[[int], TradesTopic]


@pytest.fixture(scope="module")
def make(kafka: str) -> Iterator[Make]:
    with Registry() as registry:
        yield lambda partitions: TradesTopic(f"offsets.{next(NUMBERS)}", kafka, registry.url, partitions=partitions)


def ids(records: list[Record], symbol: str = "BTCUSDT") -> list[int | None]:
    return [one.source_sequence for one in records if isinstance(one, Trade) and one.symbol == symbol]


def besides(records: list[Record]) -> list[Record]:
    return [one for one in records if not isinstance(one, Trade)]


def whole(topic: TradesTopic, start: Start | None = None, **options: Any) -> list[Record]:
    with topic.reader(start, **options) as reader:
        return list(reader)


def position_of(reader: Reader) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(reader.position()))
    return found


def position_after(topic: TradesTopic) -> dict[str, Any]:
    with topic.reader() as reader:
        list(reader)
        return position_of(reader)


class Follower:
    """Reads with ``follow`` in a thread, until it has enough or an error ends it."""

    def __init__(self, topic: TradesTopic, enough: int, start: Start | None = None) -> None:
        self.records: list[Record] = []
        self.error: ReaderError | None = None
        self._reader = topic.reader(start, follow=True, timeout=5.0)
        self._enough = enough
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._ended = threading.Event()
        self._thread.start()

    def _read(self) -> None:
        try:
            for one in self._reader:
                self.records.append(one)
                if len(self.records) >= self._enough:
                    break
        except ReaderError as error:
            self.error = error
        finally:
            self._reader.close()

    def has(self, number: int) -> None:
        deadline = time.monotonic() + 30
        while len(self.records) < number:
            assert time.monotonic() < deadline, self.records
            time.sleep(0.05)

    def end(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive(), self.records


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topic_watch, "LOOK_SECONDS", 0.2)


def test_records_that_retention_deletes_during_a_read_are_stated_and_the_others_read(make: Make) -> None:
    topic = make(1)
    topic.write("BTCUSDT", range(2000))
    with topic.reader(options=SMALL_FETCHES) as reader:
        records = iter(reader)
        found = list(itertools.islice(records, 10))
        topic.cut(0, 1500)
        found += records
        assert reader.position()["offsets"] == {"0": 2000}
    before = len(ids(found)) - 500
    assert 10 <= before < 1500
    assert ids(found) == [*range(before), *range(1500, 2000)]
    assert besides(found) == [Deleted(0, before, 1499), Gap("BTCUSDT", before, 1500)]


def test_records_deleted_after_the_position_are_stated(make: Make) -> None:
    topic = make(2)
    topic.write("BTCUSDT", range(20))
    topic.write("ETHUSDT", range(20), partition=1)
    position = position_after(topic)
    topic.write("BTCUSDT", range(20, 40))
    topic.cut(0, 30)
    found = whole(topic, Start.at_position(position))
    assert besides(found) == [Deleted(0, 20, 29), Gap("BTCUSDT", 20, 30)]
    assert ids(found) == list(range(30, 40))
    topic.cut(0, -1)
    assert whole(topic, Start.at_position(position)) == [Deleted(0, 20, 39)], "nothing is left to read"


def test_nothing_is_stated_where_everything_was_read_before_it_was_deleted(make: Make) -> None:
    topic = make(1)
    topic.write("BTCUSDT", range(5), transaction=True)
    position = position_after(topic)
    while position["offsets"] == {"0": 0}:  # the broker applies the commit after it has answered
        position = position_after(topic)
    assert position["offsets"] == {"0": 6}, "the mark of the commit has an offset, too"
    topic.cut(0, -1)
    assert whole(topic, Start.at_position(position)) == []


def test_a_second_iteration_goes_on_behind_the_first(make: Make) -> None:
    topic = make(1)
    topic.write("BTCUSDT", range(5))
    with topic.reader() as reader:
        assert ids(list(reader)) == list(range(5))
        assert list(reader) == []
        topic.write("BTCUSDT", range(5, 8))
        again = list(reader)
    assert (ids(again), besides(again)) == ([5, 6, 7], [])


def test_a_position_of_a_topic_that_was_created_again_is_refused(make: Make) -> None:
    topic = make(1)
    topic.write("BTCUSDT", range(20))
    position = position_after(topic)
    topic.delete()
    topic.create()
    topic.write("BTCUSDT", range(30))
    with pytest.raises(ReaderError, match=r"was deleted and created again .*; begin at a time or an id"):
        whole(topic, Start.at_position(position))
    with pytest.raises(ReaderError, match="was deleted and created again"):
        whole(topic, Start.at_position(position), follow=True)


def test_a_position_that_the_topic_cannot_have_is_refused(make: Make) -> None:
    topic = make(1)
    topic.write("BTCUSDT", range(20))
    position = position_after(topic)
    older = {"offsets": {"0": 21}, "next_ids": {}}  # of a version that noted no id of the topic
    with pytest.raises(ReaderError, match=r"partition 0: the position is at offset 21, beyond the end at 20"):
        whole(topic, Start.at_position(older))
    assert whole(topic, Start.at_position({**older, "offsets": {"0": 20}})) == []
    with pytest.raises(ReaderError, match=rf"partition 7, and {topic.name} has 1 partitions"):
        whole(topic, Start.at_position({**position, "offsets": {"0": 20, "7": 3}}))
    with pytest.raises(ReaderError, match=rf"the position is of topic no\.such, not of {topic.name}"):
        whole(topic, Start.at_position({**position, "topic": "no.such"}))


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize("records", [3, 40], ids=["shorter", "longer"])
def test_a_topic_that_is_created_again_ends_a_read_that_follows_it(records: int, make: Make) -> None:
    topic = make(1)
    topic.write("BTCUSDT", range(20))
    follower = Follower(topic, 1000)
    follower.has(20)
    topic.delete()
    topic.create()
    topic.write("BTCUSDT", range(100, 100 + records))
    follower.end()
    assert "created again" in str(follower.error)
    assert "begin at a time or an id" in str(follower.error)


@pytest.mark.usefixtures("quick_looks")
def test_a_topic_that_is_deleted_ends_a_read_that_follows_it(make: Make) -> None:
    topic = make(1)
    topic.write("BTCUSDT", range(20))
    follower = Follower(topic, 1000)
    follower.has(20)
    topic.delete()
    follower.end()
    assert f"{topic.name} at {topic.bootstrap_servers} was deleted while it was read" in str(follower.error)


@pytest.mark.usefixtures("quick_looks")
def test_added_partitions_are_read_from_their_beginning(make: Make) -> None:
    topic = make(1)
    topic.write("BTCUSDT", range(3))
    follower = Follower(topic, 8, Start.latest())
    time.sleep(1)
    topic.grow(3)
    topic.write("ETHUSDT", range(4), partition=1)
    topic.write("SOLUSDT", range(4), partition=2)
    follower.end()
    assert follower.error is None
    assert ids(follower.records, "ETHUSDT") == [0, 1, 2, 3]
    assert ids(follower.records, "SOLUSDT") == [0, 1, 2, 3]


def test_an_id_is_found_where_its_symbol_lay_before_partitions_were_added(make: Make) -> None:
    topic = make(2)
    names = (f"A{number}USDT" for number in range(1000))
    symbol = next(one for one in names if (partition_of(one.encode(), 2), partition_of(one.encode(), 5)) == (1, 4))
    topic.write(symbol, range(20), partition=1)
    topic.write("BTCUSDT", range(9), partition=0)
    topic.grow(5)
    found = whole(topic, Start.at_id({symbol: 10}), symbols=[symbol])
    assert (ids(found, symbol), besides(found)) == (list(range(10, 20)), [])
    topic.write(symbol, range(20, 30), partition=4)
    found = whole(topic, Start.at_id({symbol: 15}), symbols=[symbol])
    assert sorted(one for one in ids(found, symbol) if one is not None) == list(range(15, 30))
    with topic.reader(Start.at_id({symbol: 25}), symbols=[symbol]) as reader:
        found = list(reader)
        position = position_of(reader)
    assert (ids(found, symbol), besides(found)) == (list(range(25, 30)), [])
    assert position["offsets"] == {"0": 9, "1": 20, "2": 0, "3": 0, "4": 10}
    assert whole(topic, Start.at_position(position), symbols=[symbol]) == []
    consumer = TopicConsumer(topic.bootstrap_servers, topic.name, {}, timeout=10.0)
    found_at = beginning(
        consumer, topic.name, TopicState(None, 5), Start.at_id({symbol: 25}), [symbol],
        lambda one: one.offset + (20 if one.partition == 4 else 0),
    )  # fmt: skip
    consumer.close()
    assert found_at == {0: 9, 1: 20, 2: 0, 3: 0, 4: 0}, "the others at their ends"


def test_a_position_after_a_start_at_a_later_time_is_the_end(make: Make) -> None:
    topic = make(2)
    topic.write("BTCUSDT", range(20))
    later = datetime(2200, 1, 1, tzinfo=UTC)
    consumer = TopicConsumer(topic.bootstrap_servers, topic.name, {}, timeout=10.0)
    assert consumer.at_time({0: consumer.bounds(0), 1: consumer.bounds(1)}, later) == {0: 20, 1: 0}
    consumer.close()
    with topic.reader(Start.at_time(later)) as reader:
        assert list(reader) == []
        position = position_of(reader)
    assert position["offsets"] == {"0": 20, "1": 0}
    topic.write("BTCUSDT", range(20, 23))
    assert ids(whole(topic, Start.at_position(position))) == [20, 21, 22]


def test_records_that_cannot_be_decoded_end_the_read_or_are_stated_and_passed(make: Make) -> None:
    topic = make(1)
    good = [topic.encoded(trade("BTCUSDT", one)) for one in range(3)]
    wrong = [b"", b"junk and more", b"\0\0\0\x27\x0f" + b"x" * 40, good[0][:20], good[0] + b"zz"]
    topic.put("BTCUSDT", [good[0], *wrong, *good[1:]])
    with topic.reader() as reader:
        records = iter(reader)
        assert isinstance(next(records), Trade)
        with pytest.raises(
            ReaderError, match=f"^{topic.name}, partition 0, offset 1: not a record in the Confluent wire"
        ):
            next(records)
        position = reader.position()
    assert position["offsets"] == {"0": 1}, "behind the last record that was read"
    found = whole(topic, Start.at_position(position), on_error="skip")
    assert ids(found) == [1, 2]
    assert [(type(one), one.partition, one.offset) for one in found[:5] if isinstance(one, Undecodable)] == [
        (Undecodable, 0, offset) for offset in range(1, 6)
    ]
    reasons = [one.reason for one in found if isinstance(one, Undecodable)]
    assert "has no schema 9999" in reasons[2]
    assert reasons[4].endswith("2 bytes follow the record that the schema describes")
    # Without an id they are passed by the search for one, too.
    assert ids(whole(topic, Start.at_id({"BTCUSDT": 2}), on_error="skip")) == [2]


def test_a_registry_that_is_away_ends_a_read_that_skips(make: Make) -> None:
    topic = make(1)
    topic.write("BTCUSDT", range(3))
    with (
        Reader(
            topic.name, bootstrap_servers=topic.bootstrap_servers, schema_registry_url="http://127.0.0.1:9",
            on_error="skip",
        ) as reader,
        pytest.raises(ReaderError, match=r"no answer from the schema registry http://127\.0\.0\.1:9"),
    ):  # fmt: skip
        list(reader)


def test_a_trade_of_a_later_schema_is_read(make: Make) -> None:
    topic = make(1)
    topic.write("BTCUSDT", range(3))
    field = {"name": "venue", "type": ["null", "string"], "default": None}
    later = {**SCHEMA, "fields": [*SCHEMA["fields"], field]}
    topic.put("BTCUSDT", [topic.encoded({**trade("BTCUSDT", 3), "venue": "x"}, later)])
    found = whole(topic)
    assert (ids(found), besides(found)) == ([0, 1, 2, 3], [])


def test_a_time_before_kafka_has_any_is_the_beginning(make: Make) -> None:
    topic = make(1)
    topic.write("BTCUSDT", range(5))
    for time_ in (datetime(1, 1, 1, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)):
        assert ids(whole(topic, Start.at_time(time_))) == [0, 1, 2, 3, 4]
