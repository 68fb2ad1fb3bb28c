"""A day as data: raw samples, packed small enough to be kept for years, and nothing that was derived from them."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

VERSION = 1
PARTS = ("series", "alerts", "about")
MOST_BYTES = 512 * 2**20
"""More text than a file of ours inflates to."""
LOOK_BACK = 3600.0
"""Seconds before the day that are read, too: what a counter's first increment of the day is measured from."""


class BadDay(ValueError):
    """The data is no day."""


@dataclass(frozen=True)
class Raw:
    """One series: its labels (name included), and samples by time, without doubles. Times in seconds since 1970."""

    labels: Mapping[str, str]
    t: Array
    v: Array

    @property
    def name(self) -> str:
        """The metric's name."""
        return self.labels.get("__name__", "")

    @property
    def instance(self) -> str:
        """The process that exposed it, whatever its restarts: its scrape address."""
        return self.labels.get("instance", "")

    def with_samples(self, t: Array, v: Array) -> "Raw":
        """The same series with other samples."""
        return Raw(self.labels, t, v)


@dataclass(frozen=True, kw_only=True)
class Day:
    """Everything that was read for one UTC day (and the hour before it)."""

    date: date
    scrape_seconds: float
    series: tuple[Raw, ...] = ()
    """What the service exposed, and ``up``."""
    alerts: tuple[Raw, ...] = ()
    """``ALERTS`` that were firing."""
    about: tuple[Raw, ...] = ()
    """What the watchers exposed: Prometheus its rule evaluations and its own start, the auditor what it found."""
    symbols: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """By symbol: ``received`` and ``committed``, counted from raw samples like everything else; ``exchange``, what the
    exchange counted itself, if it was asked in time."""
    rules: tuple[Mapping[str, Any], ...] = ()
    """The alert rules that Prometheus had loaded: name, severity, group, seconds between evaluations."""
    rules_sha256: str = ""
    prometheus: str = ""
    """Prometheus's version."""

    @property
    def start(self) -> float:
        """Midnight, seconds since 1970."""
        return midnight(self.date)

    @property
    def end(self) -> float:
        """The midnight after it."""
        return self.start + 86_400.0

    @property
    def samples(self) -> int:
        """How much was read: the greater of two readings of a day is the more complete one."""
        return sum(len(one.t) for part in (self.series, self.about) for one in part)


def midnight(day: date) -> float:
    """Its beginning in UTC, seconds since 1970."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def days_until(end: date, count: int) -> list[date]:
    """``count`` days, the last of them ``end``."""
    return [end - timedelta(days=back) for back in range(count - 1, -1, -1)]


def pack(day: Day) -> bytes:
    """The day as gzipped JSON; the same day gives the same bytes."""
    clocks: dict[bytes, int] = {}
    times: list[list[int]] = []
    parts: dict[str, list[dict[str, Any]]] = {}
    for part in PARTS:
        rows = parts.setdefault(part, [])
        for one in sorted(getattr(day, part), key=lambda raw: sorted(raw.labels.items())):
            millis = np.rint(one.t * 1000).astype(np.int64)
            key = millis.tobytes()
            if key not in clocks:
                clocks[key] = len(times)
                times.append([*millis[:1].tolist(), *np.diff(millis).tolist()])
            rows.append({"labels": dict(sorted(one.labels.items())), "clock": clocks[key], "values": _runs(one.v)})
    data = {
        "kind": "validation-day",
        "version": VERSION,
        "date": day.date.isoformat(),
        "scrape_seconds": float(day.scrape_seconds),
        "prometheus": day.prometheus,
        "rules_sha256": day.rules_sha256,
        "rules": [dict(rule) for rule in day.rules],
        "symbols": {name: dict(day.symbols[name]) for name in sorted(day.symbols)},
        "clocks": times,
        **parts,
    }
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return gzip.compress(text.encode(), compresslevel=6, mtime=0)


def unpack(raw: bytes) -> Day:
    """The day of ``pack``. Raises ``BadDay`` for anything else."""
    try:
        data = json.loads(_inflated(raw))
        if data["kind"] != "validation-day" or data["version"] != VERSION:
            raise BadDay(f"kind {data['kind']!r}, version {data['version']!r}")
        clocks = [np.cumsum(np.asarray(deltas, dtype=np.int64)) / 1000 for deltas in data["clocks"]]
        parts = {
            part: tuple(_series(row["labels"], clocks[row["clock"]], row["values"]) for row in data[part])
            for part in PARTS
        }
        return Day(
            date=date.fromisoformat(data["date"]),
            scrape_seconds=float(data["scrape_seconds"]),
            **parts,
            symbols=data["symbols"],
            rules=tuple(data["rules"]),
            rules_sha256=data["rules_sha256"],
            prometheus=data["prometheus"],
        )
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        ArithmeticError,
        RecursionError,
        zlib.error,
    ) as error:
        if isinstance(error, BadDay):
            raise
        raise BadDay(f"no day: {error!r}") from error


def _runs(values: Array) -> list[float | int]:
    """Value, length, value, length: most series stand still."""
    flat: list[float | int] = []
    for value, same in groupby(values.tolist()):
        flat += [int(value) if value == int(value) else value, sum(1 for _ in same)]
    return flat


def _series(labels: Mapping[str, str], t: Array, flat: Sequence[float]) -> Raw:
    lengths = np.asarray(flat[1::2], dtype=np.int64)
    # Before it is made: a length may be any number.
    if not isinstance(labels, dict) or (lengths < 0).any() or sum(lengths.tolist()) != len(t):
        raise BadDay("a series whose times and values do not match")
    return Raw(labels, t, np.repeat(np.asarray(flat[0::2], dtype=np.float64), lengths))


def _inflated(raw: bytes) -> bytes:
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    text = inflater.decompress(raw, MOST_BYTES)
    if not inflater.eof or inflater.unused_data:
        raise BadDay(f"damaged, or more than {MOST_BYTES} bytes")
    return text


@dataclass
class Collector:
    """Puts a series together from chunks that may overlap; keeps the samples of ``[start, end)``."""

    start: float
    end: float
    _parts: dict[tuple[tuple[str, str], ...], list[tuple[Array, Array]]] = field(default_factory=dict)

    def add(self, labels: Mapping[str, str], samples: Iterable[Sequence[Any]]) -> None:
        """Add one chunk of a series, as Prometheus gives it: ``[seconds, "value"]``. Drops what is not finite."""
        rows = [(float(at), float(value)) for at, value in samples]
        block = np.asarray(rows, dtype=np.float64).reshape(-1, 2)
        t, v = block[:, 0], block[:, 1]
        keep = (t >= self.start) & (t < self.end) & np.isfinite(v)
        if keep.any():
            self._parts.setdefault(tuple(sorted(labels.items())), []).append((t[keep].copy(), v[keep].copy()))

    def series(self) -> Iterable[Raw]:
        """Every series, in order of time, the samples on the chunks' borders once."""
        for labels, parts in sorted(self._parts.items()):
            t = np.concatenate([part[0] for part in parts])
            v = np.concatenate([part[1] for part in parts])
            t, first = np.unique(t, return_index=True)
            yield Raw(dict(labels), t, v[first])

    @classmethod
    def around(cls, day: date) -> Self:
        """For a day and the hour before it."""
        start = midnight(day)
        return cls(start - LOOK_BACK, start + 86_400.0)


def sha256(raw: bytes) -> str:
    """The digest as reports show it."""
    return hashlib.sha256(raw).hexdigest()
