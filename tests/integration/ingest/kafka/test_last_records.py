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
from ingest.core.trade import Trade
from ingest.kafka import last_records, topics
from ingest.kafka.encoding import EARLIEST_US, TradeEncoder
from ingest.kafka.last_records import LastRecords, record_id
from tests.integration.ingest.kafka.writing import settings_for

_T = TypeVar("_T")
ASSETS = {"BTCUSDT": ("BTC", "USDT"), "币安人生USDT": ("币安人生", "USDT"), "X" * 60: ("X", "Y")}


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
    assert answered(lambda: search.find(frozenset({"BTCUSDT"}))) == {}
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": f"{topic}-other"})
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
    assert asyncio.run(search.last_recorded(wanted)) == {"BTCUSDT": 299, "币安人生USDT": 77}
    assert search.any()


@pytest.mark.integration
def test_a_search_that_runs_out_of_time_says_so(kafka: str, topic: str, caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_for(kafka, "blue", topic)
    topics.create(settings, partitions=1, replication_factor=1)
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(topic, encoded("BTCUSDT", 1), b"BTCUSDT")
    assert producer.flush(60) == 0
    assert LastRecords(settings, budget_seconds=0.0).find(frozenset({"BTCUSDT"})) == {}
    assert "was not read to its beginning" in caplog.text
