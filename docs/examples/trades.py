"""Reads the trades topic the safe way: committed transactions alone, decoded with the schema that wrote them."""

import argparse
import io
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition


def options(description: str) -> argparse.ArgumentParser:
    """The options that every example has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bootstrap-servers", default="localhost:9092")
    parser.add_argument("--schema-registry-url", default="http://localhost:8081")
    parser.add_argument("--topic", default="market.crypto.trades.binance")
    return parser


def records(arguments: argparse.Namespace, topic: str) -> Iterator[tuple[bytes, bytes]]:
    """Key and value of everything that is in a topic now, each partition in its order."""
    consumer = Consumer(
        {
            "bootstrap.servers": arguments.bootstrap_servers,
            "group.id": "example",  # demanded by the library; no offset is stored
            "enable.auto.commit": False,
            "isolation.level": "read_committed",  # without it aborted transactions are seen, too
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    try:
        partitions = [
            TopicPartition(topic, n) for n in consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ]
        if not partitions:
            raise SystemExit(f"no topic {topic} at {arguments.bootstrap_servers}: `ingest topics` creates it")
        ends = {one.partition: consumer.get_watermark_offsets(one, timeout=10)[1] for one in partitions}
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in ends])
        while ends:  # the topic may grow faster than it is read: what comes after now is left
            message = consumer.poll(10)
            if message is None:
                raise SystemExit(f"no answer from {arguments.bootstrap_servers} for 10 s")
            error, partition, offset = message.error(), message.partition(), message.offset()
            if error is None:
                if offset < ends.get(partition, 0):
                    yield message.key() or b"", message.value() or b""
                if offset >= ends.get(partition, 0) - 1:
                    ends.pop(partition, None)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends.pop(partition, None)
            else:
                raise SystemExit(f"{topic}: {error.str()}")
    except KafkaException as error:
        raise SystemExit(f"no answer from {arguments.bootstrap_servers}: {error.args[0].str()}") from error
    finally:
        consumer.close()


def trades(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every trade until now; a symbol's trades come in the order of their ids."""
    schemas: dict[int, Any] = {}
    for _, value in records(arguments, arguments.topic):
        schema_id = int.from_bytes(value[1:5], "big")  # Confluent wire format: 0x00, schema id, Avro body
        if schema_id not in schemas:
            url = f"{arguments.schema_registry_url}/schemas/ids/{schema_id}"
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - the registry that we were given
                schemas[schema_id] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        trade: Any = fastavro.schemaless_reader(io.BytesIO(value[5:]), schemas[schema_id], None)
        yield trade
