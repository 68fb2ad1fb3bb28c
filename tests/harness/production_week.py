"""Eight days of a service in production, made from a list of events, as OpenMetrics for ``promtool``.

The events are the truth: what a day's report must say is counted from them (``Expected``), never from the samples.
An event belongs to the day of the first scrape that could show it; one that no scrape ever showed (its process died, or
nobody looked until it did) belongs to none.
"""

import random
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ingest_ops.validation.day import midnight
from tests.harness.prometheus import Prometheus

Array = NDArray[np.float64]

FIRST = date(2026, 1, 14)
DAYS = 8
HOUR, DAY = 3600.0, 86_400.0
MB = 2**20
LIFETIME, JITTER, PING = 14_400.0, 0.1, 180.0
REASONS = ("closed_by_exchange", "connection_lost", "dns")
ROTATIONS = ("scheduled", "server_shutdown", "stalled", "pong_timeout", "operator")
RULES = """\
groups:
  - name: ingest
    interval: 15s
    rules:
      - alert: BinanceMemoryHigh
        expr: process_resident_memory_bytes > 4e8
        labels: {severity: high}
      - alert: NoWriter
        expr: sum(ingest_writer_active) < 1
        labels: {severity: page}
""" + "".join(
    f"      - alert: {name}\n        expr: vector(0) > 1\n        labels: {{severity: {severity}}}\n"
    for severity, names in (
        (
            "page",
            "IngestNoWriter IngestSplitBrain IngestTargetAbsent IngestDataLoss IngestDuplicate BinanceMemoryCritical",
        ),
        ("ticket", "BinanceMemoryLeakDetected ReportMissing"),
    )
    for name in names.split()
)


@dataclass
class Process:
    """One life of the service. Times in seconds since the first midnight."""

    instance: str
    slot: str
    start: float
    end: float
    version: str
    writes: list[tuple[float, float]] = field(default_factory=list)
    reconnects: list[tuple[float, str]] = field(default_factory=list)
    rotations: list[tuple[float, str]] = field(default_factory=list)
    """Unscheduled ones; the scheduled ones follow from the lifetime."""
    quiet: list[tuple[float, float]] = field(default_factory=list)
    stalled: list[tuple[float, float]] = field(default_factory=list)
    """Without commits."""
    rate: float = 40.0
    rss: float = 150.0
    leak: float = 0.0
    """MB a day."""
    lazy: bool = False
    """Children of the reconnect counter are born with their first increment, as a careless service would do it."""
    scheduled: list[float] = field(default_factory=list)
    pongs: list[float] = field(default_factory=list)
    connections: list[tuple[str, float, float]] = field(default_factory=list)

    def live(self, rng: random.Random) -> None:
        """Let its connections come and go."""
        disturbed = sorted([(at, False) for at, _ in self.reconnects] + [(at, False) for at, _ in self.rotations])
        opened, names = self.start + 1.0, "ab"
        while opened < self.end:
            due = opened + LIFETIME * (1 - rng.uniform(0, JITTER))
            early = next((at for at, _ in disturbed if at > opened), None)
            closed = min(due if early is None else min(early, due), self.end)
            if closed == due < self.end:
                self.scheduled.append(due)
            self.connections.append((f"g0.0{names[len(self.connections) % 2]}", opened, closed))
            self.pongs += np.arange(opened + PING, closed, PING).tolist()
            opened = closed + 0.2


