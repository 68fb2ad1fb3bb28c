"""The audit on a schedule: what Prometheus is shown of it."""

import threading
from collections.abc import Callable
from dataclasses import replace

from ingest.audit.check_base import Totals
from ingest.audit.run import Outcome
from ingest.audit.watch import Figures, watch


def value(figures: Figures, name: str, **labels: str) -> float | None:
    return figures.registry.get_sample_value(f"ingest_audit_{name}", labels)


def clean() -> Outcome:
    return Outcome("PASS", "clean", Totals(ledger=10, committed=10), records=12, seconds=0.5)


def faulty() -> Outcome:
    totals = Totals(ledger=10, committed=8, missing=2, duplicated=1, altered=3)
    return Outcome("FAIL", "6 violations", totals, records=12, seconds=0.5)


def test_figures_are_those_of_the_last_audit() -> None:
    figures = Figures()
    assert value(figures, "verdict", verdict="PASS") == 0
    figures.show(faulty(), 1000.0)
    assert [value(figures, n) for n in ("missing_trades", "duplicated_trades", "other_faults")] == [2, 1, 3]
    assert value(figures, "verdict", verdict="FAIL") == 1
    figures.show(clean(), 2000.0)
    assert [value(figures, n) for n in ("missing_trades", "duplicated_trades", "other_faults")] == [0, 0, 0]
    assert value(figures, "verdict", verdict="FAIL") == 0
    assert value(figures, "verified_trades") == 10
    assert value(figures, "last_timestamp_seconds") == 2000.0


def test_a_restart_of_the_auditor_can_be_seen() -> None:
    """By the alert MonitoringWatcherRestarts, which counts changes of the start time."""
    assert (Figures().registry.get_sample_value("process_start_time_seconds") or 0) > 0


def test_an_audit_that_cannot_judge_changes_no_figure_but_the_verdict() -> None:
    figures = Figures()
    figures.show(faulty(), 1000.0)
    figures.show(Outcome(reason="no broker"), 2000.0)
    assert value(figures, "missing_trades") == 2
    assert value(figures, "last_timestamp_seconds") == 1000.0
    assert value(figures, "verdict", verdict="INCONCLUSIVE") == 1


def test_before_the_first_verdict_there_are_no_figures() -> None:
    """A restarted auditor must not say that nothing is missing."""
    figures = Figures()
    names = ("missing_trades", "duplicated_trades", "other_faults", "verified_trades", "last_timestamp_seconds")
    assert [value(figures, name) for name in names] == [None] * 5
    figures.show(Outcome(reason="no broker"), 1000.0)
    assert [value(figures, name) for name in names] == [None] * 5
    figures.show(clean(), 2000.0)
    assert None not in [value(figures, name) for name in names]


def test_a_fault_cannot_be_older_than_the_last_clean_audit_nor_than_what_was_read() -> None:
    figures = Figures()
    figures.show(replace(faulty(), covers_from=500.0), 1000.0, 990.0)
    assert value(figures, "faults_from_timestamp_seconds") == 500.0
    figures.show(replace(clean(), covers_from=600.0), 2000.0, 1990.0)
    assert value(figures, "faults_from_timestamp_seconds") is None
    assert value(figures, "covers_from_timestamp_seconds") == 600.0
    figures.show(replace(faulty(), covers_from=700.0), 3000.0, 2990.0)
    assert value(figures, "faults_from_timestamp_seconds") == 1990.0
    figures.show(replace(faulty(), covers_from=800.0), 4000.0, 3990.0)
    assert value(figures, "faults_from_timestamp_seconds") == 800.0, "it was not clean before"


def test_it_goes_on_until_it_is_told_to_stop() -> None:
    stopping = threading.Event()
    outcomes: list[Callable[[], Outcome]] = [faulty, clean]

    def audit() -> Outcome:
        if len(outcomes) == 1:
            stopping.set()
        return outcomes.pop(0)()

    last = watch(audit, Figures(), every=0.0, stopping=stopping, now=lambda: 0.0)
    assert last is not None
    assert last.verdict == "PASS"
    assert not outcomes
