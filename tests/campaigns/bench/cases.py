"""What ``make bench`` measures, part by part. Cases that are compared take turns; of the rounds medians are taken."""

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException

from ingest.binance.history import PAGE_LIMIT, WEIGHT_TRADES
from ingest.binance.weight import DEFAULT_LIMIT
from tests.campaigns.bench.clients import cryptofeeds
from tests.campaigns.bench.environment import CORES, SCALES, BenchEnvironment, Case, until
from tests.harness.processes import ProcessFailedError
from tests.harness.registry import Registry

NORMAL_SECONDS = 300
ROUNDS = 3
PLAIN = Case("plain")
STOCK = Case("websockets")
FAST = Case("picows")
SOURCES = Case("websockets", compiled=False)
SATURATED = {"K2_BUFFER_MAX_TRADES": "2000000"}
"""The feed of a saturated run is as fast as the socket: everything must fit, there is no history to read it from."""
SERVICE_TRADES = 250_000
"""Of a saturated run at full length."""
PLAIN_TRADES = 40_000
ONE_BY_ONE_TRADES = 3_000
"""Of cryptofeed before 3.0, which waits for the broker after each record."""
RATES = (1_000, 5_000, 10_000, 50_000)
SUSTAINED = 100_000
SYMBOLS = (1, 10, 100, 500, 1500)
SHARED = 500
"""Symbols where the pair and the shards are measured, too."""
VARIANT_TRADES = 400_000 if SCALES else 100_000
"""More where the time is compared, too, and not the cost alone: the last commit must not count."""
BURST = 50_000
"""Trades in one second."""
CALM = 1_000
"""Trades/s before a burst."""
MISSED = 200_000
"""Trades that happen while the service is away, at full length: 5,500 of the 6,000 that a minute's weight allows."""
MISSED_SYMBOLS = 20
WHOLE_BUDGET = {"K2_BINANCE_REST_WEIGHT_FRACTION": "1"}
BUDGET_TRADES_PER_SECOND = DEFAULT_LIMIT / WEIGHT_TRADES * PAGE_LIMIT / 60
"""What the exchange's weight per minute lets anyone read of history."""
EXPECTED = (TimeoutError, OSError, RuntimeError, ProcessFailedError, KafkaException)
"""What a part may end with; the other parts count all the same."""

Say = Callable[[str], None]


def name_of(case: Case) -> str:
    version = f" {case.version}" if case.version else ""
    name = f"{case.client}{version}{' tls' if case.tls else ''}{', mock broker' if case.broker == 'mock' else ''}"
    return name if case.compiled else f"{name}, not compiled"


def length_of(case: Case) -> int:
    """Trades of a saturated run at full length."""
    if case.ours:
        return SERVICE_TRADES
    return ONE_BY_ONE_TRADES if case.version.startswith(("1.", "2.")) else PLAIN_TRADES


class Bench:
    """All cases on the same brokers."""

    def __init__(self, directory: Path, brokers: Mapping[str, str], registry: Registry, seconds: float) -> None:
        self._directory = directory
        self._brokers = brokers
        self._registry = registry
        self.scale = seconds / NORMAL_SECONDS
        self.failed: dict[str, str] = {}
        """Part -> why it is not in the report."""

    def lab(self, case: Case) -> BenchEnvironment:
        return BenchEnvironment(case, self._directory, self._brokers[case.broker], self._registry)

    def trades(self, whole: float, least: int = 2000) -> int:
        """So many of a run of full length, in a run of this length."""
        return max(least, int(whole * self.scale))

    def saturate(self, case: Case, whole: int | None = None, *, positions: bool = False) -> dict[str, float]:
        """One run as fast as it goes, after a warm-up."""
        trades = self.trades(whole or length_of(case), 500 if case.client == "cryptofeed" else 2000)
        with self.lab(replace(case, settings={**SATURATED, **case.settings})) as lab:
            lab.warm_up(trades // 10)
            if not positions:
                return lab.transfer(trades)
            found: dict[str, float] = {}
            written = lab.positions_written(lambda: found.update(lab.transfer(trades)))
            return found | {"positions_per_trade": written / trades}

    def watched(self, lab: BenchEnvironment, trades: int, rate: int) -> dict[str, float]:
        """Trades at a fixed rate; how late they reach a ``read_committed`` consumer, and whether all do, and once."""
        lab.settle()
        consumer = lab.consumer()
        ages: list[float] = []
        reader = threading.Thread(target=lambda: ages.extend(consumer.collect(trades)))
        reader.start()
        try:
            found = lab.transfer(trades, rate)
        finally:
            reader.join()
        return found | {
            "rate": float(rate),
            "complete": float(len(ages) == trades),
            **{f"latency_ms_p{p}": quantile(ages, p / 100) for p in (50, 99)},
            "latency_ms_p99_9": quantile(ages, 0.999),
        }

    def stream(self, case: Case, rate: int, seconds: float) -> dict[str, float]:
        """One run at a fixed rate."""
        with self.lab(case) as lab:
            lab.warm_up(max(200, rate // 4), rate)
            return self.watched(lab, max(200, int(rate * seconds)), rate)

    def start_and_idle(self, case: Case, seconds: float) -> dict[str, float]:
        began = time.time_ns()
        with self.lab(case) as lab:
            service: Any = lab.clients[0]
            first = service.status()["last_commit_us"] * 1000
            time.sleep(1.5)
            return {"start_to_commit_s_at_most": (first - began) / 1e9, "idle_cpu_share": lab.idle(seconds)}


def quantile(ascending: list[float], share: float) -> float:
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))] if ascending else float("nan")


