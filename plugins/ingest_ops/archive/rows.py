"""Trades in columns: the bytes that a certificate hashes, and exact sums. Pure.

A row's content is 49 bytes, big-endian: id (8), time in microseconds (8), price and quantity in units of 1e-8 (16
each), side (1). That is what the exchange states; the time of encoding is no part of it, so
that a day has one root whether it was recorded or imported.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ingest_ops.archive.merkle import Bytes

SCALE: Final = 8
SIDES: Final = ("BUY", "SELL", "SELL_SHORT", "UNKNOWN")
NO_TIME: Final = -(2**63)
"""Stands for a missing time of encoding."""
_LOW: Final = np.uint64(0xFFFFFFFF)
_HALF: Final = np.uint64(32)

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """Trades of one symbol. Decimals are 16 bytes a row, little-endian, two's complement, as Arrow has them."""

    ids: Ints
    times: Ints
    prices: Bytes
    quantities: Bytes
    sides: NDArray[np.uint8]
    """Index in ``SIDES``."""
    encoded: Ints
    """When the service encoded the record, microseconds; ``NO_TIME`` for what was imported."""

    def __len__(self) -> int:
        return len(self.ids)

    def part(self, rows: Any) -> "Rows":
        """The rows of a slice or a mask."""
        return Rows(
            self.ids[rows], self.times[rows], self.prices[rows], self.quantities[rows], self.sides[rows],
            self.encoded[rows],
        )  # fmt: skip

    def content(self) -> Bytes:
        """What is hashed of each row."""
        made = np.empty((len(self), 49), dtype=np.uint8)
        made[:, 0:8] = self.ids.astype(">i8").view(np.uint8).reshape(-1, 8)
        made[:, 8:16] = self.times.astype(">i8").view(np.uint8).reshape(-1, 8)
        made[:, 16:32] = self.prices[:, ::-1]
        made[:, 32:48] = self.quantities[:, ::-1]
        made[:, 48] = self.sides
        return made

    def quantity(self) -> int:
        """Sum of quantities, units of 1e-8."""
        narrow = _unsigned(self.quantities)
        return sum(_integers(self.quantities)) if narrow is None else _sum(narrow)

    def quote_quantity(self) -> int:
        """Sum of price times quantity, units of 1e-16, exact."""
        prices, quantities = _unsigned(self.prices), _unsigned(self.quantities)
        if prices is None or quantities is None:
            pairs = zip(_integers(self.prices), _integers(self.quantities), strict=True)
            return sum(price * quantity for price, quantity in pairs)
        total = 0
        for price, left in ((prices & _LOW, 0), (prices >> _HALF, 32)):
            for quantity, right in ((quantities & _LOW, 0), (quantities >> _HALF, 32)):
                total += _sum(price * quantity) << left + right
        return total


def _unsigned(decimals: Bytes) -> NDArray[np.uint64] | None:
    """Decimals as 64-bit integers; None if one does not fit."""
    halves = np.ascontiguousarray(decimals).view("<u8").reshape(-1, 2)
    return None if halves[:, 1].any() else halves[:, 0]


def _sum(numbers: NDArray[np.uint64]) -> int:
    """Exact sum: halves of 32 bits do not overflow below 2**32 rows."""
    return int((numbers & _LOW).sum(dtype=np.uint64)) + (int((numbers >> _HALF).sum(dtype=np.uint64)) << 32)


def _integers(decimals: Bytes) -> list[int]:
    raw = decimals.tobytes()
    return [int.from_bytes(raw[at : at + 16], "little", signed=True) for at in range(0, len(raw), 16)]


def decimals(numbers: list[int]) -> Bytes:
    """Integers as 16 bytes each, as ``Rows`` has them."""
    raw = b"".join(number.to_bytes(16, "little", signed=True) for number in numbers)
    return np.frombuffer(raw, dtype=np.uint8).reshape(len(numbers), 16)


def plain(number: int, scale: int = SCALE) -> str:
    """An integer in units of 10**-scale as a decimal without an exponent."""
    digits = f"{abs(number):0{scale + 1}d}"
    return f"{'-' if number < 0 else ''}{digits[:-scale]}.{digits[-scale:]}"
