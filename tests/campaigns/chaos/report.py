"""A chaos run as a report: verdict, faults by kind with recovery times, and the seed that plays it again."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ingest_ops.common.verdict import Verdict
from ingest_ops.render import (
    Chart,
    Code,
    Column,
    Details,
    Fact,
    Facts,
    Page,
    Section,
    Series,
    Table,
    envelope,
    write_report,
)
from ingest_ops.render.model import Cell
from tests.campaigns.chaos.faults import BY_NAME, ROLES_TELL
from tests.campaigns.chaos.runner import Injected, Outcome

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "reports" / "chaos"
VERSION = 1


LEAST_FOR_P99 = 100
"""Of fewer values the 99th percentile is the greatest one, or its neighbour."""


def spread(seconds: Sequence[float]) -> dict[str, float | None]:
    """p50, maximum, and p99 of a hundred values or more."""
    if not seconds:
        return {"p50": None, "p99": None, "max": None}
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))], 3)

    p99 = at(0.99) if len(ordered) >= LEAST_FOR_P99 else None
    return {"p50": at(0.5), "p99": p99, "max": round(ordered[-1], 3)}


def recoveries(injected: Sequence[Injected]) -> Chart:
    """Each fault as a dot: when it struck, seconds since the start, and how long until the next visible trade."""
    groups: dict[str, list[tuple[float, float | None]]] = {}
    for one in sorted(injected, key=lambda one: one.at):
        if one.recovery is not None:
            groups.setdefault(BY_NAME[one.name].group or "other", []).append((one.at, one.recovery))
    return Chart(
        "Recovery after each fault",
        unit="s",
        series=[Series(f"{name}, {len(points)}", points, "dots") for name, points in sorted(groups.items())],
        x="number",
        x_unit="s",
        note="From the fault, or from its end where nothing can be committed before, to the next trade that a consumer "
        "sees. Faults overlap: a slow one counts for all around it.",
    )


def by_kind(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Fault -> row, how often, recovery; a fault of one instance is listed by the role of that instance."""
    kinds: dict[str, list[Injected]] = {}
    away = _broker_faults(outcome.injected)
    for title, one in sorted(
        ((_title(one, away), one) for one in outcome.injected),
        key=lambda pair: (BY_NAME[pair[1].name].row or 99, pair[0]),
    ):
        kinds.setdefault(title, []).append(one)
    return {
        title: {
            "row": BY_NAME[ones[0].name].row or None,
            "injected": len(ones),
            "recovery_s": spread([one.recovery for one in ones if one.recovery is not None]),
        }
        for title, ones in kinds.items()
    }


def _title(one: Injected, away: Sequence[tuple[float, float]]) -> str:
    if BY_NAME[one.name].act not in ROLES_TELL:
        return one.name
    if one.alone:
        return f"{one.name}, the writer, alone"
    if not one.wrote:
        return f"{one.name}, the standby"
    return f"{one.name}, the writer{', while Kafka is away' if _during(one, away) else ''}"


def _broker_faults(injected: Sequence[Injected]) -> list[tuple[float, float]]:
    """When Kafka was away or slow: from each fault of that kind until it was over and something was committed."""
    return [
        (one.struck, (one.ended or one.struck) + (one.recovery or 0.0))
        for one in injected
        if BY_NAME[one.name].group == "broker"
    ]


def _during(one: Injected, spans: Sequence[tuple[float, float]]) -> bool:
    end = one.struck + (one.recovery or 0.0)
    return any(began < end and one.struck < over for began, over in spans)


def _crashes(injected: Sequence[Injected]) -> dict[str, list[float]]:
    """Seconds from a SIGKILL of the writer to the next commit: while nothing else was broken, and among faults."""
    killed = [one for one in injected if one.name == "kill" and one.wrote]
    return {
        "alone": [one.recovery for one in killed if one.alone and one.recovery is not None],
        "beside": [one.recovery for one in killed if not one.alone and one.recovery is not None],
    }


def summary(outcome: Outcome) -> dict[str, Any]:
    """The figures."""
    totals = outcome.audit["totals"]
    faults = [one for one in outcome.injected if not one.alone]
    recoveries = [one.recovery for one in faults if one.recovery is not None]
    crashes = _crashes(outcome.injected)
    return {
        "seed": outcome.seed,
        "faults": len(faults),
        "trades": totals["ledger"],
        "committed": totals["committed"],
        "lost": totals["missing"],
        "duplicated": totals["duplicated"],
        "reordered": totals["reordered"],
        "altered": totals["altered"],
        "voids": totals["voids"],
        "recovery_s": spread(recoveries),
        "crash_to_first_commit_s": spread(crashes["alone"]),
        "crashes": len(crashes["alone"]),
        "crash_to_first_commit_beside_other_faults_s": spread(crashes["beside"]),
        "rss_max_bytes": outcome.rss,
        "rest_weight": outcome.rest_weight,
        "rest_429_caused": outcome.rest_429,
        "seconds": round(outcome.seconds, 1),
        **({"streams": streams(outcome)} if outcome.streams else {}),
    }


