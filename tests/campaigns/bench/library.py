"""What librdkafka itself needs for a record, in instructions: ``python -m tests.campaigns.bench.library``.

Its threads are counted, too. The broker is librdkafka's mock in another process. How many requests the records are
spread over depends on a clock: the figure is repeatable to some percent, and no guard.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from confluent_kafka import Producer

from ingest.kafka import client
from ingest.kafka.encoding import TradeEncoder
from ingest.settings import KafkaSettings, Settings
from tests.campaigns.bench.frames import NOW_US, assets, symbols
from tests.campaigns.bench.instructions import _total
from tests.campaigns.bench.stages import PER_BATCH, SYMBOLS, _trades
from tests.harness.mock_kafka import MockKafka
from tests.harness.processes import ROOT


def _child(bootstrap_servers: str) -> None:
    """A warm-up, then one batch between two marks; the calls from Python are in it."""
    encoder = TradeEncoder(1, assets(symbols(SYMBOLS)))
    records = [(t.symbol.encode(), encoder.encode(t, NOW_US)) for t in _trades(2 * PER_BATCH)]
    settings = Settings(kafka=KafkaSettings(bootstrap_servers=bootstrap_servers))
    producer = Producer(client.producer(settings, transactional=False))
    for part in (records[:PER_BATCH], records[PER_BATCH:]):
        for key, value in part:
            producer.produce("trades", value, key, -1)
        producer.flush()
        os.getppid()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.child)
        return
    with MockKafka() as broker, tempfile.TemporaryDirectory() as name:
        out = Path(name) / "callgrind"
        subprocess.run(
            [
                "valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}",
                sys.executable, "-m", "tests.campaigns.bench.library", "--child", broker.bootstrap_servers,
            ],
            cwd=ROOT, check=True, capture_output=True, timeout=600, env={**os.environ, "PYTHONHASHSEED": "0"},
        )  # fmt: skip
        print(f"{_total(Path(f'{out}.2')) // PER_BATCH:,} instructions a record")  # noqa: T201 -- the command's output


if __name__ == "__main__":
    main()
