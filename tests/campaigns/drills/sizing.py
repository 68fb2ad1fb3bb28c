"""What a deployment needs: memory, CPU, network and disk for 2, 50 and 1,500 symbols, measured on the real parts.

``SIZING_SECONDS`` (60) is how long each case is measured. The market is seeded; the rates are those of the table in
``CASES``. Disk is what the broker's log segments grow by, before compaction.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from tests.campaigns.drills.environment import MB, DrillEnvironment
from tests.harness.kafka import KafkaBroker
from tests.harness.processes import ROOT, ServiceProcess

CASES = ((2, 40), (50, 1_000), (1_500, 4_000))
"""Symbols, trades a second over all of them."""
DAY = 86_400
WARM_UP_SECONDS = 10.0


def _log_bytes(broker: KafkaBroker, topic: str) -> int:
    """Bytes of a topic's log segments; indexes are preallocated and do not count."""
    return sum(path.stat().st_size for path in broker.directory.glob(f"data/{topic}-*/*.log"))


def _cpu(service: ServiceProcess) -> float:
    """CPU seconds so far."""
    assert service.process is not None
    times = psutil.Process(service.process.pid).cpu_times()
    return times.user + times.system


def measure(symbols: int, rate: int, seconds: float) -> dict[str, Any]:
    """Record one market for ``seconds`` and return the figures of the case."""
    simulator = ["--symbols", str(symbols), "--rate", str(rate), "--seed", "16"]
    with DrillEnvironment(f"sizing-{symbols}", simulator) as env:
        service = env.stack.service("blue")
        env.stack.wait(env.stack.writing, "the service as writer")
        time.sleep(WARM_UP_SECONDS)
        topics = {"trades": env.stack.topic, "positions": f"{env.stack.topic}.positions"}
        before = {name: _log_bytes(env.broker, topic) for name, topic in topics.items()}
        began, count, cpu = time.monotonic(), env.consumer.count, _cpu(service)
        time.sleep(seconds)
        elapsed, trades = time.monotonic() - began, env.consumer.count - count
        used = _cpu(service) - cpu
        grown = {name: _log_bytes(env.broker, topic) - before[name] for name, topic in topics.items()}
        return {
            "symbols": symbols,
            "trades_per_second": round(trades / elapsed, 1),
            "rss_max_mb": round(env.resources.rss_max / MB, 1),
            "cpu_percent_of_a_core": round(100 * used / elapsed, 1),
            "bytes_per_trade": round(grown["trades"] / max(1, trades), 1),
            "positions_bytes_per_trade": round(grown["positions"] / max(1, trades), 1),
            "trades_gb_per_day": round(grown["trades"] / elapsed * DAY / 1e9, 2),
            "positions_gb_per_day_before_compaction": round(grown["positions"] / elapsed * DAY / 1e9, 2),
        }


def main() -> int:
    """Measure every case, print a table and write ``reports/drills/sizing.json``."""
    seconds = float(os.environ.get("SIZING_SECONDS", "60"))
    rows = [measure(symbols, rate, seconds) for symbols, rate in CASES]
    report = Path(ROOT) / "reports" / "drills" / "sizing.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps({"schema_version": 1, "seconds": seconds, "cases": rows}, indent=2) + "\n")
    for name in rows[0]:
        sys.stdout.write(f"  {name:40}" + "".join(f"{row[name]:>12,}" for row in rows) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
