"""What is sent after a topic has refused a size: dead letters give way, trades never do."""

from ingest.core.errors import Recycle, Retry
from ingest.kafka.client import BATCH_BYTES
from ingest.kafka.size_limits import Sizes


def test_a_dead_letter_is_cut_until_it_is_taken_and_dropped_only_where_nothing_is() -> None:
    dropped: list[int] = []
    sizes = Sizes("dlq", dropped.append)
    raw = b"x" * 4000
    assert sizes.letter(raw) == raw
    lengths = []
    while (sent := sizes.letter(raw)) is not None:
        lengths.append(len(sent))
        assert isinstance(sizes.refused("dlq", len(sent)), Recycle)
    assert lengths == [4000, 500, 62, 7, 0]
    assert dropped == [1]
    assert sizes.batch_bytes == BATCH_BYTES


def test_trades_go_in_smaller_batches_and_a_single_one_that_is_refused_is_waited_for() -> None:
    sizes = Sizes("dlq")
    seen = []
    while isinstance(outcome := sizes.refused("trades", 200), Recycle):
        assert outcome.reason == "too_large"
        seen.append(sizes.batch_bytes)
    assert seen == [125_000, 15_625, 1953, 1]
    assert isinstance(outcome, Retry)
    assert outcome.after > 0
    assert "max.message.bytes" in str(outcome)
    assert sizes.letter(b"x" * 4000) == b"x" * 4000
