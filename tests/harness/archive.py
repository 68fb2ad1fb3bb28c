"""Days of trades with known truth: generated into the simulator's ledger, written to a real Kafka, served as files."""

import json
import random
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Context
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan

from ingest.core.trade import Position, Trade, Void
from ingest.kafka.encoding import TradeEncoder
from ingest.kafka.positions import WriterRecord, position_record, void_record, writer_record
from ingest.simulator.daily_files import FileFault
from ingest.simulator.ledger import Ledger, SymbolLedger, decimal
from ingest.simulator.rest import RestApi
from ingest_ops.archive.day import Archive
from ingest_ops.archive.settings import ArchiveSettings
from tests.harness import loopback

DAY_US = 86_400_000_000
SCHEMA = Path(__file__).resolve().parents[2] / "ingest" / "kafka" / "trade_v2.avsc"
Change = Callable[[list[tuple[str, bytes, int]]], list[tuple[str, bytes, int]]]
"""Changes what is written to the topic: symbol, value, time of the record in milliseconds."""


def midnight(day: date) -> int:
    """The first microsecond of a UTC day."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1_000_000


@dataclass
class GeneratedMarket:
    """Symbols, their trades and voids; what was published so far."""

    seed: int = 1
    now_us: int = 0
    ledger: Ledger = field(default_factory=Ledger)
    reasons: dict[tuple[str, int], str] = field(default_factory=dict)
    _published: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.rest = RestApi(self.ledger, now_us=lambda: self.now_us, weight_limit=10**9)

    def listed(self, symbol: str, first_id: int, *, quote: str = "USDT") -> SymbolLedger:
        """List a symbol."""
        return self.ledger.add(symbol, symbol.removesuffix(quote), quote, first_id)

    def trade(self, symbol: str, time_us: int) -> int:
        """One trade at a time; returns its id."""
        rng = self.random
        price, quantity = rng.randint(1, 10**13), rng.randint(1, 10 ** rng.randint(3, 14))
        self.now_us = max(self.now_us, time_us)
        return self.ledger.symbols[symbol].append(price, quantity, time_us, rng.random() < 0.5)

    def fill(self, symbol: str, day: date, trades: int, *, voids: int = 0) -> None:
        """Trades of a day, at random times, with voids between them."""
        start = midnight(day)
        times = sorted(start + self.random.randrange(DAY_US) for _ in range(trades))
        holes = set(self.random.sample(range(1, trades), min(voids, trades - 1))) if trades > 1 else set()
        for place, time_us in enumerate(times):
            if place in holes:
                self.void(symbol, self.random.randint(1, 5))
            self.trade(symbol, time_us)

    def void(self, symbol: str, count: int, reason: str = "exchange_hole") -> tuple[int, int]:
        """Ids that exist nowhere."""
        first, last = self.ledger.symbols[symbol].void(count)
        self.reasons[symbol, first] = reason
        return first, last

    def rows(self, symbol: str, day: date) -> list[tuple[int, int, int, int, bool]]:
        """The truth: id, price, quantity, time, buyer is maker."""
        start = midnight(day)
        return [row for row in self.ledger.all_symbols[symbol].rows(0, 10**9) if start <= row[3] < start + DAY_US]

    def fault(self, form: str, symbol: str | None = None, calls: int = -1) -> None:
        """Serve daily files wrongly."""
        self.rest.daily_files.faults.append(FileFault(form, symbol, calls))

    def values(self, schema_id: int) -> list[tuple[str, bytes, int]]:
        """Records of what was not published yet, as the service writes them, symbols interleaved by time."""
        symbols = self.ledger.all_symbols
        encoder = TradeEncoder(schema_id, {name: (one.base_asset, one.quote_asset) for name, one in symbols.items()})
        made = []
        for name, one in symbols.items():
            for number, price, quantity, time_us, maker in one.rows(self._published.get(name, 0), 10**9):
                trade = Trade(name, number, decimal(price), decimal(quantity), time_us, maker)
                made.append((name, encoder.encode(trade, time_us + 20_000), time_us // 1000 + 50))
            self._published[name] = one.next_id
        return sorted(made, key=lambda each: each[2])  # stable: a symbol's own order stays

    def positions(self) -> list[tuple[bytes, bytes]]:
        """Records of the positions topic, as the service leaves them."""
        made = []
        for name, one in self.ledger.all_symbols.items():
            newest = one.newest(1)
            last_time = newest[0][3] if newest else None
            position = Position(one.first_id, one.last_id, one.sent_trades, last_time)
            made.append(position_record(name, position))
            for first, last in one.voids:
                reason: Any = self.reasons.get((name, first), "exchange_hole")
                made.append(void_record(Void(name, first, last, reason, {}), self.now_us))
        made.append(writer_record(WriterRecord(1, "blue", None, self.now_us, 1)))
        return made


@dataclass
class Published:
    """A topic with what a market traded."""

    market: GeneratedMarket
    bootstrap_servers: str
    registry_url: str
    topic: str = field(default_factory=lambda: f"t-{uuid.uuid4().hex[:8]}")
    partitions: int = 3
    _producer: Producer | None = None

    def create(self) -> None:
        """Create both topics; records are as old as the days that they are of, so that nothing may expire."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers})
        config = {"retention.ms": "-1"}
        wanted = [
            NewTopic(self.topic, self.partitions, 1, config=config),
            NewTopic(f"{self.topic}.positions", 1, 1, config={"cleanup.policy": "compact"}),
        ]
        for made in admin.create_topics(wanted).values():
            made.result(60)

    def schema_id(self) -> int:
        """Register the schema."""
        request = urllib.request.Request(  # noqa: S310 - a registry of the tests
            f"{self.registry_url}/subjects/{self.topic}-value/versions",
            data=json.dumps({"schema": SCHEMA.read_text()}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with loopback.urlopen(request, timeout=30) as answer:
            return int(json.load(answer)["id"])

    def publish(self, change: Change = lambda values: values, *, per_transaction: int = 5_000) -> None:
        """Write what is new, in transactions, trades and then positions."""
        if self._producer is None:
            self.create()
            self._producer = Producer({
                "bootstrap.servers": self.bootstrap_servers, "transactional.id": self.topic,
                "queue.buffering.max.messages": 2_000_000, "linger.ms": 5, "log_level": 0,
                "partitioner": "murmur2_random",
            })  # fmt: skip
            self._producer.init_transactions(60)
        values = change(self.market.values(self.schema_id()))
        for at in range(0, len(values), per_transaction):
            self._transaction([(self.topic, *one) for one in values[at : at + per_transaction]])
        positions = [
            (f"{self.topic}.positions", key.decode(), value, self.market.now_us // 1000)
            for key, value in self.market.positions()
        ]
        self._transaction(positions)

    def commit(self, values: list[tuple[str, bytes, int]]) -> None:
        """Write records besides what the market traded."""
        self._transaction([(self.topic, *one) for one in values])

    def abort(self, values: list[tuple[str, bytes, int]]) -> None:
        """Write records that no reader of committed records may see."""
        self._transaction([(self.topic, *one) for one in values], commit=False)

    def _transaction(self, records: list[tuple[str, str, bytes, int]], *, commit: bool = True) -> None:
        assert self._producer is not None
        self._producer.begin_transaction()
        for topic, key, value, time_ms in records:
            self._producer.produce(topic, value, key.encode(), timestamp=time_ms)
            self._producer.poll(0)
        if commit:
            self._producer.commit_transaction(60)
        else:
            self._producer.flush(60)
            self._producer.abort_transaction(60)


@contextmanager
def served(market: GeneratedMarket) -> Iterator[str]:
    """REST API and daily files of a market; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            answer = market.rest.handle("GET", path, query, dict(self.headers.items()), "127.0.0.1")
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="exchange", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def table_rows(archive: Archive, day: date) -> dict[str, list[tuple[int, int, int, int, bool]]]:
    """What PyIceberg reads of a day: symbol -> rows as the ledger has them, in the order of the table."""
    start = datetime.fromtimestamp(midnight(day) / 1e6, UTC)
    end = datetime.fromtimestamp((midnight(day) + DAY_US) / 1e6, UTC)
    within = And(GreaterThanOrEqual("timestamp", start.isoformat()), LessThan("timestamp", end.isoformat()))
    return _by_symbol(archive.table.table.scan(row_filter=within).to_arrow())


def duckdb_rows(archive: Archive, day: date) -> dict[str, list[tuple[int, int, int, int, bool]]]:
    """What DuckDB reads of the day's files."""
    files = [one.removeprefix("file://") for one in archive.table.files(day)]
    if not files:
        return {}
    query = "SELECT * FROM read_parquet($files) ORDER BY symbol, trade_id"
    with duckdb.connect() as connection:
        return _by_symbol(connection.sql(query, params={"files": files}).to_arrow_table())


def _by_symbol(table: Any) -> dict[str, list[tuple[int, int, int, int, bool]]]:
    found: dict[str, list[tuple[int, int, int, int, bool]]] = {}
    names = ("symbol", "trade_id", "price", "quantity", "timestamp", "side")
    for row in zip(*(table.column(name).to_pylist() for name in names), strict=True):
        symbol, number, price, quantity, time, side = row
        micros = round((time - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))
        exact = Context(prec=76)
        units = [int(one.scaleb(8, exact)) for one in (price, quantity)]
        found.setdefault(symbol, []).append((number, units[0], units[1], micros, side == "SELL"))
    return found


def settings_for(published: Published, exchange_url: str, folder: Path, **others: Any) -> ArchiveSettings:
    """Settings of an archive in a folder."""
    return ArchiveSettings(**{
        "warehouse": str(folder / "archive"),
        "work": folder / "work",
        "bootstrap_servers": published.bootstrap_servers,
        "topic": published.topic,
        "schema_registry_url": published.registry_url,
        "rest_url": exchange_url,
        "files_url": exchange_url,
        **others,
    })  # fmt: skip
