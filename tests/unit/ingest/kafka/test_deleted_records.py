"""Records that somebody deleted, told from those whose retention is over."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.kafka.deleted_records import MARGIN_MS, RECENT_MS, DeletedRecords, Offsets, cutoff_ms, retention_of
from ingest.kafka.topic_policy import FOREVER_MS, Found, Problem, Topic

TOPIC = Topic("t", "trades")
DAY = 24 * 3_600_000


def found(topic_id: str = "id", **configs: str) -> dict[str, Found]:
    given = {key.replace("_", "."): value for key, value in configs.items()}
    return {"t": Found(topic_id, 2, 1, {"retention.ms": str(DAY), "cleanup.policy": "delete", **given})}


def looks(*seen: tuple[dict[str, Found], Offsets], apart_ms: int = 15_000) -> list[list[Problem]]:
    one = DeletedRecords()
    return [
        one.look([TOPIC], topics, {("t", 1): offsets}, 10**12 + number * apart_ms)
        for number, (topics, offsets) in enumerate(seen)
    ]


def test_what_the_retention_deletes_is_no_problem_and_what_it_must_keep_is_one() -> None:
    whole = found()
    quiet = looks((whole, Offsets(0, 50)), (whole, Offsets(50, 80)), (whole, Offsets(80, 80)))
    assert quiet == [[], [], []]
    _, (problem,), (later,) = looks((whole, Offsets(0, 50)), (whole, Offsets(51, 80)), (whole, Offsets(51, 80)))
    assert (problem.policy, problem.refused, problem.loses_data) == ("deleted_records", False, True)
    assert "partition 1 begins at 51" in problem.text
    assert "ingest audit" in problem.text
    assert later == problem  # they stay lost


@pytest.mark.parametrize(
    "after",
    [found("another"), found(retention_ms="1000"), found(retention_bytes="1000")],
    ids=["created again", "shorter retention", "by size"],
)
def test_a_topic_that_changed_otherwise_is_not_compared(after: dict[str, Found]) -> None:
    assert looks((found(), Offsets(0, 50)), (after, Offsets(70, 80))) == [[], []]


@pytest.mark.parametrize(("apart_ms", "problems"), [(RECENT_MS, 1), (RECENT_MS + 1, 0), (DAY, 0)])
def test_looks_that_are_far_apart_are_not_compared(apart_ms: int, problems: int) -> None:
    """A broker that was away, a process that was frozen: what the retention deletes meanwhile was to be kept then."""
    before, after = looks((found(), Offsets(0, 50)), (found(), Offsets(51, 80)), apart_ms=apart_ms)
    assert (len(before), len(after)) == (0, problems)
    without_limit = found(retention_ms="-1")
    _, after = looks((without_limit, Offsets(0, 0)), (without_limit, Offsets(1, 1)), apart_ms=apart_ms)
    assert len(after) == 1, "nothing is ever deleted there"


def test_a_compacted_topic_keeps_its_beginning() -> None:
    positions = Topic("t", "positions")
    compact = found(cleanup_policy="compact")
    assert retention_of(compact["t"]) == FOREVER_MS
    one = DeletedRecords()
    assert one.look([positions], compact, {("t", 0): Offsets(0, 0)}, 0) == []
    deletes = found(cleanup_policy="delete")  # for the moment: else the broker refuses
    assert one.look([positions], deletes, {("t", 0): Offsets(0, 0)}, 0) == []
    (problem,) = one.look([positions], compact, {("t", 0): Offsets(1, 1)}, DAY)
    assert "ingest positions rebuild" in problem.text


def test_evidence_is_no_lost_data() -> None:
    one = DeletedRecords()
    letters = Topic("t", "dead letters")
    one.look([letters], found(), {("t", 0): Offsets(0, 5)}, 0)
    assert [problem.loses_data for problem in one.look([letters], found(), {("t", 0): Offsets(6, 6)}, 0)] == [False]


@pytest.mark.parametrize("configs", [{"retention.bytes": "5"}, {"retention.ms": "much"}, {}])
def test_without_a_known_retention_nothing_is_said(configs: dict[str, str]) -> None:
    assert retention_of(Found("id", 1, 1, configs)) is None
    assert retention_of(Found("id", 1, 1, None)) is None


@given(st.integers(1, 10**12), st.integers(0, 2 * 10**12))
def test_nothing_that_retention_deletes_until_the_next_look_is_kept_by_the_note(retention: int, now: int) -> None:
    """The broker deletes what is older than the retention; a look that is compared is less than the margin away."""
    kept_since = cutoff_ms(retention, now)
    assert kept_since == 0 or kept_since - (now + RECENT_MS - retention) >= MARGIN_MS - RECENT_MS > 0
    assert cutoff_ms(FOREVER_MS, now) == 0
