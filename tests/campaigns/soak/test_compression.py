"""A leak that trades drive is judged alike whether the market runs at its own pace or 24 times as fast.

``make soak-compression``: eight minutes at 100 trades/s, then the same market time in twenty seconds.
"""

import os
from pathlib import Path

import pytest

from ingest_ops.soak.judge import judge
from ingest_ops.soak.memory import MemoryJudgement
from ingest_ops.soak.plan import Plan
from tests.campaigns.soak.environment import Feed, SoakEnvironment
from tests.harness.kafka import KafkaUnavailable
from tests.harness.prometheus import PrometheusUnavailable

FACTOR = 24.0
LEAK = 5_000
"""Bytes a trade: 229 MB over the run, so that what the allocator does beside it is small."""
PLAN = Plan(
    name="8min",
    required_seconds=480.0,
    run_seconds=480.0,
    growth_mb=50.0,
    abort_mb=2000.0,
    warm_up_seconds=96.0,
    minima_seconds=24.0,
    block_seconds=72.0,
    sample_seconds=5.0,
    progress_seconds=60.0,
)


def memory(folder: Path, factor: float) -> MemoryJudgement:
    plan = PLAN.compressed_by(factor) if factor != 1.0 else PLAN
    scrape = plan.sample_seconds / 4
    feed = Feed(symbols=10, rate=100.0 * factor, leak_bytes_per_trade=LEAK, scrape_seconds=scrape)
    with SoakEnvironment(folder, feed) as world:
        record = world.soak(f"leak-{factor:g}x", plan, folder / "reports")
    return judge(record, None).memory


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_planted_leak_is_judged_alike_at_1x_and_at_24x(tmp_path: Path) -> None:
    try:
        slow, fast = memory(tmp_path / "slow", 1.0), memory(tmp_path / "fast", FACTOR)
    except (KafkaUnavailable, PrometheusUnavailable) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    assert slow.growth is not None
    assert fast.growth is not None
    assert slow.per_million is not None
    assert fast.per_million is not None
    print(f"growth {slow.growth} and {fast.growth} MB; MB per million {slow.per_million} and {fast.per_million}")  # noqa: T201
    assert slow.growth[0] == pytest.approx(LEAK * 48_000 / 2**20, rel=0.1)
    assert fast.growth[0] == pytest.approx(slow.growth[0], rel=0.1)
    assert fast.per_million[0] == pytest.approx(slow.per_million[0], rel=0.1)
    assert fast.verdict is slow.verdict
