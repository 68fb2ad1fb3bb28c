"""Memory, freshness and restarts: how the processes lived through the day."""

from collections.abc import Sequence

import numpy as np

from ingest_ops.common.report_settings import Limits
from ingest_ops.validation.check import FAIL, INCONCLUSIVE, PASS, Check, Finding
from ingest_ops.validation.checks_rate import shards_of
from ingest_ops.validation.day_view import FUTURE_SECONDS, DayView, Flags
from ingest_ops.validation.evidence import Evidence
from ingest_ops.validation.process_memory import BLOCKS, RSS, WARM_UP, memory_max, memory_trend
from ingest_ops.validation.process_restarts import restarts
from ingest_ops.validation.process_runs import START

COMMIT = "ingest_last_commit_timestamp_seconds"


def freshness(view: DayView, limits: Limits, evidence: Evidence) -> Finding:
    """The share of slots in which every shard has a commit younger than the limit. A slot without a sample is bad."""
    fresh, seen = fresh_slots(view, limits, evidence)
    good, stale = int(fresh.sum()), int((seen & ~fresh).sum())
    share = 100.0 * good / view.slots
    allowed = 100.0 - limits.freshness_percent
    reason = (
        f"{good:,} of {view.slots:,} slots fresh, {stale:,} stale, {view.slots - int(seen.sum()):,} without a sample"
    )
    if not seen.any():
        verdict, reason = INCONCLUSIVE, f"no sample of {COMMIT}"
    elif 100.0 * stale / view.slots > allowed:
        # What was seen to be stale is enough for a FAIL; what was not seen is not known.
        verdict = FAIL
    elif share < limits.freshness_percent:
        verdict = INCONCLUSIVE
    elif view.doubled:
        verdict, reason = INCONCLUSIVE, f"series are doubled by {view.doubled}; {reason}"
    else:
        verdict = PASS
    return Finding(share if seen.any() else None, verdict, reason, int(seen.sum()), view.slots)


def fresh_slots(view: DayView, limits: Limits, evidence: Evidence) -> tuple[Flags, Flags]:
    """For each slot whether every shard had a young commit, and whether that is known.

    A slot in which no process of a shard answered its scrape is known: nothing was fresh.
    """
    fresh = np.ones(view.slots, dtype=np.bool_)
    stale = np.zeros(view.slots, dtype=np.bool_)
    for shard in shards_of(view, evidence):
        young, seen = _fresh(view, limits, view.shards.get(shard, ()))
        fresh &= young
        stale |= seen & ~young
    return fresh, fresh | stale


def _fresh(view: DayView, limits: Limits, instances: Sequence[str]) -> tuple[Flags, Flags]:
    young = np.zeros(view.slots, dtype=np.bool_)
    seen = np.zeros(view.slots, dtype=np.bool_)
    down = np.full(view.slots, bool(instances))
    for instance in instances:
        for one in view.series(COMMIT, instance):
            age = view.in_slots(one, one.t - one.v)
            seen |= ~np.isnan(age)
            young |= (age < limits.commit_age_seconds) & (age > -FUTURE_SECONDS)
        ups = view.series("up", instance)
        down &= view.in_slots(ups[0]) == 0 if ups else False
    return young, seen | down


CHECKS = (
    Check(
        id="memory.max",
        title="Memory, highest",
        section="Memory",
        unit="MB",
        query=f"max_over_time({RSS}{{$selector}}[1d])",
        criterion=lambda limits: f"below {limits.memory_mb:g} MB at every sample",
        threshold=lambda limits: limits.memory_mb,
        judge=memory_max,
        join="max",
        about="The highest raw sample of the resident memory of any process of the service.",
    ),
    Check(
        id="memory.trend",
        title="Memory, growth in 24 h",
        section="Memory",
        unit="MB",
        query=f"{RSS}{{$selector}}[1d]",
        criterion=lambda limits: f"99 % interval and last level below {limits.memory_growth_mb_per_day:g} MB",
        threshold=lambda limits: limits.memory_growth_mb_per_day,
        judge=memory_trend,
        join="max",
        about=(
            "The increments between the lowest samples of eight blocks, for each process by itself, its first hour "
            "left out; the level of the last hours against those before. What follows the message rate is left out."
        ),
        params=lambda _limits: {"warm_up_seconds": WARM_UP, "blocks": BLOCKS},
    ),
    Check(
        id="freshness",
        title="Freshness",
        section="Freshness",
        unit="%",
        query=f"time() - max({COMMIT}{{$selector}})",
        criterion=lambda limits: (
            f"at least {limits.freshness_percent:g} % of the slots with a commit younger than "
            f"{limits.commit_age_seconds:g} s; a slot without a sample is bad"
        ),
        threshold=lambda limits: limits.freshness_percent,
        judge=freshness,
        join="share",
        about=(
            "The age of the last commit at each scrape, of the process that has the youngest, in every shard. A scrape "
            "that no process of a shard answers is stale."
        ),
        params=lambda limits: {"commit_age_seconds": limits.commit_age_seconds},
    ),
    Check(
        id="restarts",
        title="Restarts, unplanned",
        section="Restarts and deployments",
        unit="",
        query=f"{START}{{$selector}}[1d]",
        criterion=lambda limits: f"at most {limits.restarts} that no deployment's trail explains",
        threshold=lambda limits: float(limits.restarts),
        judge=restarts,
        join="sum",
        about=(
            "Another start time at the same address, or a writer whose samples end while scraping goes on. A restart "
            "is planned if a deployment's report covers it; a new version without a report counts as planned once a "
            "day."
        ),
    ),
)  # fmt: skip
