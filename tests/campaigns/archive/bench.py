"""``make archive-bench``: how fast a day goes from the topic to the table, in how much memory, without comparison."""

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer

from ingest.core.trade import Position, Trade
from ingest.kafka.encoding import TradeEncoder
from ingest.kafka.positions import WriterRecord, position_record, writer_record
from ingest_ops.archive.day import archive_day
from ingest_ops.archive.settings import ArchiveSettings
from tests.campaigns.archive.killed import plant, read, written
from tests.harness.archive import DAY_US, GeneratedMarket, Published, midnight
from tests.harness.kafka import KafkaBroker
from tests.harness.processes import ROOT, inherited
from tests.harness.registry import Registry

DAY = date(2026, 1, 15)
FIRST_ID = 5_000_000_000
PER_TRANSACTION = 200_000
PARTITIONS = 8
BLOCK = 100_000


def main() -> int:
    """Fill a topic, archive the day in a process of its own, print the figures."""
    if sys.argv[1:2] == ["run"]:
        return _archive(Path(sys.argv[2]), int(sys.argv[3]))
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
    """Write a day of trades, and one trade of each symbol before and after it; few symbols have most of them."""
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
    step = DAY_US / trades
    next_ids, last_us = [FIRST_ID] * symbols, start
    producer.begin_transaction()
    for number, (place, cents, units, maker) in enumerate(_drawn(trades, symbols)):
        time_us = last_us = start + int((number - symbols) * step)
        price, quantity = f"{cents // 100}.{cents % 100:02d}000000", f"{units // 10**5}.{units % 10**5:05d}000"
        trade = Trade(names[place], next_ids[place], price, quantity, time_us, maker)
        next_ids[place] += 1
        value = encoder.encode(trade, time_us + 20_000)
        producer.produce(published.topic, value, names[place], timestamp=time_us // 1000)
        if number % 1000 == 0:
            producer.poll(0)
        if number % PER_TRANSACTION == PER_TRANSACTION - 1:
            producer.commit_transaction(300)
            producer.begin_transaction()
    records = [
        position_record(name, Position(FIRST_ID, end - 1, end - FIRST_ID, last_us))
        for name, end in zip(names, next_ids, strict=True)
    ]
    for key, value in [*records, writer_record(WriterRecord(1, "blue", None, last_us, 1))]:
        producer.produce(f"{published.topic}.positions", value, key)
    producer.commit_transaction(300)
    return time.monotonic() - began


def _drawn(trades: int, symbols: int) -> Iterator[tuple[int, int, int, bool]]:
    """Symbol, price in cents (a random walk), quantity in units of 1e-5, buyer is maker; each symbol first and last."""
    rng = np.random.default_rng(1)
    weights = 1 / np.arange(1, symbols + 1)
    prices = rng.integers(1_000, 10_000_000, symbols)
    every = np.arange(symbols)
    sizes = (min(BLOCK, trades - at) for at in range(0, trades, BLOCK))
    for places in chain([every], (rng.choice(symbols, size, p=weights / weights.sum()) for size in sizes), [every]):
        moves = rng.integers(-3, 4, len(places)).tolist()
        units = np.maximum(1, rng.lognormal(9, 2, len(places))).astype(np.int64).tolist()
        makers = (rng.random(len(places)) < 0.5).tolist()
        for place, move, unit, maker in zip(places.tolist(), moves, units, makers, strict=True):
            prices[place] = max(100, prices[place] + move)
            yield place, int(prices[place]), unit, maker


def _measured(settings: ArchiveSettings, folder: Path, trades: int) -> int:
    """A whole run; then one that is killed with half of its files written, and the one that goes on from there."""
    file = written(settings, folder / "settings.json")
    found = _run(file)
    if found is None:
        return 1
    files = list(Path(settings.warehouse).rglob("*.parquet"))
    size, rows = sum(path.stat().st_size for path in files), found["trades"]
    _say(f"archived {rows:,.0f} trades, {found['verdict']}, in {found['seconds']:.1f} s, {len(files)} files")
    _say(f"{rows / found['seconds']:,.0f} trades/s, {found['cpu'] / rows * 1e6:.2f} us of processor time a trade")
    _say(f"peak memory {found['rss_mb']:.0f} MB; data files {size / 2**20:.0f} MB, {size / rows:.1f} bytes a trade")
    shutil.rmtree(settings.warehouse)
    half = max(1, len(files) // 2)
    if _run(file, kill_at=half) is not None:
        _say("the run that was to be killed was not")
        return 1
    again = _run(file)
    if again is None:
        return 1
    _say(f"killed with {half} files written, and run again: {again['seconds']:.1f} s, {again['verdict']}")
    whole = all(one["trades"] == trades and one["verdict"] == "PASS" for one in (found, again))
    return 0 if whole and found["root"] == again["root"] else 1


def _run(file: Path, kill_at: int = 0) -> dict[str, Any] | None:
    """Archive in a process of its own; None if it was killed."""
    environment = {**inherited(), "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
    command = [sys.executable, "-m", "tests.campaigns.archive.bench", "run", str(file), str(kill_at)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _archive(file: Path, kill_at: int) -> int:
    if kill_at:
        plant("bucket noted", kill_at)
    began = time.monotonic()
    certificate = archive_day(read(file), DAY, midnight(DAY) + 3 * DAY_US).certificate
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "seconds": time.monotonic() - began,
        "cpu": used.ru_utime + used.ru_stime,
        "trades": certificate.trades,
        "verdict": str(certificate.verdict),
        "root": certificate.root,
        "rss_mb": used.ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
