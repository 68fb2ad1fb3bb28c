"""Finds the row that was changed: a few sums of row hashes for each block of 1,024 rows.

The sums of a block are XORs of 64-bit hashes: one over all rows, and one for each bit of a row's place in the block,
over the rows that have that bit set. If one row was changed, every sum in which it takes part differs by the same
number: the ten sums spell its place. If several rows of a block were changed, the block alone is known.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ingest_ops.archive.merkle import Bytes

BITS: Final = 10
BLOCK: Final = 1 << BITS
"""Rows of a block."""
SUMS: Final = BITS + 1

Hashes = NDArray[np.uint64]

_PLACES: Final = np.arange(BLOCK)
_MASKS: Final = np.stack([(_PLACES >> bit & 1).astype(bool) for bit in range(BITS)])


def row_hashes(leaves: Bytes, encoded: NDArray[np.int64]) -> Hashes:
    """64 bits for each row: of the hash of its content, and of the time at which it was encoded."""
    number = encoded.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    number = (number ^ number >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ number >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    heads = np.ascontiguousarray(leaves[:, :8]).view("<u8").reshape(-1)
    made: Hashes = heads ^ number ^ number >> np.uint64(31)
    return made


class Locator:
    """Takes row hashes in order; ``sums`` is a matrix with one row for each block."""

    def __init__(self) -> None:
        self._blocks: list[Hashes] = []
        self._rest: Hashes = np.empty(0, dtype=np.uint64)

    def add(self, hashes: Hashes) -> None:
        """Append the hashes of rows."""
        waiting = np.concatenate([self._rest, hashes])
        whole = len(waiting) // BLOCK * BLOCK
        if whole:
            self._blocks.append(_sums(waiting[:whole].reshape(-1, BLOCK)))
        self._rest = waiting[whole:]

    def sums(self) -> Hashes:
        """The sums of all blocks, the last one filled up with zeros."""
        blocks = list(self._blocks)
        if len(self._rest):
            block = np.zeros((1, BLOCK), dtype=np.uint64)
            block[0, : len(self._rest)] = self._rest
            blocks.append(_sums(block))
        return np.concatenate(blocks) if blocks else np.empty((0, SUMS), dtype=np.uint64)


def _sums(blocks: Hashes) -> Hashes:
    made = np.empty((len(blocks), SUMS), dtype=np.uint64)
    made[:, 0] = np.bitwise_xor.reduce(blocks, axis=1)
    for bit in range(BITS):
        made[:, bit + 1] = np.bitwise_xor.reduce(blocks[:, _MASKS[bit]], axis=1)
    return made


def differences(expected: Hashes, found: Hashes) -> Iterator[tuple[int, int]]:
    """First and last place of rows that differ, counted from 0; a block without a single culprit is given whole.

    Both have the same number of blocks: a count that differs is reported before anything is located.
    """
    for block in np.flatnonzero((expected != found).any(axis=1)):
        change = expected[block] ^ found[block]
        total, parts = change[0], change[1:]
        first = int(block) * BLOCK
        if total and bool(((parts == 0) | (parts == total)).all()):
            place = first + sum(1 << bit for bit in range(BITS) if parts[bit])
            yield place, place
        else:
            yield first, first + BLOCK - 1
