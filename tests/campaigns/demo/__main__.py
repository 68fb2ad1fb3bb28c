"""``make demo``: simulator, real Kafka and the service; a minute of trouble; then the audit has the word.

Exit code 0 only when the verdict is PASS, 2 where no Kafka can be started. ``DEMO_SECONDS`` (60) is how long the
market trades, ``DEMO_SEED`` the market's seed where no recording is at hand.
"""

import json
import math
import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.campaigns.demo.scenario import INSTANCE, Scenario
from tests.campaigns.demo.view import View
from tests.harness import ending
from tests.harness.kafka import KafkaBroker, KafkaUnavailable
from tests.harness.recordings import BTCUSDT_FULL, recording
from tests.harness.registry import Registry
from tests.harness.stack import Stack

ROOT = Path(__file__).resolve().parents[3]
RECORDED_SECONDS = 650.6
STREAMS = "trade,depth"


def market(seconds: float) -> tuple[list[str], str]:
    """The simulator's options, and what the source is called."""
    path = recording(BTCUSDT_FULL)
    if path is not None:
        speed = RECORDED_SECONDS / (seconds * 0.9)
        return ["--replay", str(path), "--speed", f"{speed:.2f}"], f"a recorded Binance BTCUSDT market at {speed:.0f}x"
    seed = os.environ.get("DEMO_SEED", "1")
    return ["--symbols", "10", "--rate", "1000", "--seed", seed], f"a seeded market (seed {seed}, 10 symbols, 1,000/s)"


def stated_seconds(text: str) -> float:
    """``DEMO_SECONDS``. Raises ``ValueError``."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"DEMO_SECONDS={text}: expected a number of seconds above zero, such as 60")
    return seconds


def main() -> int:
    """Run the demo; returns the exit code."""
    ending.by_signal()
    try:
        seconds = stated_seconds(os.environ.get("DEMO_SECONDS", "60"))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    directory = Path(tempfile.mkdtemp(prefix="k2-demo-"))
    try:
        code = demo(seconds, directory)
    except SystemExit:  # ended from outside: its logs are of no use
        shutil.rmtree(directory, ignore_errors=True)
        raise
    if code == 1:
        View().event(f"logs are in {directory}")
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return code


def demo(seconds: float, directory: Path) -> int:
    """Run it in a folder; returns the exit code."""
    view = View()
    began = time.monotonic()
    options, source = market(seconds)
    with ExitStack() as exits:
        view.event(f"source: {source}")
        try:
            kafka = exits.enter_context(KafkaBroker(directory / "kafka"))
        except KafkaUnavailable as error:
            view.event(f"no Kafka: {error}")
            return 2
        registry = exits.enter_context(Registry())
        view.event("Kafka and the registry are up")
        stack = exits.enter_context(
            Stack(
                directory,
                bootstrap_servers=kafka.bootstrap_servers,
                registry_url=registry.url,
                simulator=[*options, "--paused"],
                settings={
                    "K2_BINANCE_STREAMS": STREAMS,
                    "K2_BINANCE_VOID_CONFIRM_SECONDS": "6",
                    "K2_TAKEOVER_AFTER_SECONDS": "3",
                },
            )
        )
        stack.service(INSTANCE)
        stack.wait(lambda: stack.writing(INSTANCE), "the service as writer")
        view.event("the service writes; the market opens")
        stack.simulator.market("start")
        scenario = Scenario(stack, view, seconds=seconds)
        scenario.run()
        stack.simulator.market("stop")
        view.event("the market is closed; waiting until everything is in Kafka")
        try:
            stack.wait(stack.caught_up, "the last trade in Kafka", seconds=60)
        except TimeoutError as error:
            view.event(str(error).splitlines()[0])
        books = scenario.books()
        view.event(f"order books: {books.get('in_sync', 0)} of {books.get('recorded', 0)} in sync")
        scenario.look()
        weight = stack.simulator.state()["counters"]
        exit_code = stack.services[INSTANCE].terminate()
        view.event(f"the service drained and ended with exit code {exit_code}; auditing the topic")
        code, audit = stack.audit()
        _, depth = stack.audit_stream("depth")
        summary = summarise(audit, code, scenario, source=source, exit_code=exit_code, counters=weight)
        summary |= book_figures(books, depth)
        if not summary["books_in_sync"] == summary["books_recorded"] > 0 or depth["verdict"] == "FAIL":
            summary["verdict"] = "FAIL"
        summary["seconds"] = round(time.monotonic() - began, 1)
        summary["sent_before_first"] = None
    path = ROOT / "reports" / "demo" / "summary.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(summary, indent=2) + "\n")
    view.table([(name, value) for name, value in summary.items() if isinstance(value, int | str | float)])
    view.event(f"{path.relative_to(ROOT)} written")
    return 0 if summary["verdict"] == "PASS" else 1


def book_figures(books: dict[str, int], depth: dict[str, Any]) -> dict[str, Any]:
    """How many books are in sync at the end, and what the auditor found of all of them."""
    totals = depth["totals"]
    return {
        "books_recorded": books.get("recorded", 0),
        "books_in_sync": books.get("in_sync", 0),
        "book_updates": totals["committed"],
        "book_breaks_declared": totals["breaks"],
        "book_breaks_undeclared": totals["undeclared_break"],
        "books_equal_to_the_exchange": totals["snapshots"] - totals["snapshot"],
    }


def summarise(
    audit: dict[str, Any],
    code: int,
    scenario: Scenario,
    *,
    source: str,
    exit_code: int | None,
    counters: dict[str, Any],
) -> dict[str, Any]:
    """The result; PASS only if the auditor says so and everything recovered."""
    outcome = scenario.outcome
    totals = audit["totals"]
    recovered = all(entry["seconds"] is not None for entry in outcome.recoveries)
    clean = code == 0 and recovered and exit_code == 0 and outcome.rotations >= 2 and totals["committed"] > 0
    return {
        "schema_version": 1,
        "verdict": "PASS" if clean else "FAIL",
        "source": source,
        "kafka": "Apache Kafka",
        "trades_sent": totals["ledger"],
        "trades_committed": totals["committed"],
        "missing": totals["missing"],
        "duplicated": totals["duplicated"],
        "reordered": totals["reordered"],
        "altered": totals["altered"],
        "voids": totals["voids"],
        "rotations": outcome.rotations,
        "recoveries": len([entry for entry in outcome.recoveries if entry["seconds"] is not None]),
        "recovery_seconds": outcome.recoveries,
        "slowest_recovery_seconds": max((e["seconds"] or 999.0 for e in outcome.recoveries), default=0.0),
        "duplicates_dropped": outcome.duplicates_dropped,
        "holes_filled": outcome.gaps_filled,
        "trades_backfilled": outcome.backfilled,
        "rest_429": counters.get("rest_429", 0),
        "rss_max_bytes": outcome.rss_max,
        "events": outcome.events,
        "samples": outcome.samples,
        "audit": totals,
    }


if __name__ == "__main__":
    sys.exit(main())
