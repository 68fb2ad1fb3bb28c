"""The verdict on a soak: each criterion alone, the plain ones beside ours, and all of them together."""

from collections.abc import Sequence
from dataclasses import dataclass

from ingest_ops.common.audit_runner import AuditResult
from ingest_ops.common.verdict import Verdict, together
from ingest_ops.soak.check import Check
from ingest_ops.soak.engine import count_drops
from ingest_ops.soak.inputs import COMMIT_SILENCE, with_inputs
from ingest_ops.soak.memory import MemoryJudgement, judge_memory
from ingest_ops.soak.plan import MB, Plan
from ingest_ops.soak.record import PREVIOUS, PROCESS_EXITED, Record, State
from ingest_ops.soak.samples import Sample, increase, restarts

WORST_WINDOW = 300.0

PASS, FAIL, INCONCLUSIVE = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE


@dataclass(frozen=True)
class Judgement:
    """Everything that was judged."""

    verdict: Verdict
    checks: tuple[Check, ...]
    plain: Verdict
    """The plain criteria alone: last sample less the first, rate, drops, limit."""
    differs: str
    """Why the plain criteria and the verdict do not agree; empty where they do."""
    memory: MemoryJudgement
    previous: MemoryJudgement | None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not PASS: the checks that say so, those of the verdict's own kind."""
        return tuple(
            f"{one.title}: {one.reason}"
            for one in self.checks
            if one.binding and one.verdict is self.verdict is not PASS
        )


def judge(record: Record, audit: AuditResult | None) -> Judgement:
    """Judge what the record holds. It may be asked at any time; only a finished run of full length can pass."""
    plan, samples = record.plan, record.samples
    memory = judge_memory(plan, record.started, samples)
    made = (
        *_coverage(record),
        _clock(plan),
        Check("memory.trend", "Memory trend", _under(plan), _first(memory.growth), "MB", memory.verdict, memory.reason),
        _level(plan, memory),
        _growth(plan, samples),
        _limit(plan, samples),
        *_rates(plan, samples),
        _drops(plan, samples),
        _restarts(record),
        _commits(samples),
        _audit(audit),
    )
    checks = with_inputs(plan, samples, made)
    verdict = together([one.verdict for one in checks if one.binding])
    plain = together([one.verdict for one in checks if one.plain])
    previous = record.tracks.get(PREVIOUS)
    return Judgement(
        verdict=verdict,
        checks=checks,
        plain=plain,
        differs="" if verdict is plain else _difference(verdict, checks, memory),
        memory=memory,
        previous=judge_memory(plan, record.started, previous) if previous else None,
    )


def _first(values: tuple[float, float, float] | None) -> float | None:
    return values[0] if values is not None else None


def _under(plan: Plan) -> str:
    return f"99 % interval of the growth below {plan.growth_mb:g} MB in {plan.name}"


def _level(plan: Plan, memory: MemoryJudgement) -> Check:
    """The last levels against those after the warm-up: growth that began too late to be a trend."""
    criterion = f"last minutes less than {plan.growth_mb:g} MB above the level after the warm-up"
    found = memory.judged
    if found is None or plan.trial:
        reason = memory.reason if found is None else "a trial"
        return Check("memory.level", "Memory, last level", criterion, None, "MB", INCONCLUSIVE, reason)
    level = found.highest("last_level")
    verdict = PASS if level < plan.growth_mb else INCONCLUSIVE
    reason = f"up to {level:+.1f} MB above the first or the lowest level"
    if found.late_rise >= plan.growth_mb and memory.verdict is FAIL:
        verdict, reason = FAIL, f"{found.late_rise:+.1f} MB above all levels of the first half"
    return Check("memory.level", "Memory, last level", criterion, level, "MB", verdict, reason)


def _coverage(record: Record) -> tuple[Check, Check]:
    plan, samples = record.plan, record.samples
    expected = plan.expected_samples
    share = min(1.0, len(samples) / expected)
    reason = f"{len(samples)} of {expected} samples"
    enough = PASS if share >= plan.least_samples else INCONCLUSIVE
    counted = Check(
        "coverage.samples", "Samples", f"at least {plan.least_samples:.0%}", share * 100, "%", enough, reason
    )
    seconds = (samples[-1].at - samples[0].at) * plan.factor if samples else 0.0
    part = seconds / plan.required_seconds
    long_enough = PASS if part >= plan.least_duration and record.state is State.FINISHED else INCONCLUSIVE
    reason = f"{seconds / 3600:.2f} h of {plan.required_seconds / 3600:g} h of market time"
    if plan.trial:
        reason += ": a trial, cut short on purpose"
    elif record.state is not State.FINISHED:
        reason += f": {record.state}"
    lasted = Check(
        "coverage.duration",
        "Duration",
        f"at least {plan.least_duration:.0%}",
        part * 100,
        "%",
        long_enough,
        reason,
        plain=True,
    )
    return counted, lasted


def _clock(plan: Plan) -> Check:
    if not plan.compressed:
        return Check("clock", "Clock", "real time", 1.0, "x", PASS, "real time", plain=True)
    reason = f"the market ran {plan.factor:g} times as fast: what depends on wall time was not tried"
    return Check("clock", "Clock", "real time", plan.factor, "x", INCONCLUSIVE, reason, plain=True)


