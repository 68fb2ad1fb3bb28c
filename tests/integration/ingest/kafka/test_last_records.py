"""The last record of a symbol in the trades topic."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.errors import Retry
from ingest.core.market_events import BookSnapshot, Break, DepthUpdate, Quote
from ingest.core.streams import STREAMS
from ingest.core.trade import Trade
from ingest.kafka import last_records, topics
from ingest.kafka.encoding import EARLIEST_US, TradeEncoder
from ingest.kafka.last_records import Found, LastRecords, last_id_of, record_id
from ingest.kafka.placing import partition_of, places
from ingest.kafka.stream_encoding import BookEncoder, QuoteEncoder
from tests.integration.ingest.kafka.writing import settings_for

_T = TypeVar("_T")
ASSETS = {"BTCUSDT": ("BTC", "USDT"), "币安人生USDT": ("币安人生", "USDT"), "X" * 60: ("X", "Y")}

OTHER = "X" * 60


def answered(ask: Callable[[], _T]) -> _T:
    """Ask again as the writer does: right after its creation a topic may have no leader yet."""
    for _ in range(60):
        try:
            return ask()
        except Retry:
            time.sleep(1.0)
    return ask()


def encoded(symbol: str, trade_id: int, schema_id: int = 1) -> bytes:
    trade = Trade(symbol, trade_id, "1.00000000", "2.00000000", EARLIEST_US, buyer_is_maker=True)
    return TradeEncoder(schema_id, ASSETS).encode(trade, EARLIEST_US)


@given(symbol=st.sampled_from(sorted(ASSETS)), trade_id=st.integers(0, 2**63 - 1), schema_id=st.integers(1, 2**31 - 1))
def test_the_id_of_any_record_is_read_back(symbol: str, trade_id: int, schema_id: int) -> None:
    assert record_id(symbol, encoded(symbol, trade_id, schema_id)) == trade_id


@given(number=st.integers(1, 2**62))
def test_the_last_id_that_books_and_quotes_account_for_is_read_back(number: int) -> None:
    lost = Break("BTCUSDT", number - 1, number + 5, 1, 2, "connection", "{}")
    book, quote = BookEncoder(1, ASSETS), QuoteEncoder(1, ASSETS)
    depth = DepthUpdate("BTCUSDT", number, number, EARLIEST_US, [], [])
    assert last_id_of("BTCUSDT", book.encode(depth, EARLIEST_US), STREAMS["depth"]) == number
    assert last_id_of("BTCUSDT", book.encode_break(lost, EARLIEST_US), STREAMS["depth"]) == number + 4
    snapshot = book.encode_snapshot("BTCUSDT", BookSnapshot(number, [], []), EARLIEST_US)
    assert last_id_of("BTCUSDT", snapshot, STREAMS["depth"]) is None
    top = Quote("BTCUSDT", number, "1", "1", "2", "1")
    assert last_id_of("BTCUSDT", quote.encode(top, EARLIEST_US), STREAMS["bookTicker"]) == number
    assert last_id_of("BTCUSDT", quote.encode_break(lost, EARLIEST_US), STREAMS["bookTicker"]) == number + 4
    assert last_id_of("ETHUSDT", quote.encode(top, EARLIEST_US), STREAMS["bookTicker"]) is None
    assert last_id_of("BTCUSDT", encoded("BTCUSDT", number), STREAMS["trade"]) == number


@pytest.mark.parametrize("value", [b"", b"BINANCE-BTCUSDT-1", b"\x00\x00\x00\x00\x01", b"\x22BINANCE-BTCUSDT-x"])
def test_anything_else_has_no_id(value: bytes) -> None:
    assert record_id("BTCUSDT", value) is None
    assert record_id("BTCUSD", encoded("BTCUSDT", 7)) is None


@pytest.mark.integration
def test_the_last_records_are_found_from_the_end(kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_records, "WINDOW", 10)
    settings = settings_for(kafka, "blue", topic)
    topics.create(settings, partitions=3, replication_factor=1)
    search = LastRecords(settings)
    assert not answered(search.any)
    assert answered(lambda: search.find(frozenset({"BTCUSDT"}))) == Found({})
    producer = Producer(
        {"bootstrap.servers": kafka, "transactional.id": f"{topic}-other", "partitioner": "murmur2_random"}
    )
    producer.init_transactions(60)
    for number in range(1, 301):
        producer.begin_transaction()
        producer.produce(topic, encoded("BTCUSDT", number), b"BTCUSDT")
        if number == 5:
            producer.produce(topic, encoded("币安人生USDT", 77), "币安人生USDT".encode())
        producer.flush(60)
        if number == 300:
            producer.abort_transaction(60)
        else:
            producer.commit_transaction(60)
    wanted = ["BTCUSDT", "币安人生USDT", "X" * 60, "NEVERUSDT"]
    assert asyncio.run(search.last_recorded(wanted)) == Found({"BTCUSDT": 299, "币安人生USDT": 77})
    assert search.any()


def filled(kafka: str, topic: str, records: list[tuple[str, int, int]]) -> None:
    """Write (symbol, trade id, partition)."""
    producer = Producer({"bootstrap.servers": kafka})
    for symbol, trade_id, partition in records:
        producer.produce(topic, encoded(symbol, trade_id), symbol.encode(), partition)
    assert producer.flush(60) == 0


@pytest.mark.integration
def test_a_search_that_runs_out_of_time_says_so_and_goes_on(
    kafka: str, topic: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(kafka, "blue", topic)
    topics.create(settings, partitions=1, replication_factor=1)
    filled(kafka, topic, [("币安人生USDT", 77, 0), *(("BTCUSDT", number, 0) for number in range(1, 400))])
    wanted = frozenset({"BTCUSDT", "币安人生USDT", "NEVERUSDT"})
    assert answered(lambda: LastRecords(settings, budget_seconds=0.0).find(wanted)) == Found({}, wanted)
    assert "is not read to its beginning yet" in caplog.text
    monkeypatch.setattr(last_records, "WINDOW", 100)
    monkeypatch.setattr(last_records, "WIDEST", 100)
    ticks = iter(range(10**6))
    # A clock that ticks when it is asked: each search has time for a few polls.
    search = LastRecords(settings, budget_seconds=4.0, monotonic=lambda: float(next(ticks)))
    answers = [search.find(wanted)]
    while answers[-1].unfinished and len(answers) < 60:
        left = answers[-1].unfinished
        answers.append(search.find(left))
    assert len(answers) > 1
    assert {name: last for one in answers for name, last in one.last_ids.items()} == {
        "BTCUSDT": 399,
        "币安人生USDT": 77,
    }
    assert not answers[-1].unfinished


@pytest.mark.integration
def test_a_symbol_is_looked_for_where_its_key_lies_and_lay(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition that cannot be read to its beginning says nothing about the symbols of another one."""
    settings = settings_for(kafka, "blue", topic)
    topics.create(settings, partitions=3, replication_factor=1)
    home = partition_of(b"BTCUSDT", 3)
    before = next(one for one in places(OTHER.encode(), 3) if one != partition_of(OTHER.encode(), 3))
    filled(kafka, topic, [("BTCUSDT", 5, home), (OTHER, 7, before)])
    searched: list[int] = []
    window = LastRecords._window

    def noted(self: LastRecords, consumer: object, partition: int, *rest: object) -> dict[str, int] | None:
        searched.append(partition)
        return window(self, consumer, partition, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(LastRecords, "_window", noted)
    assert answered(lambda: LastRecords(settings).find(frozenset({"BTCUSDT"}))) == Found({"BTCUSDT": 5})
    assert searched == [home]
    assert LastRecords(settings).find(frozenset({OTHER})) == Found({OTHER: 7})


@pytest.mark.integration
def test_what_is_older_than_a_symbol_is_not_read_for_it(
    kafka: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(kafka, "blue", topic)
    topics.create(settings, partitions=1, replication_factor=1)
    filled(kafka, topic, [("BTCUSDT", 5, 0)])
    now_us = time.time_ns() // 1000
    search = LastRecords(settings, budget_seconds=0.0)
    listed = {"NEWUSDT": now_us + 2 * 3_600_000_000}
    assert answered(lambda: search.find(frozenset(listed), listed)) == Found({})
    assert search.find(frozenset(listed), {"NEWUSDT": now_us}).unfinished == listed.keys()
