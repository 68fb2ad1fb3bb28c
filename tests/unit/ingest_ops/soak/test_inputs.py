"""Inputs by construction: no criterion passes on an input that is not as declared, and none turns better by it."""

from collections.abc import Callable

import numpy as np
import pytest

from ingest.metrics import RECONNECT_REASONS, ROTATION_REASONS
from ingest_ops.common.verdict import Verdict
from ingest_ops.soak import inputs
from ingest_ops.soak.inputs import INPUTS
from ingest_ops.soak.judge import judge
from ingest_ops.soak.plan import SOAK_1H, SOAK_24H, Plan
from ingest_ops.soak.samples import Sample
from tests.unit.ingest_ops.soak.books import AUDITED, START, finished, sound

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE
RANK = {FAIL: 0, INCONCLUSIVE: 1, PASS: 2}
Change = Callable[[list[Sample], str, np.random.Generator], list[Sample]]


def verdicts(samples: list[Sample], plan: Plan = SOAK_1H) -> dict[str, Verdict]:
    return {one.id: one.verdict for one in judge(finished(plan, samples), AUDITED).checks}


def of_column(name: str, column: str) -> bool:
    return name == column or name.startswith(f"{column}.")


def without(sample: Sample, column: str) -> Sample:
    return Sample(sample.at, {name: value for name, value in sample.values.items() if not of_column(name, column)})


def removed(samples: list[Sample], column: str, _: np.random.Generator) -> list[Sample]:
    return [without(one, column) for one in samples]


