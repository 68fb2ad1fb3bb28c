"""``make faults``: rows 1 to 21 of the fault table, each audited; a table, and reports/faults/.

``ROWS=2,13`` plays some of them, ``TIMES`` how often each fault is injected (each row has its own default).
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingest_ops.common.verdict import Verdict
from ingest_ops.render import Code, Column, Fact, Page, Section, Table, envelope, write_report
from tests.campaigns.faults import tls
from tests.campaigns.faults.environment import FaultEnvironment
from tests.campaigns.faults.rows import ROWS, Played, play
from tests.harness import ending
from tests.harness.kafka import KafkaBroker
from tests.harness.registry import Registry

ROOT = Path(__file__).resolve().parents[3]
HEAD = f"{'row':>4} {'fault':46} {'times':>5} {'p50 s':>7} {'p99 s':>7} {'REST':>5}  audit"


def main() -> int:
    """Play the rows; returns the exit code."""
    ending.by_signal()
    wanted = {int(number) for number in (os.environ.get("ROWS") or "").split(",") if number}
    times = int(os.environ["TIMES"]) if os.environ.get("TIMES") else None
    directory = Path(tempfile.mkdtemp(prefix="k2-faults-"))
    done: list[dict[str, Any]] = []
    sys.stdout.write(f"{HEAD}\n")
    try:
        with KafkaBroker(directory / "kafka") as broker, Registry() as registry:
            if not wanted or 8 in wanted:
                _say(done, 8, "certificates that must be refused", tls.play(directory / "tls"))
            rows = [row for row in ROWS if not wanted or row.number in wanted]
            if rows:
                with FaultEnvironment(directory, broker, registry) as field:
                    for row in rows:
                        try:
                            played = play(field, row, times)
                        except (AssertionError, TimeoutError) as error:
                            played = Played(problems=[str(error).splitlines()[0]])
                            field.fault("clear")
                        _say(done, row.number, row.title, played)
    finally:
        if all(not row["problems"] for row in done):
            shutil.rmtree(directory, ignore_errors=True)
        else:
            sys.stdout.write(f"logs are in {directory}\n")
    paths = _report(done)
    good = bool(done) and all(not row["problems"] for row in done)
    sys.stdout.write(f"{'PASS' if good else 'FAIL'}: {paths['html'].relative_to(ROOT)}\n")
    return 0 if good else 1


def _spread(seconds: Sequence[float]) -> tuple[float | None, float | None]:
    ordered = sorted(seconds)
    if not ordered:
        return None, None
    last = len(ordered) - 1
    return round(ordered[round(0.5 * last)], 3), round(ordered[round(0.99 * last)], 3)


def _say(done: list[dict[str, Any]], number: int, title: str, played: Played) -> None:
    p50, p99 = _spread(played.recoveries)
    wrong = {
        name: count
        for name, count in played.audit.items()
        if count and name in ("missing", "duplicated", "reordered", "altered", "false_void", "unaccounted", "position")
    }
    row = {
        "row": number,
        "fault": title,
        "times": len(played.recoveries),
        "recovery_p50_s": p50,
        "recovery_p99_s": p99,
        "rest_calls": played.rest_calls,
        "committed": played.audit.get("committed", 0),
        "voids": played.audit.get("voids", 0),
        "wrong": wrong,
        "note": played.note,
        "problems": played.problems,
    }
    done.append(row)
    verdict = "clean" if not played.problems else "; ".join(played.problems)
    shown = [f"{value:7.2f}" if value is not None else f"{'-':>7}" for value in (p50, p99)]
    note = f"  ({played.note})" if played.note else ""
    sys.stdout.write(
        f"{number:4} {title:46.46} {len(played.recoveries):5} {shown[0]} {shown[1]} {played.rest_calls:5}  "
        f"{verdict[:160]}{note}\n"
    )
    sys.stdout.flush()


def _report(done: list[dict[str, Any]]) -> dict[str, Path]:
    done = sorted(done, key=lambda row: row["row"])
    failed = [row for row in done if row["problems"]]
    reasons = [f"row {row['row']}, {row['fault']}: {problem}" for row in failed for problem in row["problems"]]
    verdict = Verdict.FAIL if failed else Verdict.PASS if done else Verdict.INCONCLUSIVE
    command = "make faults"
    columns: list[str | Column] = [
        Column("Row", numeric=True), "Fault", Column("Times", numeric=True), Column("Recovery p50 s", numeric=True),
        Column("p99 s", numeric=True), Column("REST calls", numeric=True), "Audit", "Besides",
    ]  # fmt: skip
    rows = [
        [
            row["row"], row["fault"], row["times"], row["recovery_p50_s"], row["recovery_p99_s"], row["rest_calls"],
            Verdict.FAIL if row["problems"] else Verdict.PASS, row["note"] or "; ".join(row["problems"])[:200],
        ]
        for row in done
    ]  # fmt: skip
    page = Page(
        kind="faults",
        title="Faults between exchange and service, row by row",
        verdict=verdict,
        summary=reasons[0]
        if reasons
        else f"{sum(row['times'] for row in done)} faults in {len(done)} rows: every audit clean.",
        reasons=reasons,
        coverage=[Fact("Rows", len(done)), Fact("Faults", sum(row["times"] for row in done))],
        sections=[
            Section(
                "Rows",
                [
                    Table(
                        columns,
                        rows,
                        caption="Recovery: from the end of the injection until everything that the exchange had made "
                        "by then was committed.",
                    )
                ],
            )
        ],
        facts=[Fact("Made by", Code(command))],
        generated_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    data = {**envelope(page, run_id="faults", schema_version=1), "rows": done}
    return write_report(ROOT / "reports" / "faults", "faults", data, page)


if __name__ == "__main__":
    sys.exit(main())
