"""The rule by which a transaction shrinks and grows, how a batch is split, and how long a failure waits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.core.batch import Batch, SymbolChanges
from ingest.core.continuity import validate_and_advance_positions
from ingest.core.trade import DeadLetter, Position, Void
from ingest.kafka.transaction_pacing import (
    PASSING_MOST_SECONDS,
    PERMANENT_MOST_SECONDS,
    RECORD_OVERHEAD,
    FailureBackoff,
    TransactionSize,
    split,
    weight,
)

TIME_SECONDS = 15.0
"""How long a transaction has in the model below."""


def catch_up(
    backlog: float, *, inflow: float, rate: float, fixed: float = 0.05, batch: int = 1_400_000
) -> float | None:
    """Seconds until a backlog of bytes is written where ``rate`` bytes a second pass; None for never."""
    size, elapsed = TransactionSize(), 0.0
    while backlog > inflow:
        if elapsed > 3600:
            return None
        sent = min(backlog, batch, size.limit or batch)
        seconds = fixed + sent / rate
        if seconds > TIME_SECONDS:
            seconds = TIME_SECONDS
            size.failed(int(sent), seconds)
        else:
            backlog -= sent
            size.committed(int(sent), seconds)
        elapsed += seconds
        backlog += seconds * inflow
    return elapsed


@pytest.mark.parametrize(("backlog", "inflow", "rate"), [(224_000, 4000, 6000), (1e7, 0, 20_000), (2e5, 100, 300)])
def test_a_backlog_that_does_not_fit_into_one_transaction_is_written_all_the_same(
    backlog: float, inflow: float, rate: float
) -> None:
    seconds = catch_up(backlog, inflow=inflow, rate=rate)
    assert seconds is not None
    assert seconds < 3 * backlog / (rate - inflow) + 10 * TIME_SECONDS


def test_after_an_outage_the_limit_is_gone_soon() -> None:
    size = TransactionSize()
    for _ in range(12):  # two minutes without a broker
        size.failed(1_400_000, 10.0)
    assert size.limit is not None
    transactions = 0
    while size.limit is not None and size.limit < 1_400_000:
        size.committed(size.limit, 0.02)
        transactions += 1
    assert transactions < 120


def test_a_quick_failure_says_nothing_about_the_size() -> None:
    size = TransactionSize()
    size.failed(1_400_000, 0.5)
    assert size.limit is None


def test_one_byte_is_the_least() -> None:
    size = TransactionSize()
    for _ in range(100):
        size.failed(1_400_000, 10.0)
    assert size.limit == 1
    assert len(split(Batch(records=[("A", n, b"x") for n in range(3)]), 1)) == 3


_batches = st.lists(
    st.tuples(st.sampled_from(["A", "B", "C"]), st.sampled_from(["trade", "void"]), st.integers(1, 4)), max_size=40
)


@given(events=_batches, letters=st.lists(st.integers(0, 500), max_size=5), limit=st.integers(1, 2000))
def test_the_parts_of_a_batch_add_up_to_it_and_each_continues_the_last(
    events: list[tuple[str, str, int]], letters: list[int], limit: int
) -> None:
    stored = {"A": Position(1, 10, 10), "B": Position(1, 20, 20)}
    due = {"A": 11, "B": 21, "C": 100}
    whole = Batch(
        baselines={"C": 100},
        last_times_us=dict.fromkeys("ABC", 7),
        dead_letters=[DeadLetter("r", "s", b"x" * size) for size in letters],
    )
    for symbol, kind, count in events:
        if kind == "trade":
            whole.records += [(symbol, due[symbol] + n, b"v" * 50) for n in range(count)]
        else:
            whole.voids.append(Void(symbol, due[symbol], due[symbol] + count - 1, "exchange_hole", {}))
        due[symbol] += count
    expected = stored | validate_and_advance_positions(
        stored, whole.records, whole.voids, whole.baselines, whole.last_times_us
    )
    parts = split(whole, limit)
    found = dict(stored)
    for part in parts:
        found |= validate_and_advance_positions(found, part.records, part.voids, part.baselines, part.last_times_us)
        single = len(part.records) <= 1
        assert single or weight(part) - RECORD_OVERHEAD * (len(part.voids) + len(part.baselines)) <= limit
    assert found == expected
    assert [record for part in parts for record in part.records] == whole.records
    assert [letter for part in parts for letter in part.dead_letters] == whole.dead_letters


def test_every_field_of_a_batch_is_in_its_parts() -> None:
    whole = Batch(
        records=[("A", n, b"x") for n in range(1, 4)],
        spans=[("depth:A", "update", n, n, b"x", 1) for n in range(1, 4)],
        voids=[Void("A", 4, 5, "exchange_hole", {})],
        dead_letters=[DeadLetter("r", "s", b"x")],
        baselines={"B": 7},
        oldest_trade_time_us=1,
        last_times_us={"A": 2},
        symbols=SymbolChanges(added=("B",)),
    )
    parts = split(whole, 1)
    assert len(parts) == 6
    assert [span for part in parts for span in part.spans] == whole.spans
    for name in Batch.__struct_fields__:
        assert getattr(whole, name), "the test covers every field"
        assert any(getattr(part, name) for part in parts), name


def test_a_failure_that_passes_is_retried_at_once_and_a_permanent_one_never() -> None:
    backoff = FailureBackoff()
    passing = [backoff.failed(permanent=False) for _ in range(20)]
    assert passing[:4] == [0.0, 0.1, 0.2, 0.4]
    assert passing[-1] == PASSING_MOST_SECONDS
    backoff.succeeded()
    permanent = [backoff.failed(permanent=True) for _ in range(20)]
    assert permanent[:3] == [1.0, 2.0, 4.0]
    assert permanent[-1] == PERMANENT_MOST_SECONDS
