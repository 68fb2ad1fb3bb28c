"""The plain path, as the origin did it: one socket, json, Decimal, AvroSerializer, labels() and a callback per message.

The yardstick of the benchmark: no sequence, no transactions, no gap detection. Its tricks are left out on purpose, its
mistakes too (it polls, and a full queue is waited out instead of losing the trade).
"""

import argparse
import asyncio
import json
import ssl
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from prometheus_client import Counter, Histogram, start_http_server
from websockets.asyncio.client import connect

from ingest.kafka.schemas import trade_schema
from tests.campaigns.bench.frames import symbols

RECEIVED = Counter("plain_messages_received_total", "Frames received.", ["exchange", "symbol", "message_type"])
PRODUCED = Counter("plain_messages_produced_total", "Messages delivered.", ["exchange", "topic"])
ERRORS = Counter("plain_errors_total", "Messages not delivered.", ["exchange", "kind"])
SECONDS = Histogram("plain_produce_seconds", "From produce() to the report.", ["exchange", "topic"])

QUOTES = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "TRY", "EUR")


def split(symbol: str) -> tuple[str, str]:
    for quote in QUOTES:
        if symbol.endswith(quote):
            return symbol.removesuffix(quote), quote
    return symbol, ""


def convert(data: dict[str, Any]) -> dict[str, Any]:
    base, quote = split(data["s"])
    return {
        "message_id": str(uuid.uuid4()),
        "trade_id": f"BINANCE-{data['t']}",
        "symbol": data["s"],
        "exchange": "BINANCE",
        "asset_class": "crypto",
        "timestamp": data["T"],
        "price": Decimal(data["p"]).quantize(Decimal("0.00000001")),
        "quantity": Decimal(data["q"]).quantize(Decimal("0.00000001")),
        "currency": quote,
        "side": "SELL" if data["m"] else "BUY",
        "trade_conditions": [],
        "source_sequence": data["t"],
        "ingestion_timestamp": time.time_ns() // 1000,
        "platform_sequence": None,
        "vendor_data": {"base_asset": base, "quote_asset": quote},
    }


class PlainPath:
    def __init__(self, bootstrap_servers: str, registry_url: str, topic: str) -> None:
        self._topic = topic
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 10,
                "compression.type": "lz4",
                "queue.buffering.max.messages": 200_000,
            }
        )
        self._serialize = AvroSerializer(SchemaRegistryClient({"url": registry_url}), trade_schema())

    def _report(self, began: float) -> Callable[[KafkaError | None, Message], None]:
        def on_delivery(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                ERRORS.labels(exchange="binance", kind=error.name()).inc()
                return
            PRODUCED.labels(exchange="binance", topic=message.topic()).inc()
            SECONDS.labels(exchange="binance", topic=message.topic()).observe(time.perf_counter() - began)

        return on_delivery

    def on_message(self, text: str | bytes) -> None:
        data = json.loads(text)["data"]
        if data.get("e") != "trade":
            return
        RECEIVED.labels(exchange="binance", symbol=data["s"], message_type="trade").inc()
        value = self._serialize(convert(data), SerializationContext(self._topic, MessageField.VALUE))
        while True:
            try:
                self._producer.produce(
                    self._topic, key=data["s"].encode(), value=value, on_delivery=self._report(time.perf_counter())
                )
            except BufferError:
                self._producer.poll(0.01)
            else:
                break
        self._producer.poll(0)

    async def run(self, url: str, ca: Path | None) -> None:
        secure: dict[str, Any] = {"ssl": ssl.create_default_context(cafile=ca)} if ca is not None else {}
        async with connect(url, compression=None, max_queue=1024, ping_interval=None, proxy=None, **secure) as socket:
            polling = asyncio.get_running_loop().create_task(self._poll())
            try:
                async for text in socket:
                    self.on_message(text)
            finally:
                polling.cancel()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(0.01)
            self._producer.poll(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ws-url", required=True)
    parser.add_argument("--bootstrap-servers", required=True)
    parser.add_argument("--registry-url", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--symbols", type=int, default=300)
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--ready-file", type=Path, required=True)
    options = parser.parse_args()
    server, _ = start_http_server(0, addr="127.0.0.1")
    partial = options.ready_file.with_suffix(".partial")
    partial.write_text(json.dumps({"metrics_url": f"http://127.0.0.1:{server.server_port}"}))
    partial.replace(options.ready_file)
    streams = "/".join(f"{name.lower()}@trade" for name in symbols(options.symbols))
    path = PlainPath(options.bootstrap_servers, options.registry_url, options.topic)
    asyncio.run(path.run(f"{options.ws_url}/stream?streams={streams}&timeUnit=MICROSECOND", options.ca))


if __name__ == "__main__":
    main()
