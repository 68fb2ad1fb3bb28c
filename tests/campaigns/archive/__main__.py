"""``make archive-proof``: generated days, planted faults of the sink, kills at every step, on a real Kafka."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.campaigns.archive import faults, kills, symbol_days
from tests.campaigns.archive.planted import FAULTS
from tests.harness.archive_world import Worlds
from tests.harness.kafka import KafkaBroker
from tests.harness.registry import Registry


def main() -> int:
    """Run the parts that are asked for; exit code 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.archive", description=__doc__)
    parser.add_argument("--symbols", type=int, default=500, help="generated symbols")
    parser.add_argument("--days", type=int, default=20, help="generated days")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", type=int, default=20, help="kills at each step")
    parser.add_argument("--parts", default="days,faults,kills")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="archive-proof-") as name, Registry() as registry:
        folder = Path(name)
        broker = KafkaBroker(folder / "kafka")
        broker.start()
        try:
            with Worlds(broker.bootstrap_servers, registry.url, folder) as worlds:
                for part in options.parts.split(","):
                    wrong += PARTS[part](worlds, options)
        finally:
            broker.stop()
    _say("archive-proof: " + (f"{wrong} wrong" if wrong else "all as it should be"))
    return 1 if wrong else 0


def _days(worlds: Worlds, options: argparse.Namespace) -> int:
    wrong = symbols = trades = 0
    for one in symbol_days.days_of(worlds, symbols=options.symbols, days=options.days, seed=options.seed):
        symbols, trades, wrong = symbols + one.symbols, trades + one.trades, wrong + len(one.differences)
        _say(f"{one.day}: {one.symbols} symbols, {one.trades:,} trades, {len(one.differences)} differences")
        for text in one.differences[:5]:
            _say(f"  {text}")
    _say(f"symbol-days: {symbols:,}, {trades:,} trades, {wrong} differences")
    return wrong


def _faults(worlds: Worlds, _: argparse.Namespace) -> int:
    wrong = 0
    for one in faults.tried(faults.made_world(worlds), [None, *FAULTS]):
        control = one.name == "control"
        good = bool(one.how) != control
        wrong += not good
        _say(f"{'ok' if good else 'WRONG':6}{one.name:32}{one.how[:120] or 'PASS'}")
    _say(f"planted faults: {len(FAULTS)}, {wrong} not found")
    return wrong


def _kills(worlds: Worlds, options: argparse.Namespace) -> int:
    wrong = reached = 0
    unreached = set(kills.ALL)
    for one in kills.tried(kills.made_world(worlds), kills.ALL, options.times):
        wrong += bool(one.problem)
        reached += one.reached
        unreached -= {one.step} if one.reached else set()
        if one.problem:
            _say(f"WRONG {one.step}, time {one.count}: {one.problem}")
    _say(f"kills: {reached} at {len(kills.ALL)} steps, {wrong} wrong; steps never reached: {sorted(unreached)}")
    return wrong + len(unreached)


PARTS = {"days": _days, "faults": _faults, "kills": _kills}


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
