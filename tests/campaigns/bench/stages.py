"""The hot path, stage by stage: each prepares what it needs and then works on so many trades.

A stage is a generator: it yields once it is prepared and after each part of its work, and gets the number of trades of
the next part at each yield. ``instructions`` counts between the yields; the profiler only lets them run.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator
from typing import Any

from ingest.binance.connection import Connection
from ingest.binance.messages import decode
from ingest.binance.transport import opener
from ingest.core.batch import Batch
from ingest.core.pending_batches import PendingBatches
from ingest.core.sequence import Sequencer
from ingest.core.trade import Position, Trade
from ingest.kafka.encoding import TradeEncoder
from ingest.kafka.positions import ShardState
from ingest.kafka.producer import TransactionalProducer
from ingest.kafka.transactional_writer import TransactionalWriter
from ingest.metrics import Metrics
from ingest.service.pipeline import Pipeline
from ingest.settings import BinanceSettings, KafkaSettings, Settings
from tests.campaigns.bench.frames import BASE_ID, NOW_US, Market, assets, payloads, symbols

SYMBOLS = 100
PER_READ = 60
"""Trades that one wake-up of the loop brings: what 32 KiB hold of frames with headers, a third of that read."""
PER_BATCH = 5000
READ_BYTES = 32_768

Stage = Generator[None, int, None]


def _market(count: int) -> list[bytes]:
    return payloads(symbols(SYMBOLS), count)


def _trades(count: int) -> list[Trade]:
    return [trade for trade in map(decode, _market(count)) if isinstance(trade, Trade)]


def reference(_: int) -> Stage:
    """No work of ours: what this interpreter needs for a fixed piece of pure Python."""
    count = yield
    while True:
        for number in range(count):
            text = b"%d.%08d" % (number, number)
            parts = {key: value for key, value in zip("abcdefgh", text, strict=False) if value}
            total = sum(parts.values())
            if total < 0:
                return
            for value in parts.values():
                total = total * 31 + value & 0xFFFF
        count = yield


def decoding(most: int) -> Stage:
    """Frame bytes to ``Trade``."""
    frames = iter(_market(most))
    count = yield
    while True:
        for _ in range(count):
            decode(next(frames))
        count = yield


class _Counted:
    trades = 0

    def on_trades(self, connection: str, trades: list[Trade]) -> None:
        self.trades += len(trades)

    def on_rejected(self, connection: str, raw: bytes, error: Exception) -> None:
        raise error


def connecting(most: int) -> Stage:
    """What a connection does with frames besides receiving them: decoding, tracking, handing on."""
    frames = _market(most)
    sink = _Counted()

    async def make() -> Connection:
        never_opened: Any = None
        connection = Connection(
            "g0a", never_opened, BinanceSettings(), Metrics(process=False), sink, time,
            desired_symbols=list, on_trouble=lambda _connection, _trouble: None,
        )  # fmt: skip
        connection._requested.update(symbols(SYMBOLS))  # else its trades are dropped
        return connection

    with asyncio.Runner() as runner:
        connection = runner.run(make())
        at = 0
        count = yield
        while True:
            for start in range(at, at + count, PER_READ):
                connection._on_frames(frames[start : start + PER_READ])
            at += count
            if sink.trades != at:
                raise RuntimeError(f"{sink.trades} of {at} trades were handed on")
            count = yield


def _released(trade: Trade, symbol: str, trade_id: int) -> None:
    """What comes behind the sequencer, at no cost."""


def sequencing(most: int) -> Stage:
    """In order, duplicate or beyond a hole: here all in order."""
    trades = _trades(most)
    sequencer = Sequencer(accept=_released, full=bool, mismatch=lambda _: None, limit=most)
    for symbol in symbols(SYMBOLS):
        sequencer.add(symbol)
    sequencer.activate(dict.fromkeys(symbols(SYMBOLS), BASE_ID), 0.0)
    at = 0
    count = yield
    while True:
        for start in range(at, at + count, PER_READ):
            sequencer.process(trades[start : start + PER_READ], 1.0)
        at += count
        count = yield


def encoding(most: int) -> Stage:
    """``Trade`` to the record's bytes."""
    trades = iter(_trades(most))
    encoder = TradeEncoder(1, assets(symbols(SYMBOLS)))
    count = yield
    while True:
        for number in range(count):
            encoder.encode(next(trades), NOW_US + number // PER_READ)
        count = yield


def queueing(most: int) -> Stage:
    """Into a batch, out as a batch, acknowledged."""
    outbox = PendingBatches(limit=10 * most, batch_records=PER_BATCH)
    record = ("BTCUSDT", 1, b"")
    count = yield
    while True:
        for _ in range(count):
            outbox.add(record, NOW_US)
        while (batch := outbox.take()) is not None:
            outbox.acknowledge(batch)
        count = yield


def make_pipeline(most: int) -> Pipeline:
    """A pipeline that writes, at the beginning of the market."""
    names = symbols(SYMBOLS)
    now = iter(range(NOW_US * 1000, 1 << 62, 1_000_000))
    pipeline = Pipeline(
        encoder=TradeEncoder(1, assets(names)),
        metrics=Metrics(process=False),
        max_trades=4 * most,
        batch_records=PER_BATCH,
        jump_limit=1_000_000,
        dead_letter_max_bytes=1000,
        monotonic=lambda: 1.0,
        time_ns=now.__next__,
    )
    for name in names:
        pipeline.sequencer.add(name)
    pipeline.activate({name: Position(0, BASE_ID - 1, 1) for name in names})
    return pipeline


def pipelining(most: int) -> Stage:
    """From a connection to acknowledged batches: sequencing, encoding, queueing, metrics."""
    trades = _trades(most)
    pipeline = make_pipeline(most)
    at = 0
    count = yield
    while True:
        for start in range(at, at + count, PER_READ):
            pipeline.on_trades("g0a", trades[start : start + PER_READ])
        at += count
        while (batch := pipeline.outbox.take()) is not None:
            pipeline.acknowledge(batch, dict.fromkeys(symbols(SYMBOLS), len(batch.records) // SYMBOLS))
        pipeline.publish()
        count = yield


class _Library:
    """What remains of librdkafka when it costs nothing."""

    produce = "".format

    def poll(self, _seconds: float) -> int:
        return 0

    flush = poll

    def begin_transaction(self) -> None:
        pass

    def commit_transaction(self, _seconds: float) -> None:
        pass


class _Broker:
    def __init__(self, incarnation: TransactionalProducer) -> None:
        self._incarnation = incarnation

    def open(self) -> TransactionalProducer:
        return self._incarnation

    def read_state(self) -> ShardState:
        return ShardState({}, 1, None)

    def unfinished(self) -> bool:
        return False

    def partitions(self) -> int | None:
        return None

    def recorded_from(self, partition: int, before_ms: int) -> bool:
        del partition, before_ms
        return False

    def send_dead_letters(self, letters: list[Any]) -> None:
        raise AssertionError(letters)

    def wait(self, seconds: float) -> bool:
        return False


def writing(most: int) -> Stage:
    """A batch through the writer: the last check, the messages of the transaction, the calls of the library."""
    settings = Settings(kafka=KafkaSettings(bootstrap_servers="127.0.0.1:1"))
    incarnation = TransactionalProducer(settings, interrupted=lambda: False, monotonic=lambda: 0.0)
    incarnation._producer = _Library()  # type: ignore[assignment]
    shard = TransactionalWriter(
        _Broker(incarnation), topic="t", positions_topic="p", shard=0, instance="bench",
        monotonic=lambda: 0.0, time_ns=lambda: 0,
    )  # fmt: skip
    shard._producer = incarnation
    encoder = TradeEncoder(1, assets(symbols(SYMBOLS)))
    records = [(t.symbol, t.trade_id, encoder.encode(t, NOW_US)) for t in _trades(most)]
    at = 0
    count = yield
    while True:
        for start in range(at, at + count, PER_BATCH):
            shard.write(Batch(records=records[start : min(start + PER_BATCH, at + count)]))
        at += count
        count = yield


class _Enough(Exception):
    pass


def receiving(transport: str, source: dict[str, str]) -> Callable[[int], Stage]:
    """Bytes of a socket to messages by a transport's client; ``source`` is the ready file of ``bench.source``.

    The handshake is real. What follows is given to the client in reads of always the same size: how much a socket has
    at a time is chance, and costs more instructions than a change of the code.
    """

    def stage(most: int) -> Stage:
        """Bytes of a socket to messages."""
        settings = BinanceSettings(websocket_url=source["ws_url"], transport=transport)  # type: ignore[arg-type]
        stream = Market(symbols(SYMBOLS)).take(most, NOW_US)
        received = 0

        def deliver(messages: list[bytes]) -> None:
            nonlocal received
            received += len(messages)

        async def make() -> Any:
            return await opener(settings, Metrics(process=False), None).open(f"{source['ws_url']}/stream")

        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            socket = runner.run(make())
            pump = loop.create_task(socket.pump(deliver))
            loop.call_soon(loop.stop)
            loop.run_forever()
            feed = _reader(socket)
            at = 0
            count = yield
            while True:
                received = 0
                data = b"".join([frame for _, frame in stream[at : at + count]])
                for start in range(0, len(data), READ_BYTES):
                    feed(data[start : start + READ_BYTES])
                if received != count:
                    raise RuntimeError(f"{received} of {count} messages")
                at += count
                try:
                    count = yield
                except GeneratorExit:
                    socket.abort()
                    with contextlib.suppress(asyncio.CancelledError):
                        loop.run_until_complete(pump)
                    raise

    return stage


def _reader(socket: Any) -> Callable[[bytes], None]:
    """What the event loop calls with what it has read."""
    if hasattr(socket, "_connection"):
        read: Callable[[bytes], None] = socket._connection.data_received
        return read
    protocol = socket._transport.underlying_transport.get_protocol()

    def into_buffer(data: bytes) -> None:
        while data:
            buffer = protocol.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            protocol.buffer_updated(size)
            data = data[size:]

    return into_buffer
