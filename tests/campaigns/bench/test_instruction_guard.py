"""The price of a trade may not rise unnoticed: instructions, not seconds, so that a busy machine does not matter.

A stage that costs more on purpose: ``make bench-instructions UPDATE=1``, and commit the figures with the reason.
"""

import json
import os
import shutil
from collections.abc import Mapping
from functools import partial

import pytest

from tests.campaigns.bench.instructions import COMPILED, FIGURES, PLAIN, above, build, least, per_trade, trees

ALLOWED = 0.10
ALLOWED_ELSEWHERE = 0.25
"""On another build of Python or of the libraries: the figures are scaled by the reference workload, which is rough."""
GOAL = 60_000

pytestmark = pytest.mark.integration


def limits(counts: Mapping[str, int], name: str = PLAIN) -> dict[str, float]:
    """What each stage may cost on this machine."""
    committed = json.loads(FIGURES.read_text())
    figures = committed[name]
    same = committed["build"] == build()
    scale = 1.0 if same else counts["reference"] / figures["reference"]
    allowed = ALLOWED if same else ALLOWED_ELSEWHERE
    return {stage: figure * scale * (1 + allowed) for stage, figure in figures.items() if stage != "reference"}


def excess(counts: Mapping[str, int], name: str) -> dict[str, tuple[int, int]]:
    """Stage -> what it costs and what it may cost, where that is less."""
    allowed = limits(counts, name)
    return {
        stage: (count, round(allowed[stage])) for stage, count in counts.items() if count > allowed.get(stage, count)
    }


@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", [PLAIN, COMPILED])
def test_no_stage_costs_more_than_the_committed_figure_allows(name: str) -> None:
    if shutil.which("valgrind") is None:
        if os.environ.get("CI"):
            pytest.fail("valgrind is not installed")
        pytest.skip("valgrind is not installed")
    counts = least(trees()[name], partial(excess, name=name))
    assert not excess(counts, name), "instructions per trade, measured and allowed; see this module's first lines"
    assert set(counts) == set(json.loads(FIGURES.read_text())[name]), "a stage without a figure"
    assert max(per_trade(counts).values()) <= GOAL


def test_on_another_build_the_figures_are_scaled_by_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = json.loads(FIGURES.read_text())
    monkeypatch.setattr("tests.campaigns.bench.test_instruction_guard.build", lambda: {"python": "another"})
    twice = {stage: 2 * count for stage, count in figures["instructions"].items()}
    assert limits(twice)["encode"] == pytest.approx(figures["instructions"]["encode"] * 2 * (1 + ALLOWED_ELSEWHERE))
    monkeypatch.setattr("tests.campaigns.bench.test_instruction_guard.build", lambda: figures["build"])
    assert limits(twice)["encode"] == pytest.approx(figures["instructions"]["encode"] * (1 + ALLOWED))


def test_more_than_two_percent_above_a_committed_figure_is_named() -> None:
    before = {"reference": 20_000, "encode": 10_000, "write": 3_500, "queue": 1_000}
    after = {"reference": 30_000, "encode": 10_190, "write": 3_571, "queue": 900, "another": 1}
    assert above(after, before) == {"write": pytest.approx(71 / 3_500)}
