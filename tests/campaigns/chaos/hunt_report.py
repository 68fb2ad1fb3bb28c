"""A hunt as a report: each planted fault with the damage that gave it away, and the plans without any as a control."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingest_ops.common.verdict import Verdict
from ingest_ops.render import Code, Column, Fact, Page, Section, Table, Text, envelope, write_report
from tests.campaigns.chaos.mutants import MUTANTS, SEEN
from tests.campaigns.chaos.plans import PLANS
from tests.campaigns.chaos.report import FOLDER

if TYPE_CHECKING:
    from tests.campaigns.chaos.hunt import Hunted

VERSION = 2
WORDS = {"false_void": "falsely void", "position": "wrong in the positions"}


def write(
    controls: Sequence[Hunted],
    hunted: Sequence[Hunted],
    *,
    whole: bool,
    within: int,
    seconds: float,
    due: Collection[str] = (),
) -> dict[str, Path]:
    """Write JSON, HTML and Markdown to reports/chaos/ (``mutants``, or ``mutants-some``); returns the paths.

    ``due``: planted faults and plans that are still to be played: without them nothing has passed.
    """
    hunted = sorted(hunted, key=lambda one: list(MUTANTS).index(one.name))
    page = _page(controls, hunted, whole=whole, within=within, seconds=seconds, due=due)
    run_id = "mutants" if whole else "mutants-some"
    data = {
        **envelope(page, run_id=run_id, schema_version=VERSION),
        "within_faults": within,
        "seconds": round(seconds, 1),
        "controls": {one.name: {"passed": not one.problems, **_figures(one)} for one in controls},
        "mutants": {
            one.name: {
                "breaks": MUTANTS[one.name].breaks,
                "caught": one.caught,
                "plans": one.plans,
                **_figures(one),
                "damage": one.damage,
            }
            for one in hunted
        },
    }
    return write_report(FOLDER, run_id, data, page)


def _figures(one: Hunted) -> dict[str, Any]:
    return {"faults": one.faults, "trades": one.trades, "seconds": one.seconds, "problems": one.problems}


def told(damage: dict[str, int]) -> str:
    """Damage in words."""
    return ", ".join(f"{number:,} {WORDS.get(kind, kind)}" for kind, number in damage.items())


def _page(
    controls: Sequence[Hunted],
    hunted: Sequence[Hunted],
    *,
    whole: bool,
    within: int,
    seconds: float,
    due: Collection[str],
) -> Page:
    survivors = [one for one in hunted if not one.caught]
    unclean = [one for one in controls if one.problems]
    count = len(hunted) - len(survivors)
    reasons = [
        *(f"{one.name} survived {one.faults} faults: {MUTANTS[one.name].breaks}" for one in survivors),
        *(f"{one.name} fails without a planted fault: {one.problems[0]}" for one in unclean),
    ]
    verdict = Verdict.FAIL if reasons else Verdict.INCONCLUSIVE if due else Verdict.PASS
    if due:
        reasons.append(f"not played yet: {', '.join(due)}")
    return Page(
        kind="mutants",
        title="Planted faults" if whole else "Some planted faults",
        verdict=verdict,
        summary=f"{count} of {len(hunted)} planted faults caught, each within {within} faults; without a planted fault "
        f"{len(controls) - len(unclean)} of {len(controls)} plans pass.",
        reasons=reasons,
        coverage=[
            Fact("Planted faults", f"{len(hunted)} of {len(SEEN)}"),
            Fact("Faults", sum(one.faults for one in hunted)),
            Fact("Trades", sum(one.trades for one in hunted)),
            Fact("Duration", f"{seconds / 60:.0f} min"),
        ],
        sections=[
            Section(
                "Planted faults",
                [
                    Text(
                        "Each is the service with one promise broken, from outside, on the real processes. Caught "
                        "means that the auditor proves damage in the topics; an end that is late, or a process that "
                        "gives up, does not count."
                    ),
                    Table(
                        [
                            "Planted fault",
                            "What it breaks",
                            "Plans",
                            Column("Faults", numeric=True),
                            "Damage",
                            Column("s", numeric=True),
                            "Caught",
                        ],
                        [
                            [
                                one.name,
                                MUTANTS[one.name].breaks,
                                ", ".join(dict.fromkeys(one.plans)),
                                one.faults,
                                told(one.damage) or "none",
                                round(one.seconds),
                                Verdict.PASS if one.caught else Verdict.FAIL,
                            ]
                            for one in hunted
                        ],
                        caption="Faults: those of all runs up to and with the one that did the damage; the auditor "
                        "judges a run when it is over, so fewer may have been enough.",
                    ),
                ],
            ),
            Section(
                "Control: the same plans, nothing planted",
                [
                    Table(
                        [
                            "Plan",
                            "Aim",
                            Column("Faults", numeric=True),
                            Column("Trades", numeric=True),
                            Column("s", numeric=True),
                            "Verdict",
                        ],
                        [
                            [
                                one.name,
                                PLANS[one.name].aim,
                                one.faults,
                                one.trades,
                                round(one.seconds),
                                Verdict.FAIL if one.problems else Verdict.PASS,
                            ]
                            for one in controls
                        ],
                    )
                ],
            ),
        ],
        facts=[
            Fact(
                "Made by",
                Code("make mutants" if whole else f"make mutants MUTANTS={os.environ.get('MUTANTS', '')}"),
            )
        ],
        generated_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    )
