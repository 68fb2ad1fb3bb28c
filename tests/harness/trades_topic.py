"""A topic of TradeV2 on the real Kafka that a test writes, cuts, grows, deletes and creates again."""

import io
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]

from ingest.reader import Reader, Start
from tests.harness.processes import http_json

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "ingest" / "kafka" / "trade_v2.avsc").read_text()
)
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def trade(symbol: str, trade_id: int) -> dict[str, Any]:
    """The fields of a record."""
    return {
        "message_id": f"{symbol}-{trade_id}", "trade_id": str(trade_id), "symbol": symbol, "exchange": "BINANCE",
        "asset_class": "crypto", "timestamp": NOW, "price": Decimal(1), "quantity": Decimal(1), "currency": "USDT",
        "side": "BUY", "trade_conditions": [], "source_sequence": trade_id, "ingestion_timestamp": NOW,
        "platform_sequence": None, "vendor_data": None,
    }  # fmt: skip


class TradesTopic:
    """One topic; offsets count its records, unless they are written in a transaction."""

    def __init__(self, name: str, bootstrap_servers: str, registry_url: str, *, partitions: int = 1) -> None:
        self.name = name
        self.bootstrap_servers = bootstrap_servers
        self._registry_url = registry_url
        self._admin = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
        self._create(NewTopic(f"{name}.positions", 1, 1))
        self.create(partitions)

    def create(self, partitions: int = 1) -> None:
        """Create it."""
        self._create(NewTopic(self.name, partitions, 1))

    def _create(self, topic: NewTopic) -> None:
        for future in self._admin.create_topics([topic]).values():
            future.result(30)

    def delete(self) -> None:
        """Delete it with all records."""
        for future in self._admin.delete_topics([self.name]).values():
            future.result(30)

    def grow(self, partitions: int) -> None:
        """Raise the number of its partitions."""
        for future in self._admin.create_partitions([NewPartitions(self.name, partitions)]).values():
            future.result(30)

    def cut(self, partition: int, first: int) -> None:
        """Delete what is before an offset, as retention does; -1: everything."""
        for future in self._admin.delete_records([TopicPartition(self.name, partition, first)]).values():
            future.result(30)

    def encoded(self, fields: Mapping[str, Any], schema: Mapping[str, Any] = SCHEMA) -> bytes:
        """The value of a record, after its schema is registered."""
        url = f"{self._registry_url}/subjects/{self.name}-value/versions"
        answer = http_json(url, method="POST", body={"schema": json.dumps(schema)})
        body = io.BytesIO()
        fastavro.schemaless_writer(body, fastavro.parse_schema(dict(schema), named_schemas={}), fields)
        return b"\0" + int(answer["id"]).to_bytes(4, "big") + body.getvalue()

    def write(self, symbol: str, ids: Iterable[int], *, partition: int = 0, transaction: bool = False) -> None:
        """Append trades of a symbol, in batches of ten at most."""
        self.put(symbol, [self.encoded(trade(symbol, one)) for one in ids], partition, transaction=transaction)

    def put(self, key: str, values: Iterable[bytes], partition: int = 0, *, transaction: bool = False) -> None:
        """Append values as they are."""
        config: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap_servers, "log_level": 0, "batch.num.messages": 10, "linger.ms": 1,
            "topic.metadata.refresh.interval.ms": 500,
        }  # fmt: skip
        producer = Producer({**config, "transactional.id": self.name} if transaction else config)
        if transaction:
            producer.init_transactions(30)
            producer.begin_transaction()
        for value in values:
            producer.produce(self.name, key=key.encode(), value=value, partition=partition)
        assert producer.flush(30) == 0
        if transaction:
            producer.commit_transaction(30)

    def reader(self, start: Start | None = None, **options: Any) -> Reader:
        """A reader of this topic."""
        return Reader(
            self.name, start=start, bootstrap_servers=self.bootstrap_servers, schema_registry_url=self._registry_url,
            **{"timeout": 10.0, **options},
        )  # fmt: skip
