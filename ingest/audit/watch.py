"""``ingest audit --every SECONDS``: the same audit again and again, its figures served to Prometheus.

Each figure is that of the last audit: gauges, not counters. A figure of an audit that could not judge would be a guess:
then they keep the last judged values, and the verdict says INCONCLUSIVE. Before the first audit that could judge there
are no figures: a zero would say that nothing is missing.

An audit of the newest hours does not see an older fault any more. Beside the figures it is therefore shown from when on
the audit covers the topic (``covers_from_timestamp_seconds``), and before when no fault of it was written
(``faults_from_timestamp_seconds``). The alerts hold a fault until an audit that covers it finds nothing.
"""

import logging
import threading
from collections.abc import Callable
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.process_collector import ProcessCollector

from ingest.audit.run import Outcome, Verdict
from ingest.command.terminal import one_line

log = logging.getLogger(__name__)

VERDICTS = get_args(Verdict)


FIGURES = {
    "missing_trades": "Trades of the exchange that the topic lacks.",
    "duplicated_trades": "Trades that the topic has more than once.",
    "other_faults": "Trades altered, reordered, unknown, scattered or unaccounted for.",
    "verified_trades": "Trades found in the topic and held against the exchange.",
    "last_timestamp_seconds": "When the last audit that could judge ended.",
    "covers_from_timestamp_seconds": "When the oldest record that the last audit judged was written; 0: all records.",
    "faults_from_timestamp_seconds": "No fault of the last audit was written before; absent without a fault.",
}
"""Of the last audit that could judge."""


class Figures:
    """What the last audit found, as metrics on a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._verdict = Gauge(
            "ingest_audit_verdict", "1 for the verdict of the last audit.", ("verdict",), registry=self.registry
        )
        for verdict in VERDICTS:
            self._verdict.labels(verdict).set(0)
        self._records = self._gauge("records", "Records read by the last audit.")
        self._seconds = self._gauge("duration_seconds", "Duration of the last audit.")
        self._judged: dict[str, Gauge] = {}
        """Made when they are first set: a gauge is 0 from its birth on."""
        self._clean_since: float | None = None
        """When the last audit began, if it found nothing: no fault was written before."""

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"ingest_audit_{name}", text, registry=self.registry)

    def show(self, outcome: Outcome, now: float, began: float | None = None) -> None:
        """Take an outcome. ``now`` and ``began``: seconds since 1970, the audit's end and its begin."""
        for verdict in VERDICTS:
            self._verdict.labels(verdict).set(1 if verdict == outcome.verdict else 0)
        self._records.set(outcome.records)
        self._seconds.set(outcome.seconds)
        if outcome.verdict == "INCONCLUSIVE":
            return
        totals = outcome.totals
        values = {
            "missing_trades": totals.missing,
            "duplicated_trades": totals.duplicated,
            "other_faults": totals.violations - totals.missing - totals.duplicated,
            "verified_trades": totals.committed,
            "last_timestamp_seconds": now,
            "covers_from_timestamp_seconds": outcome.covers_from,
        }
        for name, value in values.items():
            self._set(name, value)
        self._show_fault(outcome, now if began is None else began)

    def _set(self, name: str, value: float) -> None:
        if name not in self._judged:
            self._judged[name] = self._gauge(name, FIGURES[name])
        self._judged[name].set(value)

    def _show_fault(self, outcome: Outcome, began: float) -> None:
        if outcome.totals.violations:
            self._set("faults_from_timestamp_seconds", max(outcome.covers_from, self._clean_since or 0.0))
            self._clean_since = None
            return
        if (gauge := self._judged.pop("faults_from_timestamp_seconds", None)) is not None:
            self.registry.unregister(gauge)
        self._clean_since = began


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
        figures.show(outcome, now(), began)
        log.info("audit: %s: %s", outcome.verdict, one_line(outcome.reason))
        stopping.wait(max(1.0, every - (now() - began)))
    return outcome
