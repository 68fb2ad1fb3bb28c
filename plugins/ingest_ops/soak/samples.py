"""One reading of the service: which series are read, and how an exposition or a query becomes a flat row of numbers."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families


@dataclass(frozen=True)
class Field:
    """A column of the samples: the series with this name, added up, or one column for each value of ``by``."""

    name: str
    series: str
    counter: bool = False
    by: str = ""
    label: tuple[str, str] | None = None


def _gauge(name: str, series: str) -> Field:
    return Field(name, series)


def _counter(name: str, series: str, by: str = "") -> Field:
    return Field(name, series, counter=True, by=by)


FIELDS: tuple[Field, ...] = (
    _gauge("rss", "process_resident_memory_bytes"),
    _gauge("vms", "process_virtual_memory_bytes"),
    _gauge("started", "process_start_time_seconds"),
    _gauge("heap", "ingest_heap_objects"),
    _gauge("descriptors", "ingest_open_descriptors"),
    _gauge("tasks", "ingest_tasks"),
    _gauge("buffered", "ingest_buffered_trades"),
    _gauge("held", "ingest_held_trades"),
    _gauge("queue", "ingest_producer_queue_messages"),
    _gauge("leak_score", "memory_leak_detection_score"),
    _gauge("loop_lag", "ingest_event_loop_lag_seconds"),
    _gauge("healthy", "ingest_healthy"),
    _gauge("writer_active", "ingest_writer_active"),
    _gauge("gaps_open", "ingest_gaps_open"),
    _gauge("connections", "binance_connections_live"),
    _gauge("last_commit", "ingest_last_commit_timestamp_seconds"),
    _counter("cpu", "process_cpu_seconds_total"),
    _counter("received", "ingest_messages_received_total"),
    _counter("committed", "ingest_trades_committed_total"),
    _counter("commits", "ingest_commits_total"),
    _counter("aborts", "ingest_aborts_total"),
    _counter("drops", "binance_reconnects_total", by="reason"),
    _counter("rotations", "binance_connection_rotations_total", by="reason"),
    _counter("rotation_failures", "binance_rotation_failures_total"),
    _counter("pongs", "binance_pongs_total"),
    _counter("pong_timeouts", "binance_pong_timeouts_total"),
    _counter("duplicates", "ingest_duplicates_dropped_total"),
    _counter("gaps_found", "ingest_gaps_found_total"),
    _counter("gaps_filled", "ingest_gaps_filled_total"),
    _counter("backfilled", "ingest_trades_backfilled_total"),
    _counter("shed", "ingest_trades_shed_total"),
    _counter("voids", "ingest_voids_total", by="reason"),
    _counter("rejected", "ingest_rejected_total", by="reason"),
    _counter("recycles", "ingest_producer_recycles_total", by="reason"),
    _counter("producer_errors", "ingest_producer_errors_total"),
    Field("errors", "ingest_log_events_total", counter=True, by="level"),
)
CHILD_LABELS = frozenset({"__name__", "symbol", "reason", "level"})
"""Labels that the service itself gives to these series; all others come from the scrape and name the target."""
COUNTERS = frozenset(one.name for one in FIELDS if one.counter)
REQUIRED = ("rss", "received")
"""Without these a sample cannot be judged and counts as missing."""


@dataclass(frozen=True)
class Sample:
    """The columns at one moment (``at``: seconds since 1970). A column whose series is absent is absent."""

    at: float
    values: Mapping[str, float] = field(default_factory=dict)

    def get(self, name: str) -> float | None:
        """The column, or ``None`` where the service did not expose it."""
        return self.values.get(name)

    @property
    def complete(self) -> bool:
        """Whether it can be judged."""
        return all(name in self.values for name in REQUIRED)

    def as_json(self) -> dict[str, Any]:
        """A flat row; whole numbers without a decimal point."""
        return {"at": round(self.at, 3)} | {
            name: int(value) if value == int(value) else round(value, 6) for name, value in self.values.items()
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """The sample of a stored row."""
        return cls(float(row["at"]), {name: float(value) for name, value in row.items() if name != "at"})


Series = tuple[str, Mapping[str, str], float]
"""Name with suffix, labels, value."""


def from_series(at: float, series: Iterable[Series]) -> Sample:
    """Add the known series up into columns. Values that are not finite are left out."""
    wanted = {one.series: one for one in FIELDS}
    values: dict[str, float] = {}
    for name, labels, value in series:
        column = wanted.get(name)
        if column is None or not math.isfinite(value):
            continue
        key = f"{column.name}.{labels.get(column.by, '')}" if column.by else column.name
        values[key] = values.get(key, 0.0) + value
    return Sample(at, values)


def from_exposition(at: float, text: str) -> Sample:
    """Parse a /metrics response into a sample. Raises ``ValueError`` if it is not Prometheus text."""
    return from_series(at, _series(text))


def build_labels(text: str) -> dict[str, str]:
    """The labels of ``ingest_build_info``: version and revision of what was running."""
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            if one.name == "ingest_build_info":
                return dict(one.labels)
    return {}


def _series(text: str) -> Iterator[Series]:
    for family in text_string_to_metric_families(text):
        for one in family.samples:
            yield one.name, one.labels, one.value


def columns(samples: Sequence[Sample], prefix: str) -> list[str]:
    """The columns of a labelled field that occur, e.g. ``drops.tls``."""
    return sorted({name for one in samples for name in one.values if name.startswith(prefix + ".")})


def increase(samples: Sequence[Sample], name: str) -> float:
    """What a counter counted from the first sample to the last, through restarts: a fall begins again at 0.

    A labelled child that appears later began at 0.
    """
    if not samples:
        return 0.0
    total, before = 0.0, samples[0].values.get(name, 0.0)
    for one in samples[1:]:
        now = one.values.get(name)
        if now is None:
            continue
        total += now - before if now >= before else now
        before = now
    return total


def increase_by(samples: Sequence[Sample], prefix: str) -> dict[str, int]:
    """``increase`` of each child of a labelled counter, as whole numbers, by the label's value."""
    return {name.split(".", 1)[1]: round(increase(samples, name)) for name in columns(samples, prefix)}


def restarts(samples: Sequence[Sample]) -> int:
    """How often the process was another one than in the sample before."""
    starts = [start for one in samples if (start := one.get("started")) is not None]
    return sum(abs(now - before) > 1.0 for before, now in pairwise(starts))
