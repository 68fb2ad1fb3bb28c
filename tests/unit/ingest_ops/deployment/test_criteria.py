"""Criteria at their limits, on samples by hand."""

import pytest

from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment import criteria
from ingest_ops.deployment.gate_inputs import Read, Samples
from tests.unit.ingest_ops.deployment.gate_series import SCOPE

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def gained(total: float) -> Samples:
    """A counter that gains so much in the window."""
    return [(0.0, 7.0), (10.0, 7.0 + total / 2), (20.0, 7.0 + total)]


@pytest.mark.parametrize(("counted", "of", "expected", "threshold"), [
    (50, (60, 40), PASS, ">= 50"),
    (49, (60, 40), INCONCLUSIVE, ">= 50"),
    (1, (1, 1), PASS, ">= 1"),
    (1, (1, 0), PASS, ">= 1"),
    (0, (1, 0), INCONCLUSIVE, ">= 1"),
    (0, (0, 0), INCONCLUSIVE, ">= 1"),
])  # fmt: skip
def test_a_share_is_enough_from_its_limit_on_and_from_one_record_on(
    counted: float, of: tuple[float, float], expected: Verdict, threshold: str
) -> None:
    children = {name: gained(total) for name, total in zip("AB", of, strict=True)}
    reads = {"counter": Read(children={"": gained(counted)}), "of": Read(children=children)}
    found = criteria.share_of(0.5, unit="records")(reads, SCOPE)
    assert (found.verdict, found.value, found.threshold) == (expected, counted, threshold)


def tail(share: float) -> dict[str, Samples]:
    """Of 1,000 events a scrape this share is above the bound."""
    times = [10.0 * at for at in range(13)]
    return {
        "within": [(at, at * 100.0 * (1.0 - share)) for at in times],
        "count": [(at, at * 100.0) for at in times],
    }


@pytest.mark.parametrize(("ours", "theirs", "expected"), [
    (0.019, 0.0, PASS), (0.021, 0.0, FAIL),  # 2 % of the events
    (0.099, 0.05, PASS), (0.101, 0.05, FAIL),  # twice the predecessor's share
    (0.029, 0.01, PASS), (0.031, 0.01, FAIL),  # twice it would be less than 2 % more
])  # fmt: skip
def test_a_tail_may_be_the_greater_of_both_tolerances_more(ours: float, theirs: float, expected: Verdict) -> None:
    reads = {
        f"{slot}_{name}": Read(children={"": samples})
        for slot, share in (("candidate", ours), ("live", theirs))
        for name, samples in tail(share).items()
    }
    assert criteria.compared_tail(0.02, unit="of the events")(reads, SCOPE).verdict is expected
