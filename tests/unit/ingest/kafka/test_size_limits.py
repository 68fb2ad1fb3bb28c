"""What is sent after a topic has refused a size."""

from ingest.core.errors import Recycle, Retry
from ingest.kafka.size_limits import SizeLimits


def test_trades_go_in_smaller_batches_and_a_single_one_that_is_refused_is_waited_for() -> None:
    sizes = SizeLimits()
    seen = []
    while isinstance(outcome := sizes.refused("trades", 200), Recycle):
        assert outcome.reason == "too_large"
        seen.append(sizes.batch_bytes)
    assert seen == [125_000, 15_625, 1953, 1]
    assert isinstance(outcome, Retry)
    assert outcome.after > 0
    assert "max.message.bytes" in str(outcome)
