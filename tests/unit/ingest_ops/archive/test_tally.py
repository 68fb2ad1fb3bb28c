from datetime import date
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_ops.archive.rows import Rows, decimals
from ingest_ops.archive.tally import DAY_US, Disorder, SymbolDay, Tally, day_bounds, day_of

DAY = date(2026, 1, 15)
START, END = day_bounds(DAY)


def rows(*pairs: tuple[int, int]) -> Rows:
    """Rows of (id, time)."""
    count = len(pairs)
    ids = np.array([one for one, _ in pairs], dtype=np.int64)
    times = np.array([one for _, one in pairs], dtype=np.int64)
    prices = decimals([10**8 + number for number, _ in pairs])
    return Rows(ids, times, prices, decimals([5] * count), np.zeros(count, dtype=np.uint8), times)


def account(*pairs: tuple[int, int], pieces: int = 1) -> tuple[SymbolDay, list[int]]:
    tally = Tally(DAY)
    kept: list[int] = []
    every = rows(*pairs)
    for at in range(0, len(pairs), max(1, len(pairs) // pieces)):
        kept += tally.take(every.part(slice(at, at + max(1, len(pairs) // pieces)))).ids.tolist()
    return tally.result(), kept


def test_the_bounds_of_a_day_are_exact() -> None:
    facts, kept = account((1, START - 1), (2, START), (3, END - 1), (4, END))
    assert kept == [2, 3]
    assert (facts.before_id, facts.first_id, facts.last_id, facts.after_id) == (1, 2, 3, 4)
    assert (facts.trades, facts.gaps, facts.elsewhere) == (2, [], [])


def test_a_gap_at_midnight_belongs_to_both_days() -> None:
    facts, _ = account((1, START - 1), (5, START), (6, END - 1), (9, END))
    assert facts.gaps == [(2, 4), (7, 8)]


def test_gaps_of_other_days_are_not_this_days() -> None:
    facts, _ = account((1, START - 9), (5, START - 1), (6, START), (7, END), (9, END + 1))
    assert facts.gaps == []


def test_a_gap_over_the_whole_day_is_seen() -> None:
    facts, kept = account((1, START - 1), (9, END))
    assert (facts.gaps, kept, facts.before_id, facts.after_id) == ([(2, 8)], [], 1, 9)


def test_ids_whose_times_go_back_at_midnight() -> None:
    """By their time trades belong to a day; ids and times need not grow together."""
    facts, kept = account((1, END - 5), (2, END), (3, END - 1), (4, END + 1))
    assert kept == [1, 3]
    assert (facts.elsewhere, facts.after_id, facts.last_id) == ([(2, 2)], 4, 3)
    facts, kept = account((1, START - 5), (2, START), (3, START - 1), (4, START + 1))
    assert kept == [2, 4]
    assert (facts.elsewhere, facts.before_id, facts.first_id) == ([(3, 3)], 1, 2)


def test_disorder_and_duplicates() -> None:
    with pytest.raises(Disorder):
        account((2, START), (1, START))
    with pytest.raises(Disorder):
        account((1, START), (1, START))
    tally = Tally(DAY, sorted_input=True)
    kept = tally.take(rows((1, START), (1, START), (2, START))).ids.tolist()
    kept += tally.take(rows((2, START), (3, START))).ids.tolist()
    facts = tally.result()
    assert (kept, facts.duplicates, facts.first_duplicate) == ([1, 2, 3], 2, 1)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(-3, 3)), min_size=1, max_size=40), st.integers(1, 7))
def test_against_a_naive_account(steps: list[tuple[int, int]], pieces: int) -> None:
    """Any ids, any order of times around both midnights, in any pieces."""
    number, pairs = 0, []
    for place, (step, shift) in enumerate(steps):
        number += step
        pairs.append((number, START + shift + (DAY_US if place > len(steps) // 2 else 0)))
    facts, kept = account(*pairs, pieces=pieces)
    inside = [one for one, time in pairs if START <= time < END]
    assert kept == inside
    assert facts.trades == len(inside)
    assert (facts.first_id, facts.last_id) == ((inside[0], inside[-1]) if inside else (None, None))
    lies = {one: "before" if time < START else "in" if time < END else "after" for one, time in pairs}
    gaps = [
        (one + 1, other - 1)
        for (one, _), (other, _) in pairwise(pairs)
        if other > one + 1 and not (lies[one] == lies[other] != "in")
    ]
    assert facts.gaps == gaps
    if inside:
        others = {one for one, _ in pairs if inside[0] < one < inside[-1] and lies[one] != "in"}
        covered = {one for first, last in facts.elsewhere for one in range(first, last + 1) if one in lies}
        assert covered == others
        later = [one for one, _ in pairs if one > inside[-1] and lies[one] == "after"]
        assert facts.after_id == (later[0] if later else None)
        earlier = [one for one, _ in pairs if one < inside[0] and lies[one] == "before"]
        assert facts.before_id == (earlier[-1] if earlier else None)


def test_pieces_do_not_change_root_and_locator() -> None:
    pairs = [(number, START + number) for number in range(5000)]
    whole, parts = Tally(DAY), Tally(DAY)
    whole.take(rows(*pairs))
    for at in range(0, 5000, 777):
        parts.take(rows(*pairs[at : at + 777]))
    assert whole.result() == parts.result()
    assert (whole.locator() == parts.locator()).all()


def test_day_of() -> None:
    assert (day_of(START), day_of(START - 1), day_of(END - 1)) == (DAY, date(2026, 1, 14), DAY)
