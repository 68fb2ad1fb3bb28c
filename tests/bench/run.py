"""``make bench``: the whole service against the plain path, in one interleaved run; JSON and HTML in reports/bench/.

Ratios are what counts: the cases of a round run one after the other, rounds are repeated and medians taken, so that
what else the machine does hits all alike. The client has a core of its own; source, broker and consumer share another.
"""

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingest_ops.render import Column, Fact, Page, Section, Table, Text, envelope, write_report
from tests.bench import instructions
from tests.bench.lab import CORES, OTHERS, Case, Lab, on_core
from tests.support.kafka import KafkaBroker
from tests.support.processes import ROOT
from tests.support.registry import Registry

REPORTS = ROOT / "reports" / "bench"
NORMAL_SECONDS = 300
ROUNDS = 3
PLAIN = Case("plain")
STOCK = Case("websockets")
FAST = Case("picows")
SATURATED = {"K2_BUFFER_MAX_TRADES": "2000000"}
"""The feed of a saturated run is as fast as the socket: everything must fit, there is no history to read it from."""
RATES = (1_000, 5_000, 10_000, 50_000)
SUSTAINED = 100_000
SYMBOLS = (1, 10, 100, 500, 1500)


def name_of(case: Case) -> str:
    return f"{case.client}{' tls' if case.tls else ''}"


