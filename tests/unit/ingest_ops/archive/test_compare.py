from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_ops.archive.compare import NotInOrder, compare
from ingest_ops.archive.rows import Rows, decimals

Trade = tuple[int, int]
"""Id and price; time and quantity follow from the id."""


def batches(trades: list[Trade], size: int) -> Iterator[Rows]:
    for at in range(0, len(trades), size):
        part = trades[at : at + size]
        ids = np.array([one for one, _ in part], dtype=np.int64)
        yield Rows(
            ids, ids * 1000, decimals([one for _, one in part]), decimals([1] * len(part)),
            np.zeros(len(part), dtype=np.uint8), ids,
        )  # fmt: skip


SOME = st.dictionaries(st.integers(0, 60), st.integers(1, 3), max_size=60)


@given(SOME, SOME, st.integers(1, 9), st.integers(1, 9), st.integers(0, 30))
def test_against_a_naive_comparison(ours: dict[int, int], theirs: dict[int, int], a: int, b: int, from_id: int) -> None:
    found = compare(batches(sorted(ours.items()), a), batches(sorted(theirs.items()), b), from_id=from_id)
    theirs = {one: price for one, price in theirs.items() if one >= from_id}
    both = ours.keys() & theirs.keys()
    assert found.rows == len(theirs)
    assert found.equal == sum(ours[one] == theirs[one] for one in both)
    assert found.differing == sum(ours[one] != theirs[one] for one in both)
    assert found.only_ours == len(ours.keys() - theirs.keys())
    assert found.only_theirs == len(theirs.keys() - ours.keys())
    assert found.examples.get("only_theirs", []) == sorted(theirs.keys() - ours.keys())[:20]


def test_ids_twice_are_refused() -> None:
    for theirs in ([(1, 1), (1, 1)], [(2, 1), (1, 1)]):
        with pytest.raises(NotInOrder):
            compare(batches([(1, 1), (2, 1)], 5), batches(theirs, 1))


@pytest.mark.parametrize("field", ["times", "sides", "quantities"])
def test_every_field_counts(field: str) -> None:
    rows = next(batches([(1, 5), (2, 6)], 5))
    changed = {
        name: getattr(rows, name).copy() for name in ("ids", "times", "prices", "quantities", "sides", "encoded")
    }
    changed[field][1] += 1
    found = compare(iter([rows]), iter([Rows(**changed)]))
    assert (found.equal, found.differing, found.examples) == (1, 1, {"differing": [2]})


def test_times_in_milliseconds() -> None:
    ours = next(batches([(1, 5)], 5))
    ours.times[0] = 1_700_000_000_123_456
    theirs = Rows(ours.ids, ours.times // 1000 * 1000, ours.prices, ours.quantities, ours.sides, ours.encoded)
    assert compare(iter([ours]), iter([theirs]), unit_us=1000).equal == 1
    assert compare(iter([ours]), iter([theirs])).differing == 1
