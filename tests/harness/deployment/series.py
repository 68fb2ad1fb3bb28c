"""Series of a healthy pair of slots, as Prometheus would return them, with values and faults to inject."""

import re
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ingest.metrics import RECONNECT_REASONS, REJECT_REASONS
from ingest_ops.deployment.declared_children import DECLARED
from ingest_ops.deployment.prometheus import NoAnswer, Sampled

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
_SELECTOR = re.compile(r'(?P<metric>\w+)\{slot="(?P<slot>\w+)"(?P<more>.*)\}')

Value = Callable[[float, str], float]
"""Of the seconds since the origin and the slot."""


def flat(value: float) -> Value:
    return lambda _t, _slot: value


def counter(rate: float) -> Value:
    return lambda t, _slot: float(round(max(0.0, t) * rate))


HEALTHY: dict[str, tuple[Value, str, tuple[str, ...]]] = {
    "up": (flat(1.0), "", ()),
    "ingest_container_running": (flat(1.0), "", ()),
    "process_start_time_seconds": (flat(1000.0), "", ()),
    "ingest_healthy": (flat(1.0), "", ()),
    "ingest_messages_received_total": (counter(250.0), "", ()),
    "process_resident_memory_bytes": (flat(120.0 * 2**20), "", ()),
    "ingest_log_events_total": (flat(0.0), "level", ("ERROR", "CRITICAL")),
    "ingest_shadow_mismatch_total": (flat(0.0), "", ()),
    "ingest_shadow_compared_total": (counter(240.0), "", ()),
    "ingest_shadow_unreadable_total": (flat(0.0), "", ()),
    "ingest_shadow_never_received_total": (flat(0.0), "", ()),
    "ingest_shadow_never_committed_total": (flat(0.0), "", ()),
    "binance_reconnects_total": (flat(1.0), "reason", RECONNECT_REASONS),
    "ingest_gaps_found_total": (flat(2.0), "", ()),
    "binance_messages_received_total": (counter(80.0), "symbol", SYMBOLS),
    "ingest_trades_committed_total": (counter(78.0), "symbol", SYMBOLS),
    "process_cpu_seconds_total": (lambda t, _slot: t * 0.2, "", ()),
    "ingest_exchange_to_commit_seconds_sum": (lambda t, _slot: t * 10 * 0.12, "", ()),
    "ingest_exchange_to_commit_seconds_count": (lambda t, _slot: t * 10, "", ()),
    "ingest_exchange_to_commit_seconds_bucket": (lambda t, _slot: t * 10, "", ()),
    "ingest_gap_oldest_seconds": (flat(0.0), "", ()),
    "ingest_symbols_frozen": (flat(0.0), "", ()),
    "binance_stalls_total": (flat(0.0), "scope", ("connection", "symbol")),
    "ingest_rejected_total": (flat(0.0), "reason", REJECT_REASONS),
    "ingest_producer_errors_total": (flat(0.0), "", ()),
    "ingest_aborts_total": (flat(0.0), "", ()),
    "ingest_voids_total": (flat(0.0), "reason", tuple(DECLARED["ingest_voids_total"])),
    "ingest_trades_shed_total": (flat(0.0), "", ()),
    "binance_rest_weight_total": (counter(0.5), "", ()),
    "ingest_writer_active": (lambda _t, slot: float(slot == "green"), "", ()),
    "ingest_handover_seconds": (flat(0.3), "", ()),
}
"""Metric -> value, child label, children."""


@dataclass
class Series:
    """A Prometheus with scripted series. ``change`` transforms what a selector returns."""

    scrape: float = 15.0
    origin: float = 0.0
    values: dict[str, float] = field(default_factory=dict)
    """Part of a metric's name -> the constant value of the candidate's series."""
    functions: dict[tuple[str, str], Value] = field(default_factory=dict)
    """(metric, slot) -> value."""
    missing: set[str] = field(default_factory=set)
    change: Callable[[str, str, list[Sampled]], list[Sampled]] = lambda _metric, _slot, series: series
    asked: list[str] = field(default_factory=list)
    silent: bool = False
    candidate: str = "green"
    """The slot that ``values`` are about; empty: both."""

    def value(self, query: str, at: float) -> list[float]:
        if self.silent or any(part in query for part in self.missing):
            return []
        return [1.0]

    def series(self, selector: str, start: float, end: float) -> list[Sampled]:
        self.asked.append(selector)
        if self.silent:
            raise NoAnswer("connection refused")
        match = _SELECTOR.fullmatch(selector)
        assert match is not None, selector
        metric, slot = match["metric"], match["slot"]
        if any(part in metric for part in self.missing):
            return []
        value, label, children = HEALTHY[metric]
        value = self.functions.get((metric, slot), value)
        if self.candidate in ("", slot):
            value = next((flat(v) for part, v in self.values.items() if part in metric), value)
        made = [
            Sampled(
                {"__name__": metric, "slot": slot, "job": "ingest", **({label: child} if label else {})},
                [(at, value(at - self.origin, slot)) for at in self._times(slot, start, end)],
            )
            for child in children or ("",)
        ]
        return [one for one in self.change(metric, slot, made) if one.samples]

    def _times(self, slot: str, start: float, end: float) -> Iterable[float]:
        """Scrapes after ``start`` up to ``end``; each slot has an offset of its own, as in the real one."""
        offset = zlib.crc32(slot.encode()) % 1000 / 1000 * self.scrape
        first = int((start - offset) // self.scrape) + 1
        last = int((end - offset) // self.scrape)
        return [offset + n * self.scrape for n in range(first, last + 1)]