class Bench:
    """All cases on one broker."""

    def __init__(self, directory: Path, kafka: str, registry: Registry, seconds: float) -> None:
        self._directory = directory
        self._kafka = kafka
        self._registry = registry
        self.scale = seconds / NORMAL_SECONDS

    def lab(self, case: Case) -> Lab:
        return Lab(case, self._directory, self._kafka, self._registry, create_topics=True)

    def trades(self, case: Case) -> int:
        return max(2000, int((40_000 if case.client == "plain" else 250_000) * self.scale))

    def saturate(self, case: Case) -> dict[str, float]:
        """One run as fast as it goes, after a warm-up."""
        trades = self.trades(case)
        with self.lab(replace(case, settings={**SATURATED, **case.settings})) as lab:
            lab.transfer(trades // 10)
            return lab.transfer(trades)

    def stream(self, case: Case, rate: int, seconds: float) -> dict[str, float]:
        """One run at a fixed rate; how late the trades reach a ``read_committed`` consumer."""
        with self.lab(case) as lab:
            lab.transfer(max(200, rate // 4), rate)
            consumer = lab.consumer()
            trades = max(200, int(rate * seconds))
            found: dict[str, float] = {}
            ages: list[float] = []
            reader = threading.Thread(target=lambda: ages.extend(consumer.collect(trades)))
            reader.start()
            found = lab.transfer(trades, rate)
            reader.join()
        return found | {
            "rate": float(rate),
            "complete": float(len(ages) == trades),
            **{f"latency_ms_p{p}": quantile(ages, p / 100) for p in (50, 99)},
            "latency_ms_p99_9": quantile(ages, 0.999),
        }

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


def saturation(bench: Bench, say: Callable[[str], None]) -> dict[str, Any]:
    """The comparison that everything else stands beside: rounds over all clients, without and with TLS."""
    cases = [PLAIN, STOCK, FAST, *(replace(case, tls=True) for case in (PLAIN, STOCK, FAST))]
    rows: dict[str, list[dict[str, float]]] = {name_of(case): [] for case in cases}
    for number in range(ROUNDS):
        for case in cases:
            rows[name_of(case)].append(bench.saturate(case))
            say(f"round {number + 1}: {name_of(case)}: {rows[name_of(case)][-1]['cpu_us_per_trade']:.1f} µs")
    return {name: middle(found) for name, found in rows.items()}


def latency(bench: Bench, say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Fixed rates. One that this machine cannot carry is left out and named in the log; the others count."""
    seconds = max(2.0, 5.0 * bench.scale)
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


def variants(bench: Bench, say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """What changes with the number of symbols, with a second connection, with a second shard."""
    cases = {f"{count} symbols": replace(STOCK, symbols=count) for count in SYMBOLS}
    cases |= {"A/B pair": replace(STOCK, dual=True), "two shards": replace(STOCK, shards=2)}
    rows = {}
    for name, case in cases.items():
        rows[name] = bench.saturate(case)
        say(f"{name}: {rows[name]['cpu_us_per_trade']:.1f} µs")
    return rows


def sustained(bench: Bench, say: Callable[[str], None]) -> dict[str, dict[str, float]]:
    """At 100,000 trades/s and the settings of production, nobody reading: what the process costs and holds."""
    rows = {}
    for case in (STOCK, FAST):
        with bench.lab(case) as lab:
            lab.transfer(SUSTAINED // 10, SUSTAINED)
            rows[name_of(case)] = lab.transfer(int(SUSTAINED * max(1.0, 4.0 * bench.scale)), SUSTAINED)
        say(f"{name_of(case)} at {SUSTAINED}/s: {rows[name_of(case)]['rss_bytes'] / 1e6:.0f} MB")
    return rows


def start_and_idle(bench: Bench, _: Callable[[str], None]) -> dict[str, float]:
    """From the start of the process to the first commit, and what it costs to wait."""
    return bench.start_and_idle(replace(STOCK, symbols=10), 5.0)


PARTS: tuple[Callable[[Bench, Callable[[str], None]], Any], ...] = (
    saturation, latency, sustained, variants, start_and_idle,
)  # fmt: skip


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """The figures under the names that others rely on."""
    saturated = results["saturation"]
    plain, stock = saturated["plain"]["cpu_us_per_trade"], saturated["websockets"]["cpu_us_per_trade"]
    rows = results.get("latency", [])
    usual: dict[str, Any] = next((row for row in rows if row["case"] != "plain" and row["rate"] == 5000.0), {})
    return {
        "speedup_vs_plain": plain / stock,
        "speedup_vs_plain_tls": saturated["plain tls"]["cpu_us_per_trade"]
        / saturated["websockets tls"]["cpu_us_per_trade"],
        "speedup_vs_plain_picows": plain / saturated["picows"]["cpu_us_per_trade"],
        "speedup_vs_plain_picows_tls": saturated["plain tls"]["cpu_us_per_trade"]
        / saturated["picows tls"]["cpu_us_per_trade"],
        "cpu_us_per_trade": stock,
        "trades_per_second_core": 1e6 / stock,
        "latency_ms_p50": usual.get("latency_ms_p50"),
        "latency_ms_p99": usual.get("latency_ms_p99"),
        "rss_bytes": int(saturated["websockets"]["rss_bytes"]),
    }


def page(results: dict[str, Any], command: str) -> Page:
    key = results["summary"]
    saturation = [
        [name, f"{row['cpu_us_per_trade']:.2f}", f"{row['cpu_us_min']:.2f} to {row['cpu_us_max']:.2f}",
         f"{1e6 / row['cpu_us_per_trade']:,.0f}", f"{row['rss_bytes'] / 1e6:.0f}"]
        for name, row in results["saturation"].items()
    ]  # fmt: skip
    sections = [
        Section(
            "At saturation",
            blocks=[
                Text(
                    "Client on one core, real Kafka; the service with sequencing, transactions and metrics on. Trades "
                    "come as fast as the socket takes them, faster than Kafka does: RSS is that of the queue. What the "
                    "process needs where it keeps up stands with the fixed rates."
                ),
                Table(
                    columns=["Client", *(Column(c, numeric=True) for c in
                             ("CPU µs per trade", "Spread", "Trades/s of a whole core", "RSS MB"))],
                    rows=saturation,
                ),
            ],
        )
    ]  # fmt: skip
    if "latency" in results:
        columns = ("Rate", "CPU µs per trade", "Of a core", "RSS MB", "p50 ms", "p99 ms", "p99.9 ms", "Source late ms")
        sections.append(
            Section(
                "At a fixed rate: exchange to read_committed consumer",
                blocks=[
                    Table(
                        columns=["Client", *(Column(c, numeric=True) for c in columns)],
                        rows=[
                            [row["case"], f"{row['rate']:,.0f}", f"{row['cpu_us_per_trade']:.1f}",
                             f"{row['cpu_us_per_trade'] * row['rate'] / 1e6:.0%}", f"{row['rss_bytes'] / 1e6:.0f}",
                             *(f"{row[f'latency_ms_p{p}']:.1f}" for p in ("50", "99", "99_9")),
                             f"{row['source_late_ms']:.1f}"]
                            for row in results["latency"]
                        ],
                    )
                ],
            )
        )  # fmt: skip
    if "sustained" in results:
        sections.append(
            Section(
                f"At {SUSTAINED:,} trades/s, production's settings",
                blocks=[
                    Table(
                        columns=["Client", *(Column(c, numeric=True) for c in
                                 ("Sent per second", "CPU µs per trade", "RSS MB"))],
                        rows=[
                            [name, f"{row['trades_per_second']:,.0f}", f"{row['cpu_us_per_trade']:.2f}",
                             f"{row['rss_bytes'] / 1e6:.0f}"]
                            for name, row in results["sustained"].items()
                        ],
                    )
                ],
            )
        )  # fmt: skip
    if "variants" in results:
        sections.append(
            Section(
                "Variants of the service with websockets, at saturation",
                blocks=[
                    Table(
                        columns=["Variant", Column("CPU µs per trade", numeric=True), Column("RSS MB", numeric=True)],
                        rows=[
                            [name, f"{row['cpu_us_per_trade']:.2f}", f"{row['rss_bytes'] / 1e6:.0f}"]
                            for name, row in results["variants"].items()
                        ],
                    )
                ],
            )
        )
    if "start_and_idle" in results:
        found = results["start_and_idle"]
        sections.append(
            Section(
                "Start and rest",
                blocks=[
                    Text(
                        f"First commit at most {found['start_to_commit_s_at_most']:.2f} s after the start; "
                        f"idle {found['idle_cpu_share']:.1%} of a core."
                    )
                ],
            )
        )
    if "instructions" in results:
        sections.append(
            Section(
                "Instructions per trade, Python's side, by valgrind",
                blocks=[
                    Table(
                        columns=["Stage", Column("Instructions", numeric=True)],
                        rows=[[stage, f"{count:,}"] for stage, count in results["instructions"].items()],
                    )
                ],
            )
        )
    return Page(
        kind="bench",
        title="Benchmark against the plain path",
        verdict=None,
        summary=f"{key['speedup_vs_plain']:.1f} times less CPU per trade than the plain path "
        f"({key['cpu_us_per_trade']:.1f} µs), at a load of {results['machine']['load_before']:.1f} by others.",
        coverage=[Fact("Rounds", f"{ROUNDS}, interleaved; medians"), Fact("Failed parts", str(len(results["failed"])))],
        reasons=[f"{part}: {why}" for part, why in results["failed"].items()],
        sections=sections,
        facts=[
            Fact("Command", command),
            Fact("Machine", f"{results['machine']['cores']} cores, {results['machine']['python']}"),
        ],
        generated_at=results["generated_at"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=NORMAL_SECONDS, help="about how long it takes")
    parser.add_argument("--without-instructions", action="store_true")
    options = parser.parse_args()
    now = dt.datetime.now(dt.UTC)  # noqa: TID251 -- the name of a report
    results: dict[str, Any] = {
        "machine": {
            "cores": len(CORES), "python": platform.python_version(), "load_before": os.getloadavg()[0],
        },
        "failed": {},
    }  # fmt: skip

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201 -- progress

    with tempfile.TemporaryDirectory() as name, Registry() as registry:
        with on_core(OTHERS):
            broker = KafkaBroker(Path(name) / "kafka")
            broker.start()
        try:
            bench = Bench(Path(name), broker.bootstrap_servers, registry, options.seconds)
            for part in PARTS:
                try:
                    results |= {part.__name__: part(bench, say)}
                except (TimeoutError, OSError, RuntimeError) as error:
                    if part is saturation:
                        raise
                    results["failed"][part.__name__] = str(error)[:300]
        finally:
            broker.stop()
    if not options.without_instructions:
        results["instructions"] = instructions.measure()
    results["summary"] = summary(results)
    results["generated_at"] = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    drawn = page(results, f"make bench BENCH_SECONDS={options.seconds:g}")
    run_id = f"{now:%Y%m%dT%H%M%SZ}"
    data = envelope(drawn, run_id=run_id, schema_version=1) | results["summary"] | results
    paths = write_report(REPORTS, run_id, json.loads(json.dumps(data)), drawn)
    print(json.dumps(results["summary"], indent=2))  # noqa: T201 -- the command's output
    say(f"report: {paths['html'].relative_to(ROOT)}")


if __name__ == "__main__":
    main()
