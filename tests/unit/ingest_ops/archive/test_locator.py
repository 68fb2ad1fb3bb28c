import random

import numpy as np
import pytest

from ingest_ops.archive.locator import BLOCK, Hashes, Locator, differences, row_hashes
from ingest_ops.archive.merkle import leaf_hashes


def sums(hashes: Hashes, piece: int = 700) -> Hashes:
    locator = Locator()
    for at in range(0, len(hashes), piece):
        locator.add(hashes[at : at + piece])
    return locator.sums()


def random_hashes(count: int, seed: int = 1) -> Hashes:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


@pytest.mark.parametrize("count", [1, 5, BLOCK, BLOCK + 1, 3 * BLOCK - 1])
def test_one_changed_row_is_found_exactly(count: int) -> None:
    before = random_hashes(count)
    rng = random.Random(count)
    for place in {0, count - 1, rng.randrange(count), rng.randrange(count)}:
        after = before.copy()
        after[place] ^= np.uint64(rng.randrange(1, 2**64))
        assert list(differences(sums(before), sums(after, 333))) == [(place, place)]


def test_one_changed_row_in_each_of_two_blocks() -> None:
    before = random_hashes(5 * BLOCK)
    after = before.copy()
    after[[7, 4 * BLOCK + 1023]] += np.uint64(1)
    assert list(differences(sums(before), sums(after))) == [(7, 7), (4 * BLOCK + 1023, 4 * BLOCK + 1023)]


def test_of_several_changed_rows_the_block_is_known() -> None:
    before = random_hashes(3 * BLOCK)
    after = before.copy()
    after[[BLOCK + 1, BLOCK + 500, BLOCK + 900]] += np.uint64(3)
    assert list(differences(sums(before), sums(after))) == [(BLOCK, 2 * BLOCK - 1)]


def test_swapped_rows_are_found() -> None:
    before = random_hashes(BLOCK)
    after = before.copy()
    after[[3, 900]] = before[[900, 3]]
    assert list(differences(sums(before), sums(after))) == [(0, BLOCK - 1)]


def test_equal_rows_have_no_difference() -> None:
    hashes = random_hashes(2500)
    assert list(differences(sums(hashes), sums(hashes, 9))) == []


def test_the_time_of_encoding_counts() -> None:
    leaves = leaf_hashes(np.zeros((3, 49), dtype=np.uint8))
    one = row_hashes(leaves, np.array([1, 2, 3], dtype=np.int64))
    other = row_hashes(leaves, np.array([1, 2, 4], dtype=np.int64))
    assert (one != other).tolist() == [False, False, True]
