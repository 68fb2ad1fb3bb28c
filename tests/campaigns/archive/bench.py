"""``make archive-bench``: how fast a day goes from the topic to the table, in how much memory, without comparison."""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from confluent_kafka import Producer

from ingest.core.trade import Position, Trade
from ingest.kafka.encoding import TradeEncoder
from ingest.kafka.positions import WriterRecord, position_record, writer_record
from ingest_ops.archive.day import archive_day
from ingest_ops.archive.settings import ArchiveSettings
from tests.campaigns.archive.killed import read, written
from tests.harness.archive import DAY_US, GeneratedMarket, Published, midnight
from tests.harness.kafka import KafkaBroker
from tests.harness.processes import ROOT, inherited
from tests.harness.registry import Registry

DAY = date(2026, 1, 15)
FIRST_ID = 5_000_000_000
PER_TRANSACTION = 200_000
PARTITIONS = 8


def main() -> int:
    """Fill a topic, archive the day in a process of its own, print the figures."""
    if sys.argv[1:2] == ["run"]:
        return _run(Path(sys.argv[2]))
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.archive.bench", description=__doc__)
    parser.add_argument("--trades", type=int, default=2_000_000)
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--folder", help="where to keep the topic and the archive meanwhile (default: the system's)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="archive-bench-", dir=options.folder) as name, Registry() as registry:
        folder = Path(name)
        broker = KafkaBroker(folder / "kafka")
        broker.start()
        try:
            published = Published(GeneratedMarket(), broker.bootstrap_servers, registry.url, partitions=PARTITIONS)
            seconds = fill(published, options.trades, options.symbols)
            _say(f"topic filled: {options.trades:,} trades of {options.symbols} symbols in {seconds:.0f} s")
            settings = ArchiveSettings(
                warehouse=str(folder / "archive"), work=folder / "work", topic=published.topic, files_url="",
                bootstrap_servers=broker.bootstrap_servers, schema_registry_url=registry.url, rest_url="",
            )  # fmt: skip
            return _measured(settings, folder, options.trades)
        finally:
            broker.stop()


def fill(published: Published, trades: int, symbols: int) -> float:
    """Write a day of trades, evenly over symbols and time, and one trade of each symbol before and after it."""
    published.create()
    names = [f"C{number:04d}USDT" for number in range(symbols)]
    encoder = TradeEncoder(published.schema_id(), {name: (name.removesuffix("USDT"), "USDT") for name in names})
    producer = Producer({
        "bootstrap.servers": published.bootstrap_servers, "transactional.id": published.topic, "linger.ms": 20,
        "queue.buffering.max.messages": 2 * PER_TRANSACTION, "compression.type": "lz4", "log_level": 0,
        "batch.size": 1_000_000, "partitioner": "murmur2_random",
    })  # fmt: skip
    producer.init_transactions(120)
    began, start = time.monotonic(), midnight(DAY)
    total = trades + 2 * symbols
    step = DAY_US / trades
    producer.begin_transaction()
    for number in range(total):
        time_us = start + int((number - symbols) * step)
        name, place = names[number % symbols], number // symbols
        price, quantity = f"{place % 7 + 97_000}.45000000", f"0.{number % 9973:08d}"
        trade = Trade(name, FIRST_ID + place, price, quantity, time_us, number % 3 == 0)
        value = encoder.encode(trade, time_us + 20_000)
        producer.produce(published.topic, value, name, timestamp=time_us // 1000)
        if number % 1000 == 0:
            producer.poll(0)
        if number % PER_TRANSACTION == PER_TRANSACTION - 1:
            producer.commit_transaction(300)
            producer.begin_transaction()
    last_us = start + int((total - symbols) * step)
    records = [
        position_record(name, Position(FIRST_ID, FIRST_ID + total // symbols - 1, total // symbols, last_us))
        for name in names
    ]
    for key, value in [*records, writer_record(WriterRecord(1, "blue", None, last_us, 1))]:
        producer.produce(f"{published.topic}.positions", value, key)
    producer.commit_transaction(300)
    return time.monotonic() - began


def _measured(settings: ArchiveSettings, folder: Path, trades: int) -> int:
    file = written(settings, folder / "settings.json")
    environment = {**inherited(), "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
    command = [sys.executable, "-m", "tests.campaigns.archive.bench", "run", str(file)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        return 1
    found = json.loads(done.stdout.splitlines()[-1])
    size = sum(path.stat().st_size for path in Path(settings.warehouse).rglob("*.parquet"))
    _say(f"archived {found['trades']:,} trades, {found['verdict']}, in {found['seconds']:.1f} s")
    _say(f"{found['trades'] / found['seconds']:,.0f} trades/s, peak memory {found['rss_mb']:.0f} MB")
    _say(f"data files {size / 2**20:.0f} MB, {size / found['trades']:.1f} bytes a trade")
    return 0 if found["trades"] == trades and found["verdict"] == "PASS" else 1


def _run(file: Path) -> int:
    began = time.monotonic()
    certificate = archive_day(read(file), DAY, midnight(DAY) + 3 * DAY_US).certificate
    found = {
        "seconds": time.monotonic() - began,
        "trades": certificate.trades,
        "verdict": str(certificate.verdict),
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
