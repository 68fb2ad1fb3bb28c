"""The verdict: what passes, what each criterion alone can spoil, and what the plain criteria say beside it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ingest_ops.common.audit_runner import AuditResult
from ingest_ops.common.verdict import Verdict
from ingest_ops.soak.judge import Judgement, judge, worst_rate
from ingest_ops.soak.plan import MB, SOAK_1H, SOAK_12H, SOAK_24H, Plan
from ingest_ops.soak.record import PREVIOUS, PROCESS_EXITED, Record, State
from ingest_ops.soak.samples import Sample
from tests.unit.ingest_ops.soak.books import AUDITED, START, finished, sample, sound

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


def verdicts(found: Judgement) -> dict[str, Verdict]:
    return {one.id: one.verdict for one in found.checks if one.verdict is not PASS}


@pytest.mark.parametrize("plan", [SOAK_24H, SOAK_12H, SOAK_1H], ids=lambda plan: plan.name)
def test_a_sound_soak_passes_on_both_sides(plan: Plan) -> None:
    found = judge(finished(plan, sound(plan)), AUDITED)
    assert (found.verdict, found.plain, found.differs, found.reasons) == (PASS, PASS, "", ())


def _change(at: int, **values: float) -> Callable[[list[Sample]], list[Sample]]:
    def apply(samples: list[Sample]) -> list[Sample]:
        return [Sample(one.at, {**one.values, **values}) if index >= at else one for index, one in enumerate(samples)]

    return apply


@pytest.mark.parametrize(
    ("change", "check", "verdict"),
    [
        (lambda samples: [*samples[:20], *samples[26:]], "coverage.samples", INCONCLUSIVE),
        (lambda samples: samples[:-3], "coverage.duration", INCONCLUSIVE),
        (_change(40, rss=401.0 * MB), "memory.limit", FAIL),
        (_change(40, started=1.79e9 + 5000), "restarts", FAIL),
        pytest.param(_change(30, **{"drops.tls": 10.0}), "drops", FAIL, id="drops"),
        pytest.param(_change(30, **{"rotations.stalled": 7.0, "drops.tls": 3.0}), "drops", FAIL, id="stalls"),
        (_change(55, last_commit=1.79e9 + 3000), "commits", FAIL),
        (_change(50, received=1000.0 + 2000.0 * 3000), "rate.worst", FAIL),
    ],
)  # fmt: skip
def test_each_criterion_can_spoil_it_alone(
    change: Callable[[list[Sample]], list[Sample]], check: str, verdict: Verdict
) -> None:
    found = judge(finished(SOAK_1H, change(sound(SOAK_1H))), AUDITED)
    assert found.verdict is verdict
    assert verdicts(found)[check] is verdict
    assert any(reason for reason in found.reasons)


def test_ten_drops_are_too_many_and_scheduled_rotations_are_none() -> None:
    nine = _change(30, **{"drops.tls": 9.0, "rotations.scheduled": 60.0})(sound(SOAK_1H))
    assert judge(finished(SOAK_1H, nine), AUDITED).verdict is PASS


@pytest.mark.parametrize(
    ("audit", "verdict"),
    [(None, INCONCLUSIVE), (AuditResult(INCONCLUSIVE, "no", {}), INCONCLUSIVE), (AuditResult(FAIL, "1", {}), FAIL)],
)
def test_without_the_auditors_word_nothing_passes(audit: AuditResult | None, verdict: Verdict) -> None:
    found = judge(finished(SOAK_1H, sound(SOAK_1H)), audit)
    assert found.verdict is verdict
    assert found.plain is PASS
    assert "audit" in found.differs


@pytest.mark.parametrize(("leak", "verdict"), [(20.0, PASS), (60.0, FAIL), (100.0, FAIL)])
def test_a_leak_is_judged_by_its_trend(leak: float, verdict: Verdict) -> None:
    found = judge(finished(SOAK_24H, sound(SOAK_24H, leak)), AUDITED)
    assert found.verdict is verdict
    assert found.memory.growth is not None
    assert found.memory.growth[0] == pytest.approx(leak, rel=0.03)


def _late_ramp(plan: Plan, mb: float, load: float) -> list[Sample]:
    """From three quarters on, memory rises by ``mb`` and the message rate to ``load`` times its first value."""
    noise = np.random.default_rng(3).normal(0.0, 0.3, plan.expected_samples)
    found, received = [], 1000.0
    for slot in range(plan.expected_samples):
        seconds = slot * plan.sample_seconds
        part = max(0.0, 4.0 * seconds / plan.run_seconds - 3.0)
        received += 2000.0 * (1.0 + (load - 1.0) * part) * plan.sample_seconds
        rss = 60.0 + mb * part + float(noise[slot])
        found.append(sample(START + seconds, seconds, rss=rss, received=received, committed=received))
    return found


@pytest.mark.parametrize(
    ("load", "verdict"), [pytest.param(1.0, FAIL, id="same load"), pytest.param(2.0, INCONCLUSIVE, id="load doubled")]
)
def test_a_late_rise_fails_unless_the_load_rose_for_good_with_it(load: float, verdict: Verdict) -> None:
    found = judge(finished(SOAK_24H, _late_ramp(SOAK_24H, 100.0, load)), AUDITED)
    assert found.verdict is verdict
    assert verdicts(found)["memory.level"] is verdict


def test_a_tooth_at_the_end_fails_the_plain_growth_alone_and_the_report_says_why() -> None:
    samples = sound(SOAK_24H)
    samples[-1] = Sample(samples[-1].at, {**samples[-1].values, "rss": 120.0 * MB})
    found = judge(finished(SOAK_24H, samples), AUDITED)
    assert (found.verdict, found.plain) == (PASS, FAIL)
    assert "compares two single samples" in found.differs


def test_a_leak_hidden_by_a_low_last_sample_passes_the_plain_growth_alone() -> None:
    samples = sound(SOAK_24H, 80.0)
    samples[-1] = Sample(samples[-1].at, {**samples[-1].values, "rss": 61.0 * MB})
    found = judge(finished(SOAK_24H, samples), AUDITED)
    assert (found.verdict, found.plain) == (FAIL, PASS)
    assert "The levels after the warm-up say FAIL" in found.differs


@pytest.mark.parametrize("plan", [SOAK_24H.compressed_by(24.0), SOAK_24H.shortened(3600.0), SOAK_1H.shortened(600.0)])
def test_a_compressed_run_or_a_trial_never_satisfies_the_criterion_of_either_side(plan: Plan) -> None:
    found = judge(finished(plan, sound(plan)), AUDITED)
    assert (found.verdict, found.plain) == (INCONCLUSIVE, INCONCLUSIVE)
    assert ("clock" in verdicts(found)) is plan.compressed
    assert ("coverage.duration" in verdicts(found)) is plan.trial


@pytest.mark.parametrize("leak", [20.0, 45.0, 60.0, 120.0])
def test_a_planted_leak_is_judged_alike_at_1x_and_24x(leak: float) -> None:
    growths, pace, kinds = [], [], []
    for plan in (SOAK_24H, SOAK_24H.compressed_by(24.0)):
        memory = judge(finished(plan, sound(plan, leak)), AUDITED).memory
        assert memory.growth is not None
        assert memory.per_million is not None
        growths.append(memory.growth[0])
        pace.append(memory.per_million[0])
        kinds.append(memory.verdict)
    assert growths[1] == pytest.approx(growths[0], rel=0.1)
    assert pace[1] == pytest.approx(pace[0], rel=0.1)
    assert pace[0] == pytest.approx(leak / 172.8, rel=0.1)  # 2,000 trades/s for a day
    assert kinds[0] is kinds[1]


def test_an_ended_soak_never_passes() -> None:
    record = finished(SOAK_1H, sound(SOAK_1H))
    aborted = replace(record, state=State.ABORTED, reason=f"{PROCESS_EXITED}: exit code 137")
    found = judge(aborted, AUDITED)
    assert found.verdict is FAIL
    assert verdicts(found)["restarts"] is FAIL
    running = judge(replace(record, state=State.RUNNING), AUDITED)
    assert running.verdict is INCONCLUSIVE


def test_no_sample_at_all_is_inconclusive() -> None:
    record = Record(run_id="soak-test", plan=SOAK_1H, started=0.0, state=State.ABORTED, reason="nothing came")
    assert judge(record, None).verdict is INCONCLUSIVE


def test_the_previous_release_is_shown_and_does_not_judge() -> None:
    record = finished(SOAK_24H, sound(SOAK_24H))
    record.tracks[PREVIOUS] = sound(SOAK_24H, 90.0)
    found = judge(record, AUDITED)
    assert found.verdict is PASS
    assert found.previous is not None
    assert found.previous.verdict is FAIL


def test_the_worst_window_slides_over_all_samples() -> None:
    samples = [Sample(60.0 * n, {"rss": 1.0, "received": 600.0 * min(n, 4) + 600.0 * max(0, n - 9)}) for n in range(20)]
    assert worst_rate(samples, 300.0) == 0.0
    assert worst_rate(samples[:3], 300.0) is None
