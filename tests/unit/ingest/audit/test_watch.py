"""The audit on a schedule: what Prometheus is shown of it."""

import threading
from collections.abc import Callable

from ingest.audit.checks import Totals
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


def test_an_audit_that_cannot_judge_changes_no_figure_but_the_verdict() -> None:
    figures = Figures()
    figures.show(faulty(), 1000.0)
    figures.show(Outcome(reason="no broker"), 2000.0)
    assert value(figures, "missing_trades") == 2
    assert value(figures, "last_timestamp_seconds") == 1000.0
    assert value(figures, "verdict", verdict="INCONCLUSIVE") == 1


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