def _growth(plan: Plan, samples: Sequence[Sample]) -> Check:
    def made(value: float | None, verdict: Verdict, reason: str) -> Check:
        criterion = f"last sample less the first below {plan.growth_mb:g} MB"
        return Check(
            "memory.growth", "Memory growth, plain", criterion, value, "MB", verdict, reason, binding=False, plain=True
        )

    sizes = [size / MB for one in samples if (size := one.get("rss")) is not None]
    if len(sizes) < 2:
        return made(None, INCONCLUSIVE, "fewer than two samples")
    first, last = sizes[0], sizes[-1]
    grown = last - first
    return made(grown, PASS if grown < plan.growth_mb else FAIL, f"{first:.1f} MB at first, {last:.1f} MB at last")


def _limit(plan: Plan, samples: Sequence[Sample]) -> Check:
    criterion = f"no sample above {plan.abort_mb:g} MB"
    highest = max((size / MB for one in samples if (size := one.get("rss")) is not None), default=None)
    if highest is None:
        verdict, reason = INCONCLUSIVE, "no sample"
    else:
        verdict, reason = (FAIL if highest > plan.abort_mb else PASS), f"highest {highest:.1f} MB"
    return Check("memory.limit", "Memory limit", criterion, highest, "MB", verdict, reason, plain=True)


def _rates(plan: Plan, samples: Sequence[Sample]) -> tuple[Check, Check]:
    mean = mean_rate(samples)
    slowest = worst_rate(samples, min(WORST_WINDOW, plan.run_seconds / 4))
    found = []
    for check, title, value, plain in (
        ("rate.mean", "Rate, mean", mean, True),
        ("rate.worst", "Rate, worst five minutes", slowest, False),
    ):
        if value is None:
            verdict, reason = INCONCLUSIVE, "too few samples"
        else:
            verdict, reason = (PASS if value > plan.least_rate else FAIL), f"{value:,.1f} messages per second"
        criterion = f"more than {plan.least_rate:g}/s"
        found.append(Check(check, title, criterion, value, "1/s", verdict, reason, plain=plain))
    return found[0], found[1]


def mean_rate(samples: Sequence[Sample]) -> float | None:
    """Messages per second of wall time over all samples."""
    if len(samples) < 2:
        return None
    return increase(samples, "received") / (samples[-1].at - samples[0].at)


def worst_rate(samples: Sequence[Sample], window: float) -> float | None:
    """The lowest rate of any stretch between samples that lasts at least ``window`` seconds."""
    rates = []
    begin = 0
    for end, last in enumerate(samples):
        while begin + 1 < end and last.at - samples[begin + 1].at >= window - 1e-6:
            begin += 1
        if (lasted := last.at - samples[begin].at) >= window - 1e-6:
            rates.append(increase(samples[begin : end + 1], "received") / lasted)
    return min(rates, default=None)


def _drops(plan: Plan, samples: Sequence[Sample]) -> Check:
    criterion = f"fewer than {plan.most_drops}, rotations apart"
    if not samples:
        return Check("drops", "Connection drops", criterion, None, "", INCONCLUSIVE, "no sample", plain=True)
    count = count_drops(list(samples))
    verdict = PASS if count < plan.most_drops else FAIL
    return Check("drops", "Connection drops", criterion, count, "", verdict, f"{count} drops", plain=True)


def _restarts(record: Record) -> Check:
    count = restarts(record.samples)
    verdict, reason = (FAIL if count else PASS), f"{count} restarts"
    if not record.samples:
        verdict, reason = INCONCLUSIVE, "no sample"
    if record.state is State.ABORTED and record.reason.startswith(PROCESS_EXITED):
        verdict, reason = FAIL, record.reason
    return Check("restarts", "Process", "one process all the time", count, "", verdict, reason)


def _commits(samples: Sequence[Sample]) -> Check:
    ages = [one.at - last for one in samples[1:] if (last := one.get("last_commit")) is not None]
    criterion = f"the last commit never older than {COMMIT_SILENCE:g} s"
    if not ages:
        return Check("commits", "Commits", criterion, None, "s", INCONCLUSIVE, "no sample with a commit time")
    oldest = max(ages)
    verdict = PASS if oldest <= COMMIT_SILENCE else FAIL
    return Check("commits", "Commits", criterion, oldest, "s", verdict, f"at most {oldest:.1f} s old at any sample")


def _audit(audit: AuditResult | None) -> Check:
    criterion = "nothing lost, nothing twice, nothing altered"
    if audit is None:
        return Check("audit", "Audit of the topic", criterion, None, "", INCONCLUSIVE, "not audited")
    return Check("audit", "Audit of the topic", criterion, None, "", audit.verdict, audit.reason)


def _difference(verdict: Verdict, checks: Sequence[Check], memory: MemoryJudgement) -> str:
    """Why the plain criteria say something else, from the checks that only one of the two sides has."""
    by_id = {one.id: one for one in checks}
    plain, trend = by_id["memory.growth"], by_id["memory.trend"]
    parts = []
    if plain.verdict is not trend.verdict:
        parts.append(
            f"The plain growth says {plain.verdict} ({plain.reason}): it compares two single samples, with the warm-up "
            f"of the first {memory.warm_up_seconds / 60:g} minutes and what the collector has yet to free. "
            f"The levels after the warm-up say {trend.verdict} ({trend.reason})."
        )
    ours = [
        one
        for one in checks
        if one.binding and not one.plain and one.verdict is not PASS and not one.id.startswith("memory.")
    ]
    parts += [f"The plain criteria do not ask for {one.title.lower()}: {one.reason} ({one.verdict})." for one in ours]
    return " ".join(parts) or f"Only the verdict ({verdict}) weighs all checks."