@dataclass
class EightDays:
    """Everything that happened in eight days."""

    processes: list[Process]
    step: float = 15.0
    symbols: tuple[str, ...] = ("BTCUSDT", "ETHUSDT", "BNBUSDT")
    holes: list[tuple[float, float]] = field(default_factory=list)
    """Nobody scraped anything: Prometheus was away or its disk was lost. Seconds since the first midnight."""
    alerts: list[tuple[str, str, float, float]] = field(default_factory=list)
    prometheus_starts: list[float] = field(default_factory=lambda: [-50_000.0])
    origin: float = midnight(FIRST)
    seed: int = 7

    def __post_init__(self) -> None:
        rng = random.Random(self.seed)
        for process in self.processes:
            process.live(rng)

    # Scrapes

    def scrapes(self, instance: str) -> Array:
        """When this target was scraped, seconds since the first midnight, to the millisecond."""
        rng = np.random.default_rng([self.seed, *instance.encode()])
        phase = float(rng.uniform(0, self.step))
        t = np.arange(phase - HOUR, DAYS * DAY, self.step)
        t = np.round(t + rng.uniform(0, 0.02, len(t)), 3)
        keep = np.ones(len(t), dtype=np.bool_)
        for a, b in self.holes:
            keep &= (t < a) | (t >= b)
        return t[keep]

    def of(self, process: Process) -> Array:
        """The scrapes that this life answered."""
        t = self.scrapes(process.instance)
        return t[(t >= process.start + 0.5) & (t < process.end)]

    @property
    def instances(self) -> list[str]:
        return sorted({process.instance for process in self.processes})

    # The truth

    def day_of(self, process: Process, at: float) -> int | None:
        """The day in which a scrape first showed an event of this process.

        Unknown where the process was older than the hour before that day and had not been scraped since: the counter
        may have had that value for long.
        """
        t = self.of(process)
        index = int(np.searchsorted(t, at))
        if index == len(t):
            return None
        day = int(t[index] // DAY)
        since = day * DAY - HOUR
        seen_before = index > 0 and t[index - 1] >= since
        return day if seen_before or process.start >= since else None

    def per_day(self, times: Mapping[int, Sequence[float]]) -> list[int]:
        """Events (by index of their process) counted into days; what came before the first midnight is left out."""
        counts = [0] * DAYS
        for index, moments in times.items():
            for at in moments:
                day = self.day_of(self.processes[index], at)
                if day is not None and day >= 0:
                    counts[day] += 1
        return counts

    def expected(self) -> dict[str, list[int]]:
        """Whole numbers by day, from the events alone."""
        lives = list(enumerate(self.processes))
        found = {
            "scheduled": self.per_day({i: p.scheduled for i, p in lives}),
            "rotations": self.per_day({i: [*p.scheduled, *(at for at, _ in p.rotations)] for i, p in lives}),
            "reconnects": self.per_day({i: [at for at, _ in p.reconnects] for i, p in lives}),
            "pongs": self.per_day({i: p.pongs for i, p in lives}),
            "handovers": self.per_day({i: [a for a, _ in p.writes] for i, p in lives}),
        }
        restarts = [0] * DAYS
        for instance in self.instances:
            mine = sorted((p for p in self.processes if p.instance == instance), key=lambda p: p.start)
            seen: float | None = None
            for process in mine:
                t = self.of(process)
                if len(t):
                    # A life before it is known if it was scraped within the hour before that day, or in the day.
                    if seen is not None and t[0] >= 0 and seen >= (t[0] // DAY) * DAY - HOUR:
                        restarts[int(t[0] // DAY)] += 1
                    seen = float(t[-1])
        return found | {"restarts": restarts}

    # The samples

    def received(self, process: Process, t: Array) -> Array:
        """Messages since its start at each time: whole ones."""
        grid = np.arange(0.0, process.end - process.start + 2.0)
        at = process.start + grid
        rate = process.rate * (1.0 + 0.5 * np.sin(2 * np.pi * at / DAY))
        for a, b in process.quiet:
            rate[(at >= a) & (at < b)] = 2.0
        total = np.concatenate([[0.0], np.cumsum(rate)])[:-1]
        counted: Array = np.floor(np.interp(t - process.start, grid, total))
        return counted

    def series(self, process: Process) -> Iterator[tuple[str, dict[str, str], Array, Array]]:
        """Name, labels, times, values."""
        t = self.of(process)
        labels = {"job": "ingest", "instance": process.instance, "slot": process.slot}

        def counter(times: Sequence[float]) -> Array:
            return np.searchsorted(np.sort(np.asarray(times)), t, side="right").astype(np.float64)

        def held(intervals: Sequence[tuple[float, float]]) -> NDArray[np.bool_]:
            flags = np.zeros(len(t), dtype=np.bool_)
            for a, b in intervals:
                flags |= (t >= a) & (t < b)
            return flags

        rng = np.random.default_rng([self.seed, int(process.start * 1000) % 2**32])
        noise = 6.0 * np.abs(np.sin(t / 900.0)) + rng.uniform(0, 2, len(t))
        rss = np.rint((process.rss + process.leak * (t - process.start) / DAY + noise) * MB)
        yield "process_start_time_seconds", labels, t, np.full(len(t), self.origin + process.start)
        yield "process_resident_memory_bytes", labels, t, rss
        yield "ingest_build_info", {**labels, "version": process.version, "revision": "abc"}, t, np.ones(len(t))
        yield "ingest_messages_received_total", labels, t, self.received(process, t)
        writing = held(process.writes)
        yield "ingest_writer_active", labels, t, writing.astype(np.float64)
        last: Array = np.where(writing, t - 0.1, 0.0).astype(np.float64)
        for a, b in process.stalled:
            last = np.where((t >= a) & (t < b), a, last)
        for _, b in process.writes:
            last = np.where((t >= b) & (last == 0.0), b, last)
        yield "ingest_last_commit_timestamp_seconds", labels, t, np.where(last > 0, self.origin + last, 0.0)
        yield "ingest_handovers_total", labels, t, counter([a for a, _ in process.writes])
        for reason in REASONS:
            values = counter([at for at, why in process.reconnects if why == reason])
            keep = values > 0 if process.lazy else np.ones(len(t), dtype=np.bool_)
            if keep.any():
                yield "binance_reconnects_total", {**labels, "reason": reason}, t[keep], values[keep]
        for reason in ROTATIONS:
            unusual = [at for at, why in process.rotations if why == reason]
            times = process.scheduled if reason == "scheduled" else unusual
            yield "binance_connection_rotations_total", {**labels, "reason": reason}, t, counter(times)
        yield "binance_pongs_total", labels, t, counter(process.pongs)
        open_now = np.zeros(len(t))
        for _, a, b in process.connections:
            open_now += (t >= a) & (t < b)
        yield "binance_connections_live", labels, t, open_now
        for name in ("g0.0a", "g0.0b"):
            mine = [(a, b) for other, a, b in process.connections if other == name]
            age, status, pong = np.zeros(len(t)), np.zeros(len(t)), np.full(len(t), np.nan)
            for a, b in mine:
                inside = (t >= a) & (t < b)
                age[inside], status[inside] = t[inside] - a, 1.0
                known = t >= a + PING
                pong[known] = a + PING * np.floor((np.minimum(t[known], b) - a) / PING)
            yield "binance_connection_age_seconds", {**labels, "connection": name}, t, np.round(age, 3)
            yield "binance_connection_status", {**labels, "connection": name}, t, status
            stamp: Array = np.where(np.isnan(pong), 0.0, self.origin + pong).astype(np.float64)
            yield "binance_last_pong_timestamp_seconds", {**labels, "connection": name}, t, np.round(stamp, 3)
        for at, symbol in enumerate(self.symbols):
            share = np.floor(self.received(process, t) / (at + 2))
            yield "binance_messages_received_total", {**labels, "symbol": symbol}, t, share
            writes = share if process.writes else np.zeros(len(t))
            yield "ingest_trades_committed_total", {**labels, "symbol": symbol}, t, writes
        for name in (
            "ingest_voids_total", "ingest_gaps_found_total", "ingest_gaps_filled_total",
            "ingest_duplicates_dropped_total", "binance_pong_timeouts_total",
        ):  # fmt: skip
            extra = {"reason": "exchange_hole"} if name == "ingest_voids_total" else {}
            yield name, labels | extra, t, np.zeros(len(t))

    def targets(self) -> Iterator[tuple[str, dict[str, str], Array, Array]]:
        """``up``: a target is known to Prometheus whether it answers or not."""
        for instance in self.instances:
            mine = [process for process in self.processes if process.instance == instance]
            t = self.scrapes(instance)
            alive = np.zeros(len(t))
            for process in mine:
                alive[np.isin(t, self.of(process))] = 1.0
            yield "up", {"job": "ingest", "instance": instance, "slot": mine[0].slot}, t, alive

    def about(self, rules: str) -> Iterator[tuple[str, dict[str, str], Array, Array]]:
        """What Prometheus says of itself; its rules are evaluated while it runs."""
        t = self.scrapes("localhost:9090")
        own = {"job": "prometheus", "instance": "localhost:9090"}
        group = own | {"rule_group": f"{rules};ingest"}
        start = np.asarray(self.prometheus_starts)[np.searchsorted(self.prometheus_starts, t, side="right") - 1]
        evaluated = np.floor((t - start) / 15.0)
        yield "process_start_time_seconds", own, t, self.origin + start
        yield "prometheus_rule_group_interval_seconds", group, t, np.full(len(t), 15.0)
        yield "prometheus_rule_group_iterations_total", group, t, evaluated
        yield "prometheus_rule_group_iterations_missed_total", group, t, np.zeros(len(t))
        yield "prometheus_rule_evaluation_failures_total", group, t, np.zeros(len(t))
        stamps = self.origin + start + 15.0 * evaluated
        yield "prometheus_rule_group_last_evaluation_timestamp_seconds", group, t, stamps
        for name, severity, a, b in self.alerts:
            at = np.arange(np.ceil(a / 15.0) * 15.0, b, 15.0)
            labels = {"alertname": name, "alertstate": "firing", "severity": severity, "instance": "blue:9095"}
            yield "ALERTS", labels, at, np.ones(len(at))

    def write(self, folder: Path, rules: str) -> list[Path]:
        """One OpenMetrics file for each day (the hour before the first with it)."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [
            *self.targets(),
            *self.about(rules),
            *(row for process in self.processes for row in self.series(process)),
        ]
        paths = []
        for day in range(DAYS):
            path = folder / f"{FIRST + timedelta(days=day)}.om"
            with path.open("w", encoding="utf-8") as file:
                for name, labels, t, v in rows:
                    low = -HOUR if day == 0 else day * DAY
                    keep = (t >= low) & (t < (day + 1) * DAY)
                    text = name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "} "
                    times = (self.origin + t[keep]).tolist()
                    file.writelines(
                        f"{text}{value!r} {at:.3f}\n" for value, at in zip(v[keep].tolist(), times, strict=True)
                    )
                file.write("# EOF\n")
            paths.append(path)
        return paths


class LoadedPrometheus(Prometheus):
    """A Prometheus that scrapes nothing and already knows the eight days."""

    def __init__(self, directory: Path, world: EightDays) -> None:
        super().__init__(directory, {}, retention="100y")
        self.world = world
        self.rules = directory / "rules.yml"

    def load(self) -> None:
        """Turn the days into blocks, by ``promtool``. Raises ``PrometheusUnavailable`` or ``CalledProcessError``."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.rules.write_text(RULES, encoding="utf-8")
        program = shutil.which("promtool")
        if program is None:
            return  # start() says what to install
        for path in self.world.write(self.directory / "openmetrics", str(self.rules)):
            subprocess.run(
                [program, "tsdb", "create-blocks-from", "--max-block-duration=54h", "openmetrics", "-q", str(path),
                 str(self.directory / "data")],
                check=True, capture_output=True,
            )  # fmt: skip
            path.unlink()

    def _configuration(self) -> object:
        base: Any = super()._configuration()
        return {**base, "scrape_configs": [], "rule_files": [str(self.rules)]}


def calm(step: float = 15.0, symbols: int = 3, days: int = DAYS) -> EightDays:
    """Nothing happens for eight days."""
    life = Process(
        "blue:9095", "blue", -10 * HOUR, days * DAY + HOUR, "v1", writes=[(-10 * HOUR + 2, days * DAY + HOUR)]
    )
    return EightDays([life], step=step, symbols=tuple(f"SYM{at}USDT" for at in range(symbols)))


def eventful(step: float = 15.0, symbols: int = 3) -> EightDays:
    """Restarts, a hand-over, missing hours, a day without data, a reconnect that is born at one.

    Day 0: calm. Day 1: blue restarts at noon by a crash, with a reconnect before and one after, so that its counter
    comes back at the value it had. Day 2: hand-over to green, a new version; blue stays until the evening. Day 3:
    nobody scraped. Day 4: a reconnect as the first increment of a child. Day 5: three hours are missing. Day 6: an
    alert of one sample, seven quiet minutes, a stall. Day 7: calm.
    """
    noon1, handover = DAY + 12 * HOUR, 2 * DAY + 10 * HOUR
    end = DAYS * DAY + HOUR
    first = Process(
        "blue:9095", "blue", -10 * HOUR, noon1, "v1", writes=[(-10 * HOUR + 2, noon1)],
        reconnects=[(DAY + 6 * HOUR, "connection_lost")],
    )  # fmt: skip
    second = Process(
        "blue:9095", "blue", noon1 + 20, 2 * DAY + 20 * HOUR, "v1", writes=[(noon1 + 22, handover)],
        reconnects=[(noon1 + 22, "connection_lost")],
    )  # fmt: skip
    green = Process(
        "green:9095", "green", handover - HOUR, end, "v2", writes=[(handover, end)],
        reconnects=[(4 * DAY + 7 * HOUR, "closed_by_exchange")], rotations=[(5 * DAY + 2 * HOUR, "server_shutdown")],
        quiet=[(6 * DAY + 15 * HOUR, 6 * DAY + 15 * HOUR + 420)],
        stalled=[(6 * DAY + 18 * HOUR, 6 * DAY + 18 * HOUR + 300)], lazy=True,
    )  # fmt: skip
    return EightDays(
        [first, second, green],
        step=step,
        symbols=tuple(f"SYM{at}USDT" for at in range(symbols)),
        holes=[(3 * DAY, 4 * DAY), (5 * DAY + 9 * HOUR, 5 * DAY + 12 * HOUR)],
        alerts=[("NoWriter", "page", 6 * DAY + 18 * HOUR + 30, 6 * DAY + 18 * HOUR + 40)],
    )
