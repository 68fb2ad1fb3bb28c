"""Ranges against sets of single ids."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingest.audit.ranges import IdRanges, length, merged, runs, split

ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 8)).map(lambda pair: (pair[0], pair[0] + pair[1])))


def ids(these: list[tuple[int, int]]) -> set[int]:
    return {n for first, last in these for n in range(first, last + 1)}


@given(ranges)
def test_merged_is_the_same_set_without_overlap(these: list[tuple[int, int]]) -> None:
    out = merged(these)
    assert ids(out) == ids(these)
    assert length(out) == len(ids(these))
    assert all(left[1] + 1 < right[0] for left, right in pairwise(out))


@given(st.sets(st.integers(0, 80)))
def test_runs_are_the_ids(numbers: set[int]) -> None:
    assert ids(list(runs(sorted(numbers)))) == numbers
    assert list(runs(sorted(numbers))) == merged((n, n) for n in numbers)


@given(st.integers(0, 60), st.integers(0, 30), ranges)
def test_split_cuts_at_the_cover(first: int, width: int, cover: list[tuple[int, int]]) -> None:
    pieces = list(split((first, first + width), merged(cover)))
    assert [n for (a, b), _ in pieces for n in range(a, b + 1)] == list(range(first, first + width + 1))
    for piece, covered in pieces:
        assert ids([piece]) <= ids(cover) if covered else not ids([piece]) & ids(cover)


@given(ranges, st.lists(st.integers(0, 70)))
def test_id_ranges_behave_as_a_set(these: list[tuple[int, int]], discarded: list[int]) -> None:
    kept, naive = IdRanges(), ids(these)
    for first, last in merged(these):
        kept.add(first, last)
    for number in discarded:
        assert kept.discard(number) == (number in naive)
        naive.discard(number)
    assert ids(list(kept)) == naive
    assert list(kept) == sorted(kept)
