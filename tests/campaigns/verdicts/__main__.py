"""The whole matrix of verdicts with known truth: product, truth and rate; ``make verdicts``.

Memory: every family of series, with leaks of 0 to 4 times the limit, by the code that judges soaks. The leak alert as
deployed. Inputs, weeks, gates and alerts: the scenarios of the test suites named below, each with its right value.
Versions that are really deployed have a matrix of their own, ``make deploy-drill`` (half an hour): the outcome of its
last run, if it was with these sources, is one row here. Writes ``verdicts.json`` and
``verdicts.md``. Ends with 0 only if no verdict is wrong beyond the stated rates.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ingest_ops.render.files import write_json
from ingest_ops.soak import calibration
from ingest_ops.soak.error_rates import FamilyRates, Rates
from ingest_ops.soak.plan import PLANS
from tests.campaigns.verdicts.deployments import deployments
from tests.campaigns.verdicts.row import Row
from tests.harness.leak_score import judge_alert
from tests.harness.processes import ROOT

UNIT, INTEGRATION = "tests/unit/ingest_ops", "tests/integration"
SUITES: dict[str, tuple[str, ...]] = {
    "soak: growth of known shapes": (f"{UNIT}/common/test_growth.py",),
    "soak: inputs removed, thinned, renamed, doubled, shifted": (f"{UNIT}/soak/test_inputs.py",),
    "seven days: scenarios": (
        f"{UNIT}/validation/test_week_truth.py",
        f"{UNIT}/validation/test_checks.py",
        f"{UNIT}/validation/test_exchange_counts.py",
    ),
    "seven days: inputs removed, thinned, renamed, doubled, shifted": (
        f"{UNIT}/validation/test_week_inputs.py",
        f"{UNIT}/validation/test_symbol_counts.py",
    ),
    "gates: good and bad pairs, inputs removed ... shifted": (
        f"{UNIT}/deployment/test_gate_evaluation.py",
        f"{UNIT}/deployment/test_gate_evaluation_inputs.py",
        f"{UNIT}/deployment/test_status_gates.py",
    ),
    "gates: false refusals and misses on simulated pairs": (f"{UNIT}/deployment/test_gate_evaluation_rates.py",),
    "audit on a schedule: what is shown before, after and between audits": ("tests/unit/ingest/audit/test_watch.py",),
    "alerts: fires, quiet, no data, gone, flapping, restarts": (f"{INTEGRATION}/deploy/test_rules.py",),
}
LEAK_ALERT_WRONG = 0.02


def memory(series: int, plans: Sequence[str], processes: int) -> tuple[list[Row], Rates]:
    """The families of each plan."""
    rates = calibration.measure(series, calibration.RECORDING, plans, processes)
    rows = []
    for name in plans:
        sys.stdout.write(calibration.table(rates, PLANS[name]) + "\n\n")
        found = [one for one in rates.of(name).families() if one.promised]
        wrong = [f"{one.family}: {_rates(one)}" for one in found if one.beyond_chance]
        rows.append(Row(f"soak {name}: families of series", len(found), wrong, "; ".join(rates.of(name).summary())))
    return rows, rates


def _rates(one: FamilyRates) -> str:
    return f"false PASS {one.false_pass:.1%}, at the limit {one.at_limit:.1%}, false FAIL {one.false_fail:.1%}"


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
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-m", "", "-p", "no:cacheprovider"]
        code = subprocess.run([*command, f"--junitxml={report}", *paths], cwd=ROOT, check=False).returncode
        cases = list(ElementTree.parse(report).iter("testcase")) if report.exists() else []  # noqa: S314 - our own file
    wrong = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    if code not in (0, 1) or not cases:
        wrong.append(f"pytest ended with {code}")
    if skipped := sum(case.find("skipped") is not None for case in cases):
        wrong.append(f"{skipped} could not be tried here")
    return Row(part, len(cases), wrong)


def page(rows: Sequence[Row], rates: Rates, command: str, seconds: float) -> str:
    """The table as Markdown."""
    lines = ["# Verdicts against known truth\n", f"`{command}`: {sum(len(row.wrong) for row in rows)} wrong beyond the "
             f"stated rates, {seconds:.0f} s, {rates.series} series a family and leak.\n",
             "| part | cases | wrong | |\n| --- | --- | --- | --- |"]  # fmt: skip
    lines += [f"| {row.part} | {row.cases} | {len(row.wrong)} | {row.note} |" for row in rows]
    lines += [f"- WRONG {one}" for row in rows for one in row.wrong]
    for name in dict.fromkeys(cell.plan for cell in rates.cells):
        lines.append(f"\n```text\n{calibration.table(rates, PLANS[name])}\n```")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run the matrix; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.verdicts", description=__doc__)
    parser.add_argument("--series", type=int, default=100, help="series of each family and leak (default: %(default)s)")
    parser.add_argument("--plan", action="append", choices=("24h", "12h", "1h"), help="repeatable (default: all three)")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="default: %(default)s")
    parser.add_argument("--reports", type=Path, default=ROOT / "reports" / "verdicts")
    options = parser.parse_args()
    begun = time.monotonic()
    rows, rates = memory(options.series, options.plan or ["24h", "12h", "1h"], options.processes)
    rows.append(leak_alert(max(4, options.series // 2)))
    rows += [suite(part, paths) for part, paths in SUITES.items()]
    rows.append(deployments())
    sys.stdout.write(f"\n{'part':62}{'cases':>7}{'wrong':>7}\n")
    for row in rows:
        sys.stdout.write(f"{row.part:62}{row.cases:>7}{len(row.wrong):>7}  {row.note}\n")
        sys.stdout.writelines(f"    WRONG {one}\n" for one in row.wrong)
    wrong = sum(len(row.wrong) for row in rows)
    options.reports.mkdir(parents=True, exist_ok=True)
    seconds, command = time.monotonic() - begun, f"make verdicts SERIES={options.series}"
    data: dict[str, Any] = {
        "command": command,
        "exit_code": 1 if wrong else 0,
        "seconds": round(seconds),
        "wrong": wrong,
    }
    data |= {"rows": [asdict(row) for row in rows], "rates": rates.as_json()}
    write_json(options.reports / "verdicts.json", data, indent=1)
    (options.reports / "verdicts.md").write_text(page(rows, rates, command, seconds), encoding="utf-8")
    sys.stdout.write(f"{wrong} wrong beyond the stated rates; {seconds:.0f} s\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
