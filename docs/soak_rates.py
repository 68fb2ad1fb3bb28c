"""The error rates of the soak's memory verdict as a page, from the committed calibration; for ``docs/generate.py``."""

from ingest_ops.soak.calibration import LEAK_SHARE
from ingest_ops.soak.error_rates import Cell, FamilyRates, Rates
from ingest_ops.soak.plan import PLANS

SHOWN = ("24h", "12h", "1h")
HALVES = {
    "named": "Named families: those in which earlier methods were wrong",
    "drawn": "Drawn families: known while the method was chosen",
    "held-out": "Held-out families: measured once, after the method's last change",
}
HEAD = """\
# Error rates of the soak's memory verdict

Measured by `make soak-calibration`: simulated soaks with known truth, judged by the code that judges real ones. How the
verdict is made and what a family is: {doc}`../explanation/soak_statistics`. *False PASS*: the leak reaches 1.2 times
the limit and the verdict is PASS. *False FAIL*: leak and warm-up stay below the limit and the verdict is FAIL. The
promise is at most 1 % of either in every family; rows marked *not promised* are beyond what an hour can know.
"""


def page() -> str:
    """The whole page."""
    rates = Rates.load()
    lines = [HEAD, f"{rates.series:,} series a cell; {rates.source[0].lower()}{rates.source[1:]}.\n", "## By plan\n"]
    for plan in SHOWN:
        lines += [f"- `{plan}`, {one}." for one in rates.of(plan).summary()]
    by_plan = {plan: {one.family: one for one in rates.of(plan).families()} for plan in SHOWN}
    names = list(dict.fromkeys(name for found in by_plan.values() for name in found))
    for half, title in HALVES.items():
        lines += [f"\n## {title}\n", "PASS / FAIL / INCONCLUSIVE in %, and the higher of both error rates.\n"]
        columns = [f"{plan}: {what}" for plan in SHOWN for what in ("no leak", f"{_least(plan)} MB", "wrong")]
        lines += [f"| family | {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
        for name in names:
            found = [by_plan[plan].get(name) for plan in SHOWN]
            if half in {one.half for one in found if one is not None}:
                lines.append(f"| {name} | {' | '.join(cell for one in found for cell in _cells(one))} |")
    return "\n".join(lines) + "\n"


def _least(plan: str) -> str:
    return f"{LEAK_SHARE * PLANS[plan].growth_mb:g}"


def _cells(one: FamilyRates | None) -> list[str]:
    if one is None:
        return [""] * 3
    wrong = f"{max(one.false_pass, one.false_fail):.1%}" if one.promised else "not promised"
    return [_shares(one.clean), _shares(one.least_leak), wrong]


def _shares(cell: Cell) -> str:
    return " / ".join(f"{100 * count / cell.series:.0f}" for count in (cell.passed, cell.failed, cell.inconclusive))