def thinned(samples: list[Sample], column: str, random: np.random.Generator) -> list[Sample]:
    keep = set(random.choice(len(samples), size=len(samples) // 2, replace=False).tolist())
    return [one if index in keep else without(one, column) for index, one in enumerate(samples)]


def three_left(samples: list[Sample], column: str, random: np.random.Generator) -> list[Sample]:
    keep = set(random.choice(len(samples), size=3, replace=False).tolist())
    return [one if index in keep else without(one, column) for index, one in enumerate(samples)]


def gone_for_a_while(samples: list[Sample], column: str, random: np.random.Generator) -> list[Sample]:
    begin = int(random.integers(1, len(samples) - 8))
    return [without(one, column) if begin <= index < begin + 7 else one for index, one in enumerate(samples)]


def renamed(samples: list[Sample], column: str, _: np.random.Generator) -> list[Sample]:
    def other(name: str) -> str:
        return f"x_{name}" if of_column(name, column) else name

    return [Sample(one.at, {other(name): value for name, value in one.values.items()}) for one in samples]


def doubled(samples: list[Sample], column: str, _: np.random.Generator) -> list[Sample]:
    """Replicas added up, should any source ever do that."""
    return [
        Sample(one.at, {name: value * (2 if of_column(name, column) else 1) for name, value in one.values.items()})
        for one in samples
    ]


def moved(samples: list[Sample], column: str, by: int) -> list[Sample]:
    """Each sample has the column's values of another one."""
    last = len(samples) - 1
    return [
        Sample(one.at, {**without(one, column).values, **{
            name: value for name, value in samples[min(max(index + by, 0), last)].values.items()
            if of_column(name, column)}})
        for index, one in enumerate(samples)
    ]  # fmt: skip


def earlier(samples: list[Sample], column: str, random: np.random.Generator) -> list[Sample]:
    return moved(samples, column, int(random.integers(2, 5)))


def later(samples: list[Sample], column: str, random: np.random.Generator) -> list[Sample]:
    return moved(samples, column, -int(random.integers(2, 5)))


LOSSES: dict[str, Change] = {
    "removed": removed,
    "thinned": thinned,
    "three left": three_left,
    "gone for a while": gone_for_a_while,
    "renamed": renamed,
}
ALTERED: dict[str, Change] = {"doubled": doubled, "earlier": earlier, "later": later}

BAD: dict[str, dict[str, float]] = {
    "memory": {"rss": 300.0 * 2**20},
    "restart": {"started": 1.79e9 + 5000},
    "drops": {"drops.tls": 12.0},
    "stalls": {"rotations.stalled": 12.0},
    "silent": {"received": 1000.0},
    "no commit": {"last_commit": 1.79e9},
}
"""What makes a soak fail from its middle on."""


def soak(bad: str) -> list[Sample]:
    change = BAD.get(bad, {})
    return [
        Sample(one.at, {**one.values, **change}) if index >= 42 else one for index, one in enumerate(sound(SOAK_1H))
    ]


PAIRS = sorted({(check, one.column) for check, needed in INPUTS.items() for one in needed})


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("check", "column"), PAIRS)
def test_no_criterion_passes_on_an_input_that_is_not_there(check: str, column: str, loss: str) -> None:
    for seed in range(3):
        after = verdicts(LOSSES[loss](soak("nothing"), column, np.random.default_rng(seed)))
        assert after[check] is not PASS, (loss, seed)


@pytest.mark.parametrize("way", [*LOSSES, *ALTERED])
@pytest.mark.parametrize("bad", ["nothing", *BAD])
def test_nothing_turns_into_a_pass(bad: str, way: str) -> None:
    samples = soak(bad)
    before = verdicts(samples)
    change = (LOSSES | ALTERED)[way]
    for column in sorted({column for _, column in PAIRS}):
        after = verdicts(change(samples, column, np.random.default_rng(7)))
        better = {check for check in before if after[check] is PASS and before[check] is not PASS}
        assert better == set(), column


CHILDREN = [f"{one.column}.{name}" for needed in INPUTS.values() for one in needed for name in one.names]


@pytest.mark.parametrize("child", CHILDREN)
@pytest.mark.parametrize("bad", ["nothing", "drops", "stalls"])
def test_one_missing_or_renamed_child_is_enough(child: str, bad: str) -> None:
    for other in ("", f"{child}_renamed"):
        lacking = [
            Sample(one.at, {other if name == child else name: value for name, value in one.values.items()
                            if name != child or other})
            for one in soak(bad)
        ]  # fmt: skip
        assert verdicts(lacking)["drops"] is not PASS


def test_a_child_that_vanishes_is_missing_and_one_that_is_born_is_not() -> None:
    samples = sound(SOAK_1H)
    born = [Sample(one.at, {**one.values, "drops.new": 1.0}) if at > 30 else one for at, one in enumerate(samples)]
    assert verdicts(born)["drops"] is PASS
    assert verdicts([*born[:40], *samples[40:]])["drops"] is INCONCLUSIVE


@pytest.mark.parametrize(
    ("plan", "hangs", "seconds"), [(SOAK_24H, 17, 240.0), (SOAK_24H, 1, 280.0), (SOAK_1H, 1, 120.0)]
)
def test_a_hang_between_two_samples_does_not_pass(plan: Plan, hangs: int, seconds: float) -> None:
    """``/metrics`` does not answer, nothing is committed, and the first sample after it shows a young commit."""
    begins = [1800.0 + 4800.0 * at for at in range(hangs)]
    kept = [one for one in sound(plan) if not any(begin < one.at - START < begin + seconds for begin in begins)]
    assert len(kept) < plan.expected_samples
    assert verdicts(kept, plan)["commits"] is INCONCLUSIVE


def test_a_sample_that_is_late_by_one_scrape_is_enough() -> None:
    late = [
        Sample(one.at + 14.0, {**one.values, "last_commit": one.at + 13.8}) if index == 40 else one
        for index, one in enumerate(sound(SOAK_1H))
    ]
    assert verdicts(late)["commits"] is PASS


def test_samples_without_the_old_commit_do_not_pass_for_it() -> None:
    """Three samples say 250 s: FAIL. Without the series in these three it is not known."""
    old = [
        Sample(one.at, {**one.values, "last_commit": one.at - 250.0} if index in (40, 41, 42) else one.values)
        for index, one in enumerate(sound(SOAK_1H))
    ]
    assert verdicts(old)["commits"] is FAIL
    assert (
        verdicts([without(one, "last_commit") if index in (40, 41, 42) else one for index, one in enumerate(old)])[
            "commits"
        ]
        is INCONCLUSIVE
    )


def test_a_commit_from_the_future_proves_nothing() -> None:
    ahead = [Sample(one.at, {**one.values, "last_commit": one.at + 3600.0}) for one in sound(SOAK_1H)]
    assert verdicts(ahead)["commits"] is INCONCLUSIVE


def test_the_declared_children_are_those_of_the_service() -> None:
    assert set(RECONNECT_REASONS) == set(inputs.RECONNECT_REASONS)
    assert set(ROTATION_REASONS) == set(inputs.ROTATION_REASONS)


def test_every_criterion_declares_its_inputs() -> None:
    assert set(verdicts(sound(SOAK_1H))) - set(INPUTS) == {"clock", "audit"}