def middle(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Medians of all keys, and the spread of the first."""
    costs = [row["cpu_us_per_trade"] for row in rows]
    found: dict[str, Any] = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    return found | {"cpu_us_min": min(costs), "cpu_us_max": max(costs), "runs": len(rows)}


def saturation(bench: Bench, say: Say) -> dict[str, Any]:
    """The comparison that everything else stands beside: rounds over all clients, without and with TLS.

    Beside them, in the same rounds, the mock broker and, where it is installed, cryptofeed: one of these that fails is
    left out and named.
    """
    clients = (PLAIN, STOCK, FAST)
    essential = [*clients, *(replace(case, tls=True) for case in clients), SOURCES]
    beside = [replace(case, broker="mock") for case in (PLAIN, STOCK)]
    beside += [Case("cryptofeed", version=version, python=python) for version, python in cryptofeeds().items()]
    rows: dict[str, list[dict[str, float]]] = {name_of(case): [] for case in (*essential, *beside)}
    for number in range(ROUNDS):
        for case in (*essential, *beside):
            name = name_of(case)
            if name in bench.failed:
                continue
            try:
                rows[name].append(bench.saturate(case))
            except EXPECTED as error:
                if case in essential:
                    raise
                bench.failed[name] = str(error)[:300]
                say(f"{name}: {error}")
            else:
                say(f"round {number + 1}: {name}: {rows[name][-1]['cpu_us_per_trade']:.1f} µs")
    return {name: middle(found) for name, found in rows.items() if name not in bench.failed}


def latency(bench: Bench, say: Say) -> list[dict[str, Any]]:
    """Fixed rates. One that this machine cannot carry is left out and named in the log; the others count."""
    seconds = max(1.0, 4.0 * bench.scale)
    rows: list[dict[str, Any]] = []
    for case, rates in (
        (STOCK, RATES), (FAST, (10_000,)), (replace(STOCK, commit_ms=20), (5_000,)), (PLAIN, (1_000, 5_000))
    ):  # fmt: skip
        name = f"{name_of(case)}, commits each {case.commit_ms} ms" if case.client != "plain" else "plain"
        for rate in rates:
            try:
                rows.append({"case": name} | bench.stream(case, rate, seconds))
            except TimeoutError as error:
                say(f"{name} at {rate}/s: {error}")
            else:
                say(f"{name} at {rate}/s: p99 {rows[-1]['latency_ms_p99']:.0f} ms")
    return rows


def sustained(bench: Bench, say: Say) -> dict[str, dict[str, float]]:
    """At 100,000 trades/s and the settings of production, nobody reading: what the process costs and holds."""
    rows = {}
    for case in (STOCK, FAST):
        with bench.lab(case) as lab:
            lab.warm_up(SUSTAINED // 10, SUSTAINED)
            rows[name_of(case)] = lab.transfer(int(SUSTAINED * max(1.0, 4.0 * bench.scale)), SUSTAINED)
        say(f"{name_of(case)} at {SUSTAINED}/s: {rows[name_of(case)]['rss_bytes'] / 1e6:.0f} MB")
    return rows


def burst(bench: Bench, say: Say) -> dict[str, Any]:
    """50,000 trades in a second out of a calm market, settings of production: do all arrive, how late are pongs."""
    rows = []
    with bench.lab(STOCK) as lab:
        for number in range(ROUNDS):
            lab.warm_up(CALM, CALM)
            rows.append(bench.watched(lab, BURST, BURST))
            say(f"burst {number + 1}: all in Kafka after {rows[-1]['seconds']:.2f} s")
    worst = max(row["pong_ms_max"] for row in rows)
    return middle(rows) | {
        "trades": BURST,
        "complete": all(row["complete"] for row in rows),
        "pong_ms_max": worst,
        "pongs_missing": sum(row["pongs_missing"] for row in rows),
        "rss_bytes": max(row["rss_bytes"] for row in rows),
    }


def catch_up(bench: Bench, say: Say) -> dict[str, Any]:
    """The service was away while the market went on; started again, it reads from history what it missed.

    The weight of all that is missed fits into the minute that a start begins with, so that nothing waits for the
    budget: what is measured is how fast the service could be, and held against what the budget allows in the long run.
    """
    missed = min(MISSED, bench.trades(MISSED))
    rows = []
    with bench.lab(replace(STOCK, symbols=MISSED_SYMBOLS, settings=WHOLE_BUDGET)) as lab:
        lab.transfer(100 * MISSED_SYMBOLS)  # every symbol has a position
        for number in range(ROUNDS):
            rows.append(_missed(lab, missed))
            say(f"catch-up {number + 1}: {rows[-1]['trades_per_second']:,.0f} trades/s of history")
    found = middle(rows)
    return found | {
        "missed": missed,
        "budget_trades_per_second": BUDGET_TRADES_PER_SECOND,
        "core_share_at_full_budget": found["cpu_us_per_trade"] * BUDGET_TRADES_PER_SECOND / 1e6,
    }


def _missed(lab: BenchEnvironment, missed: int) -> dict[str, float]:
    began = time.monotonic()
    with lab.away():
        offsets = lab.offsets()
        lab.source.skip(missed)
        began = time.monotonic()
    service: Any = lab.clients[0]
    used, caught = lab.cpu(), time.monotonic()
    live = 20 * MISSED_SYMBOLS
    lab.source.order(live)  # a live trade of each symbol shows that something is missing
    now = lab.arrive(offsets + missed + live)
    used = lab.cpu() - used
    history = lab.source.state()["history"]

    def weight() -> float:
        return float(service.metrics()["binance_rest_weight_total"])

    until(lambda: weight() >= history["pages"] * WEIGHT_TRADES, "the weight is not published")
    return {
        "cpu_us_per_trade": used / (missed + live) * 1e6,
        "trades_per_second": (missed + live) / (now - caught),
        "seconds": now - caught,
        "seconds_from_start": now - began,
        "pages": float(history["pages"]),
        "trades_per_page": history["trades"] / max(1, history["pages"]),
        "weight": weight(),
        "rss_bytes": lab.rss(),
    }


def variants(bench: Bench, say: Say) -> dict[str, dict[str, Any]]:
    """What changes with the number of symbols, with a second connection, with a second shard; in rounds."""
    cases = {f"{count} symbols": replace(STOCK, symbols=count) for count in SYMBOLS}
    shared = replace(STOCK, symbols=SHARED)
    cases |= {"A/B pair": replace(shared, dual=True), "two shards": replace(shared, shards=2)}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in cases}
    for number in range(ROUNDS):
        for name, case in cases.items():
            rows[name].append(bench.saturate(case, VARIANT_TRADES, positions=True))
            say(f"round {number + 1}: {name}: {rows[name][-1]['cpu_us_per_trade']:.1f} µs")
    return {name: middle(found) for name, found in rows.items()}


def scaling(found: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Two shards against one, from the variants: what they cost together, and what they carry where each has a core."""
    one, two = found[f"{SHARED} symbols"], found["two shards"]
    cost = two["cpu_us_per_trade"] / one["cpu_us_per_trade"]
    return {
        "cost_of_two_shards": cost,
        "two_shards_at_most": 2 / cost,
        "two_shards_carry": two["arrived_per_second"] / one["arrived_per_second"] if SCALES else None,
        "cores": len(CORES),
    }


def start_and_idle(bench: Bench, _: Say) -> dict[str, float]:
    """From the start of the process to the first commit, and what it costs to wait."""
    return bench.start_and_idle(replace(STOCK, symbols=10), max(1.0, 5.0 * bench.scale))


PARTS: tuple[Callable[[Bench, Say], Any], ...] = (
    saturation, latency, burst, sustained, variants, catch_up, start_and_idle,
)  # fmt: skip
