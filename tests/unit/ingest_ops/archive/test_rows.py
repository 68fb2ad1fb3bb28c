import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_ops.archive.rows import Rows, decimals, plain

UNITS = st.integers(0, 2**100)


def rows_of(prices: list[int], quantities: list[int]) -> Rows:
    count = len(prices)
    numbers = np.arange(count, dtype=np.int64)
    return Rows(numbers, numbers, decimals(prices), decimals(quantities), np.zeros(count, dtype=np.uint8), numbers)


@given(st.lists(st.tuples(UNITS, UNITS), max_size=30))
def test_sums_are_exact(pairs: list[tuple[int, int]]) -> None:
    rows = rows_of([one for one, _ in pairs], [one for _, one in pairs])
    assert rows.quantity() == sum(one for _, one in pairs)
    assert rows.quote_quantity() == sum(price * quantity for price, quantity in pairs)


@pytest.mark.parametrize("largest", [2**32 - 1, 2**63, 2**64 - 1])
def test_sums_do_not_overflow(largest: int) -> None:
    rows = rows_of([largest] * 1000, [largest] * 1000)
    assert rows.quantity() == 1000 * largest
    assert rows.quote_quantity() == 1000 * largest * largest


def test_content_is_what_the_page_says() -> None:
    rows = Rows(
        np.array([258], dtype=np.int64), np.array([1_768_435_200_000_001], dtype=np.int64), decimals([10**8 + 1]),
        decimals([-2]), np.array([1], dtype=np.uint8), np.array([5], dtype=np.int64),
    )  # fmt: skip
    expected = (
        (258).to_bytes(8, "big")
        + (1_768_435_200_000_001).to_bytes(8, "big")
        + (10**8 + 1).to_bytes(16, "big")
        + (-2).to_bytes(16, "big", signed=True)
        + b"\x01"
    )
    assert rows.content().tobytes() == expected


@pytest.mark.parametrize(
    ("number", "scale", "text"), [(0, 8, "0.00000000"), (1, 8, "0.00000001"), (-12, 1, "-1.2"), (12345, 2, "123.45")]
)
def test_plain(number: int, scale: int, text: str) -> None:
    assert plain(number, scale) == text
