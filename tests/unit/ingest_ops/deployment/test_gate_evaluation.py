"""Each gate against series of known truth, and the rule that no fault of its input makes a verdict better."""

from dataclasses import replace

import pytest

from ingest.metrics import LATENCY_BUCKETS
from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.prometheus import Sampled
from tests.harness.deployment.series import Series, Value, counter, flat
from tests.unit.ingest_ops.deployment.gate_series import BAD, BY_ID, SCOPE, rising, series, steps, verdict


def one_child(metric: str, slot: str, value: Value) -> Series:
    """Healthy but for one child of a metric."""
    made = series()

    def change(m: str, s: str, found: list[Sampled]) -> list[Sampled]:
        if (m, s) != (metric, slot):
            return found
        first = Sampled(found[0].labels, [(at, value(at - made.origin, s)) for at, _ in found[0].samples])
        return [first, *found[1:]]

    made.change = change
    return made


UNKNOWN = {"G0", "G1c", "G7b", "S4"}
"""Gates that hold where they miss, and never fail."""


@pytest.mark.parametrize("gate", BY_ID)
def test_a_healthy_pair_passes(gate: str) -> None:
    found = verdict(gate, series())
    assert found.verdict is Verdict.PASS, found
    assert found.query


@pytest.mark.parametrize(("gate", "answer"), [(gate, one) for gate, many in BAD.items() for one in many])
def test_each_gate_fails_for_its_own_reason(gate: str, answer: Series) -> None:
    found = verdict(gate, answer)
    assert found.verdict is Verdict.FAIL, found


def test_every_gate_has_a_bad_example() -> None:
    assert BAD.keys() | UNKNOWN == BY_ID.keys()


def test_too_little_to_compare_is_no_failure() -> None:
    assert verdict("G7b", series(green__ingest_shadow_compared_total=flat(100))).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("compared", [flat(100), steps(100, 101), counter(24)], ids=["none", "one", "a tenth"])
def test_few_compared_of_what_was_committed_is_no_comparison(compared: Value) -> None:
    found = verdict("S4", series(blue__ingest_shadow_compared_total=compared))
    assert found.verdict is Verdict.INCONCLUSIVE, found


COMMITTED = 3 * 78
"""Trades of all symbols that a healthy candidate commits in a second."""


@pytest.mark.parametrize(("share", "expected"), [(0.49, Verdict.INCONCLUSIVE), (0.51, Verdict.PASS)])
def test_half_of_what_was_committed_is_a_comparison(share: float, expected: Verdict) -> None:
    assert verdict("S4", series(blue__ingest_shadow_compared_total=counter(COMMITTED * share))).verdict is expected


def test_nothing_compared_of_nothing_committed_is_no_comparison() -> None:
    nothing = series(green__ingest_trades_committed_total=flat(9), blue__ingest_shadow_compared_total=flat(9))
    found = verdict("S4", nothing)
    assert (found.verdict, found.threshold) == (Verdict.INCONCLUSIVE, ">= 1")


def test_a_predecessor_that_was_restarted_has_lost_what_it_compared() -> None:
    found = verdict("G1c", series(blue__process_start_time_seconds=steps(1000, 2000)))
    assert found.verdict is Verdict.INCONCLUSIVE, found


@pytest.mark.parametrize(("gate", "good"), [
    # Slower by 5 %, or on a machine that is busier: within the tolerance.
    ("C4", series(green__process_cpu_seconds_total=lambda t, _slot: t * 0.21)),
    ("C7", series(green__ingest_exchange_to_commit_seconds_sum=lambda t, _slot: t * 10 * 0.126)),
    ("C7", series(green__ingest_exchange_to_commit_seconds_sum=lambda t, _slot: t * 10 * 0.30)),
    ("C6", series(green__process_resident_memory_bytes=rising(100 * 2**20, 0.005 * 2**20))),
    ("C6", series(
        green__process_resident_memory_bytes=rising(100 * 2**20, 0.2 * 2**20),
        blue__process_resident_memory_bytes=rising(100 * 2**20, 0.2 * 2**20),
    )),
    ("E1", one_child("binance_reconnects_total", "green", steps(0, 1))),
    ("C1", series(green__ingest_messages_received_total=counter(240))),
    ("G5", series(green__process_resident_memory_bytes=flat(399 * 2**20))),
])  # fmt: skip
def test_what_is_only_a_little_different_passes(gate: str, good: Series) -> None:
    found = verdict(gate, good)
    assert found.verdict is Verdict.PASS, found


def test_a_bound_of_latency_is_one_that_the_service_exports() -> None:
    wanted = {
        (gate.id, one.where) for gate in BY_ID.values() for one in gate.inputs.values() if one.where.startswith("le=")
    }
    assert wanted == {("C10", 'le="1.0"'), ("C12", 'le="0.5"'), ("C13", 'le="5.0"'), ("C14", 'le="15.0"')}
    assert {where for _, where in wanted} <= {f'le="{bound}"' for bound in LATENCY_BUCKETS}


def test_twice_the_predecessor_s_share_above_5_s_may_not_be_above_15_s() -> None:
    """0.9 % more than the predecessor's 1 % are above 5 s, and they are above 15 s, too."""
    above_5 = series(
        green__ingest_exchange_to_commit_seconds_bucket=lambda t, _slot: t * 10 * 0.981,
        blue__ingest_exchange_to_commit_seconds_bucket=lambda t, _slot: t * 10 * 0.99,
    )
    above_15 = series(green__ingest_exchange_to_commit_seconds_bucket=lambda t, _slot: t * 10 * 0.991)
    assert [verdict("C13", above_5).verdict, verdict("C14", above_15).verdict] == [Verdict.PASS, Verdict.FAIL]


def test_a_comparison_reports_its_interval() -> None:
    found = verdict("C7", BAD["C7"][0])
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high  # type: ignore[operator]
    assert "the predecessor 0.12; difference +2.78" in found.reason
    assert found.against


def test_a_loss_that_a_lost_connection_explains_proves_nothing() -> None:
    found = verdict("S1", series(
        green__ingest_shadow_never_received_total=steps(0, 5), green__binance_reconnects_total=steps(0, 1)
    ))  # fmt: skip
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "lost a connection" in found.reason


def test_without_the_predecessor_s_window_its_latency_is_not_known() -> None:
    assert verdict("C7", series(), replace(SCOPE, baseline=None)).verdict is Verdict.INCONCLUSIVE
