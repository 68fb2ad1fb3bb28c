"""``make chaos-cluster``: rows 23 to 30 and 35 with brokers of their own kind; a table, and reports/chaos/.

``ROWS=23,26`` plays some of them, ``TIMES`` (3) says how often each broker is killed.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ingest_ops.common.verdict import Verdict
from ingest_ops.render import Code, Column, Fact, Page, Section, Table, envelope, write_report
from tests.campaigns.brokers import disk
from tests.campaigns.brokers.environment import BrokerEnvironment
from tests.campaigns.brokers.rows import (
    Row,
    access_rows,
    cluster_rows,
    edge_rows,
    one_broker,
    play_all,
    secured,
    three_brokers,
    tiny_disk,
)
from tests.campaigns.faults.rows import Played
from tests.harness import ending

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "reports" / "chaos"
HEAD = f"{'row':>4} {'fault':58} {'times':>5} {'p50 s':>7} {'max s':>7}  verdict"
AUDITED = ("missing", "duplicated", "reordered", "altered", "false_void", "unaccounted", "position")
SECONDS = 95.0
"""How long refused credentials are watched."""

Ground = Callable[[Path], Any]


def grounds(times: int) -> list[tuple[str, set[int], Ground]]:
    """Name, rows, and a context that gives the site with its rows."""

    @contextmanager
    def trio(directory: Path) -> Iterator[tuple[BrokerEnvironment, list[Row]]]:
        with three_brokers(directory) as (site, stage):
            yield site, cluster_rows(stage, times)

    @contextmanager
    def tiny(directory: Path) -> Iterator[tuple[BrokerEnvironment, list[Row]]]:
        with tiny_disk(directory) as (site, broker, small):
            row: Row = (
                24, "the broker's disk is full, and has room again", "first commit within 10 s of the restart",
                lambda: disk.play(site, broker, small),
            )  # fmt: skip
            yield site, [row]

    @contextmanager
    def secure(directory: Path) -> Iterator[tuple[BrokerEnvironment, list[Row]]]:
        with secured(directory) as (site, broker, acls, canary):
            yield site, access_rows(site, broker, acls, canary, SECONDS)

    @contextmanager
    def edge(directory: Path) -> Iterator[tuple[BrokerEnvironment, list[Row]]]:
        with one_broker(directory, "edges") as site:
            yield site, edge_rows(site)

    return [
        ("three brokers", {23}, trio),
        ("a tiny disk", {24}, tiny),
        ("TLS, SCRAM and ACLs", {26, 27}, secure),
        ("one broker", {25, 28, 29, 30, 35}, edge),
    ]


def main() -> int:
    """Play; returns the exit code."""
    ending.by_signal()
    wanted = {int(number) for number in (os.environ.get("ROWS") or "").split(",") if number}
    directory = Path(tempfile.mkdtemp(prefix="k2-brokers-"))
    done: list[dict[str, Any]] = []
    audits: list[dict[str, Any]] = []
    began = time.monotonic()
    sys.stdout.write(f"{HEAD}\n")
    for name, numbers, ground in grounds(int(os.environ.get("TIMES") or 3)):
        if wanted and not numbers & wanted:
            continue
        with ground(directory / name.replace(" ", "-").replace(",", "")) as (site, rows):
            chosen = [row for row in rows if not wanted or row[0] in wanted]
            totals, problems = play_all(site, chosen, lambda *row: _say(done, *row))
        audits.append({"ground": name, "totals": totals, "problems": problems})
        wrong = {key: totals[key] for key in AUDITED if totals.get(key)}
        sys.stdout.write(f"     {name}: {totals['committed']:,} trades audited: {wrong or 'clean'} {problems or ''}\n")
    paths, good = _report(done, audits, time.monotonic() - began)
    if good:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        sys.stdout.write(f"logs are in {directory}\n")
    sys.stdout.write(f"{'PASS' if good else 'FAIL'}: {paths['html'].relative_to(ROOT)}\n")
    return 0 if good else 1


def _say(done: list[dict[str, Any]], number: int, title: str, criterion: str, played: Played) -> None:
    ordered = sorted(played.recoveries)
    middle = round(ordered[len(ordered) // 2], 2) if ordered else None
    most = round(ordered[-1], 2) if ordered else None
    done.append(
        {
            "row": number, "fault": title, "criterion": criterion, "times": len(ordered), "recovery_p50_s": middle,
            "recovery_max_s": most, "note": played.note, "problems": played.problems,
        }
    )  # fmt: skip
    shown = [f"{value:7.2f}" if value is not None else f"{'-':>7}" for value in (middle, most)]
    verdict = "; ".join(played.problems) if played.problems else f"good{f'  ({played.note})' if played.note else ''}"
    sys.stdout.write(f"{number:4} {title:58.58} {len(ordered):5} {shown[0]} {shown[1]}  {verdict[:200]}\n")
    sys.stdout.flush()


def _report(
    done: list[dict[str, Any]], audits: list[dict[str, Any]], seconds: float
) -> tuple[dict[str, Path], bool]:  # fmt: skip
    reasons = [f"row {row['row']}, {row['fault']}: {problem}" for row in done for problem in row["problems"]]
    reasons += [f"{audit['ground']}: {problem}" for audit in audits for problem in audit["problems"]]
    verdict = Verdict.FAIL if reasons else Verdict.PASS if done else Verdict.INCONCLUSIVE
    trades = sum(audit["totals"]["committed"] for audit in audits)
    columns: list[str | Column] = [
        Column("Row", numeric=True), "Fault", "Criterion", Column("Times", numeric=True),
        Column("p50 s", numeric=True), Column("max s", numeric=True), "Verdict", "Besides",
    ]  # fmt: skip
    rows = [
        [
            row["row"], row["fault"], row["criterion"], row["times"], row["recovery_p50_s"], row["recovery_max_s"],
            Verdict.FAIL if row["problems"] else Verdict.PASS, row["note"] or "; ".join(row["problems"])[:200],
        ]
        for row in done
    ]  # fmt: skip
    books = [
        [audit["ground"], audit["totals"]["committed"], *(audit["totals"][n] for n in AUDITED)] for audit in audits
    ]
    page = Page(
        kind="chaos",
        title="Brokers of their own kind, row by row",
        verdict=verdict,
        summary=reasons[0] if reasons else f"{len(done)} faults, {trades:,} trades: every audit clean.",
        reasons=reasons,
        coverage=[Fact("Faults", len(done)), Fact("Trades", trades), Fact("Duration", f"{seconds:.0f} s")],
        sections=[
            Section(
                "Rows",
                [
                    Table(
                        columns, rows,
                        caption="Seconds: row 23, the longest pause that a consumer saw in any partition, restart "
                        "included; else from the end of the fault to the next trade that is committed.",
                    )
                ],
            ),
            Section(
                "Audits",
                [Table(["Brokers", *(Column(n, numeric=True) for n in ("committed", *AUDITED))], books)],
            ),
        ],
        facts=[Fact("Made by", Code("make chaos-cluster"))],
        generated_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )  # fmt: skip
    data = {**envelope(page, run_id="cluster", schema_version=1), "rows": done, "audits": audits}
    return write_report(FOLDER, "cluster", data, page), verdict is Verdict.PASS


if __name__ == "__main__":
    sys.exit(main())