STREAM_COUNTS = (
    "committed", "breaks", "undeclared_break", "false_break", "missing", "duplicated", "reordered", "altered",
    "snapshots", "snapshot", "crossed",
)  # fmt: skip


def streams(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """What the auditor counts of each stream besides trades."""
    return {
        name: {"verdict": audit["verdict"], **{count: audit["totals"][count] for count in STREAM_COUNTS}}
        for name, audit in outcome.streams.items()
    }


def _streams(outcome: Outcome) -> list[Section]:
    if not outcome.streams:
        return []
    columns: list[str | Column] = ["Stream", "Verdict"]
    columns += [Column(name.replace("_", " "), numeric=True) for name in STREAM_COUNTS]
    found = streams(outcome)
    rows: list[list[Cell]] = [[name, *one.values()] for name, one in found.items()]
    return [Section("Other streams", [Table(columns, rows)])]


def write(outcome: Outcome, command: str, run_id: str) -> dict[str, Path]:
    """Write JSON, HTML and Markdown to reports/chaos/; returns the paths."""
    figures, kinds = summary(outcome), by_kind(outcome)
    crash = figures["crash_to_first_commit_s"]
    verdict = Verdict.PASS if outcome.passed else Verdict.FAIL
    rows: list[list[Cell]] = [
        [
            name,
            kind["row"],
            kind["injected"],
            *(kind["recovery_s"][key] for key in ("p50", "p99", "max")),
        ]
        for name, kind in kinds.items()
    ]
    damage = [[name, figures[name]] for name in ("lost", "duplicated", "reordered", "altered", "voids")]
    page = Page(
        kind="chaos",
        title=f"Chaos, seed {outcome.seed}",
        verdict=verdict,
        summary=outcome.problems[0]
        if outcome.problems
        else f"{figures['faults']:,} faults, {figures['committed']:,} trades: none lost, doubled, swapped or altered.",
        reasons=outcome.problems,
        coverage=[
            Fact("Faults", figures["faults"]),
            Fact("Kinds", len({one.name for one in outcome.injected})),
            Fact("Trades", figures["trades"]),
            Fact("Duration", f"{outcome.seconds:.0f} s"),
        ],
        sections=[
            Section("Trades", [Table(["Audit", Column("Trades", numeric=True)], damage)]),
            *_streams(outcome),
            Section("Faults by kind", [recoveries(outcome.injected), _kinds(rows)]),
            Section(
                "Bounds",
                [
                    Facts(
                        [
                            Fact("Resident memory at most", f"{outcome.rss / 2**20:.0f} MB"),
                            Fact("REST weight used", figures["rest_weight"]),
                            Fact("REST calls beyond the limit", figures["rest_429_caused"]),
                            Fact("SIGKILL of the writer, all else being well: times", figures["crashes"]),
                            Fact("to the first commit, p50 s", crash["p50"]),
                            Fact("p99 s", crash["p99"]),
                            Fact("max s", crash["max"]),
                        ]
                    )
                ],
            ),
        ],
        facts=[Fact("Seed", outcome.seed), Fact("Made by", Code(command))],
        generated_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
    data = {
        **envelope(page, run_id=run_id, schema_version=VERSION),
        **figures,
        "problems": outcome.problems,
        "kinds": kinds,
        "schedule": [
            {
                "at": round(one.at, 3),
                "name": one.name,
                "options": one.options,
                "wrote": one.wrote,
                "recovery_s": _rounded(one.recovery),
            }
            for one in outcome.injected
        ],
        "exits": outcome.exits,
    }
    return write_report(FOLDER, run_id, data, page)


def _kinds(rows: list[list[Cell]]) -> Details:
    columns: list[str | Column] = ["Fault"]
    columns += [
        Column(name, numeric=True) for name in ("Row", "Times", "Recovery p50 s", f"p99 s, of {LEAST_FOR_P99}", "max s")
    ]
    return Details(f"{len(rows)} kinds of faults", [Table(columns, rows)])


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
