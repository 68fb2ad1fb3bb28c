"""Days made in memory, from the same worlds that the real Prometheus gets; no Prometheus needed."""

import re
from collections.abc import Iterable, Iterator
from datetime import date, timedelta

import numpy as np

from ingest_ops.common.verdict import Verdict
from ingest_ops.validation.day import LOOK_BACK, Array, Day, Raw, midnight
from ingest_ops.validation.day_reader import PROMETHEUS_METRICS, SERVICE_METRICS
from ingest_ops.validation.evidence import Audit, Evidence
from tests.harness.production_week import FIRST, RULES, EightDays

RULES_FILE = "/rules.yml"
Row = tuple[str, dict[str, str], Array, Array]


def raw(name: str, t: Iterable[float], v: Iterable[float], **labels: str) -> Raw:
    """A series by hand."""
    made = {"__name__": name, "job": "ingest", "instance": "blue:9095", "slot": "blue"} | labels
    return Raw(made, np.asarray([*t], dtype=np.float64), np.asarray([*v], dtype=np.float64))


def rules() -> tuple[dict[str, object], ...]:
    """The rules of the generated Prometheus, as its API gives them."""
    pairs = re.findall(r"alert: (\w+)\n.*\n\s+labels: {severity: (\w+)}", RULES)
    return tuple(
        {"name": name, "severity": severity, "group": f"{RULES_FILE};ingest", "interval": 15.0, "query": "", "for": 0}
        for name, severity in sorted(pairs)
    )


def day_of(world: EightDays, index: int) -> Day:
    """One day of a world, cut as the source cuts it."""
    when = FIRST + timedelta(days=index)
    start = midnight(when) - LOOK_BACK
    end = midnight(when) + 86_400

    def cut(rows: Iterable[tuple[str, dict[str, str], Array, Array]], names: Iterable[str]) -> Iterator[Raw]:
        wanted = set(names)
        for name, labels, t, v in rows:
            at = np.round(world.origin + t, 3)
            keep = (at >= start) & (at < end)
            if name in wanted and keep.any() and "symbol" not in labels:
                yield Raw({"__name__": name, **labels}, at[keep], v[keep])

    services, about = _rows(world)
    merged: dict[tuple[tuple[str, str], ...], list[Raw]] = {}
    for one in cut(services, SERVICE_METRICS):
        merged.setdefault(tuple(sorted(one.labels.items())), []).append(one)
    return Day(
        date=when,
        scrape_seconds=world.step,
        series=tuple(_joined(parts) for parts in merged.values()),
        alerts=tuple(cut(about, ["ALERTS"])),
        about=tuple(cut(about, PROMETHEUS_METRICS)),
        symbols={"BTCUSDT": {"received": 10, "committed": 9, "silent": 60}},
        rules=rules(),
        rules_sha256="0" * 64,
        prometheus="2.42.0",
    )


_ROWS: dict[int, tuple[EightDays, list[Row], list[Row]]] = {}


def _rows(world: EightDays) -> tuple[list[Row], list[Row]]:
    """All series of a world, made once. The world is kept with them, so that its id is not used again."""
    if id(world) not in _ROWS:
        services = [*world.targets(), *(row for process in world.processes for row in world.series(process))]
        _ROWS[id(world)] = world, services, [*world.about(RULES_FILE)]
    return _ROWS[id(world)][1:]


def _joined(parts: list[Raw]) -> Raw:
    t = np.concatenate([one.t for one in parts])
    order = np.argsort(t)
    return Raw(parts[0].labels, t[order], np.concatenate([one.v for one in parts])[order])


def evidence(days: int = 8, **totals: int) -> Evidence:
    """A clean audit after each day, or one with faults."""
    counts = {"missing": 0, "duplicated": 0, "committed": 1_000_000} | totals
    verdict = Verdict.FAIL if any(totals.values()) else Verdict.PASS
    audits = tuple(
        Audit(
            f"audit/{FIRST + timedelta(days=at)}.json",
            midnight(FIRST + timedelta(days=at + 1)) + 600,
            verdict,
            "",
            counts,
            covers=(midnight(FIRST + timedelta(days=at)) - 7200, midnight(FIRST + timedelta(days=at + 1)) + 600),
            symbols=frozenset({"BTCUSDT", "ETHUSDT", "A"}),
        )
        for at in range(days)
    )
    return Evidence(audits, (), {})


def dates(first: int, last: int) -> tuple[date, ...]:
    """Days of the world by their numbers, both included."""
    return tuple(FIRST + timedelta(days=at) for at in range(first, last + 1))
