"""The whole matrix of verdicts with known truth: product, truth and rate; ``make verdicts``.

Memory: every family of series, with leaks of 0 to 4 times the limit, by the code that judges soaks. The leak alert as
deployed. Inputs, weeks and alerts: the scenarios of the test suites named below, each with its right value. Deployments
have a matrix of their own: ``make deploy-drill``. Ends with 0 only if no verdict is wrong beyond the stated rates.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import comb
from pathlib import Path

import pytest

from ingest_ops.render.files import write_json
from ingest_ops.soak import calibration
from ingest_ops.soak.error_rates import PROMISE, FamilyRates, Rates
from ingest_ops.soak.plan import PLANS
from tests.harness.leak_score import judge_alert
from tests.harness.processes import ROOT

SUITES = {
    "soak: growth of known shapes": ["tests/unit/ingest_ops/common/test_growth.py"],
    "soak: inputs removed, thinned, renamed, doubled, shifted": ["tests/unit/ingest_ops/soak/test_inputs.py"],
    "seven days: scenarios and inputs": [
        "tests/unit/ingest_ops/validation/test_week_truth.py",
        "tests/unit/ingest_ops/validation/test_checks.py",
    ],
    "alerts: fires, quiet, no data, gone, flapping, restart": ["tests/integration/deploy/test_rules.py"],
}
CHANCE = 0.001
"""A family may show more wrong verdicts than promised, by chance, in so small a share of runs."""
LEAK_ALERT_WRONG = 0.02


@dataclass
class Row:
    """One part of the matrix."""

    part: str
    cases: int
    wrong: list[str] = field(default_factory=list)
    note: str = ""


class Outcomes:
    """Collects the outcome of each test."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test."""
        if report.failed:
            self.failed.append(report.nodeid)
        if report.when == "call" or (report.when == "setup" and not report.passed):
            self.counts[report.outcome] += 1


def allowed(series: int) -> int:
    """How many wrong verdicts of ``series`` the promised rate explains but for a chance of one in a thousand."""
    tail, count = 1.0, 0
    while tail > CHANCE:
        tail -= comb(series, count) * PROMISE**count * (1 - PROMISE) ** (series - count)
        count += 1
    return count - 1


def memory(series: int, plans: Sequence[str]) -> tuple[list[Row], Rates]:
    """The families of each plan."""
    rates = calibration.measure(series, calibration.RECORDING, plans)
    rows = []
    for name in plans:
        sys.stdout.write(calibration.table(rates, PLANS[name]) + "\n\n")
        found = [one for one in rates.of(name).families() if one.promised]
        wrong = [f"{one.family}: {_rates(one)}" for one in found if max(one.false_pass, one.false_fail) * series
                 > allowed(series)]  # fmt: skip
        rows.append(Row(f"soak {name}: families of series", len(found), wrong, "; ".join(rates.of(name).summary())))
    return rows, rates


def _rates(one: FamilyRates) -> str:
    return f"false PASS {one.false_pass:.1%}, false FAIL {one.false_fail:.1%}"


def leak_alert(series: int) -> Row:
    """The alert as deployed, holds included."""
    fired = judge_alert(series, 1)
    wrong = [
        f"{kind}: fires in {share:.0%}, truth {'leak' if leaks else 'no leak'}"
        for kind, share, leaks in fired
        if (1 - share if leaks else share) > LEAK_ALERT_WRONG
    ]
    return Row("leak alert as deployed: kinds of series", len(fired), wrong, f"{series} series of six hours each")


def suite(part: str, paths: Sequence[str]) -> Row:
    """The scenarios of test files: each has its right value."""
    outcomes = Outcomes()
    code = pytest.main(["-q", "--no-header", "-m", "", "-p", "no:cacheprovider", *paths], plugins=[outcomes])
    wrong = [*outcomes.failed]
    if code not in (0, 1):
        wrong.append(f"pytest ended with {code}")
    if skipped := outcomes.counts["skipped"]:
        wrong.append(f"{skipped} could not be tried here")
    return Row(part, sum(outcomes.counts.values()), wrong)


def main() -> int:
    """Run the matrix; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.verdicts", description=__doc__)
    parser.add_argument("--series", type=int, default=60, help="series of each family and leak")
    parser.add_argument(
        "--plan", action="append", choices=("24h", "12h", "1h"), help="repeatable (default: 24h and 1h)"
    )
    parser.add_argument("--reports", type=Path, default=ROOT / "reports" / "verdicts")
    options = parser.parse_args()
    begun = time.monotonic()
    rows, rates = memory(options.series, options.plan or ["24h", "1h"])
    rows.append(leak_alert(max(4, options.series // 10)))
    rows += [suite(part, paths) for part, paths in SUITES.items()]
    sys.stdout.write(f"\n{'part':62}{'cases':>7}{'wrong':>7}\n")
    for row in rows:
        sys.stdout.write(f"{row.part:62}{row.cases:>7}{len(row.wrong):>7}  {row.note}\n")
        sys.stdout.writelines(f"    WRONG {one}\n" for one in row.wrong)
    wrong = sum(len(row.wrong) for row in rows)
    options.reports.mkdir(parents=True, exist_ok=True)
    data = {"rows": [asdict(row) for row in rows], "rates": rates.as_json(), "wrong": wrong}
    write_json(options.reports / "verdicts.json", json.loads(json.dumps(data)), indent=1)
    sys.stdout.write(f"{wrong} wrong beyond the stated rates; {time.monotonic() - begun:.0f} s\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
