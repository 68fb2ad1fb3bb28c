"""``ingest audit --every SECONDS``: the same audit again and again, its figures served to Prometheus.

Each figure is that of the last audit, which reads the whole topic: gauges, not counters. A figure of an audit that
could not judge would be a guess: then they keep the last judged values, and the verdict says INCONCLUSIVE.
"""

import logging
import threading
from collections.abc import Callable
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge

from ingest.audit.run import Outcome, Verdict
from ingest.command.terminal import one_line

log = logging.getLogger(__name__)

VERDICTS = get_args(Verdict)


class Figures:
    """What the last audit found, as metrics on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._verdict = Gauge(
            "ingest_audit_verdict", "1 for the verdict of the last audit.", ("verdict",), registry=self.registry
        )
        for verdict in VERDICTS:
            self._verdict.labels(verdict).set(0)
        self._missing = self._gauge("missing_trades", "Trades of the exchange that the topic lacks.")
        self._duplicated = self._gauge("duplicated_trades", "Trades that the topic has more than once.")
        self._faults = self._gauge("other_faults", "Trades altered, reordered, unknown, scattered or unaccounted for.")
        self._verified = self._gauge("verified_trades", "Trades found in the topic and held against the exchange.")
        self._records = self._gauge("records", "Records read by the last audit.")
        self._seconds = self._gauge("duration_seconds", "Duration of the last audit.")
        self._timestamp = self._gauge("last_timestamp_seconds", "When the last audit that could judge ended.")

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"ingest_audit_{name}", text, registry=self.registry)

    def show(self, outcome: Outcome, now: float) -> None:
        """Take an outcome. ``now``: seconds since 1970."""
        for verdict in VERDICTS:
            self._verdict.labels(verdict).set(1 if verdict == outcome.verdict else 0)
        self._records.set(outcome.records)
        self._seconds.set(outcome.seconds)
        if outcome.verdict == "INCONCLUSIVE":
            return
        totals = outcome.totals
        self._missing.set(totals.missing)
        self._duplicated.set(totals.duplicated)
        self._faults.set(totals.violations - totals.missing - totals.duplicated)
        self._verified.set(totals.committed)
        self._timestamp.set(now)


def watch(
    audit: Callable[[], Outcome],
    figures: Figures,
    *,
    every: float,
    stopping: threading.Event,
    now: Callable[[], float],
) -> Outcome | None:
    """Audit at once and then every so many seconds until ``stopping``; returns the last outcome."""
    outcome = None
    while not stopping.is_set():
        began = now()
        outcome = audit()
        figures.show(outcome, now())
        log.info("audit: %s: %s", outcome.verdict, one_line(outcome.reason))
        stopping.wait(max(1.0, every - (now() - began)))
    return outcome
