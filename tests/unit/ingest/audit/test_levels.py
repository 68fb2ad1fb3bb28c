"""Rebuilt books: equal to a naive one, and compared only as far as both are known."""

import random

import pytest

from ingest.audit.levels import WHOLE, RebuiltBook, Side, amount, side_of


def test_a_side_is_what_a_dictionary_with_the_same_changes_is() -> None:
    draw = random.Random(1)
    for sign in (1, -1):
        side, naive = Side(sign), dict[int, int]()
        for _ in range(2000):
            price, quantity = draw.randrange(1, 60), draw.choice((0, 0, 1, 2))
            side.apply([(price, quantity)])
            naive[price] = quantity
            left = {key: value for key, value in naive.items() if value}
            assert side.quantities == left
            assert side.best == (None if not left else max(left) if sign > 0 else min(left))


def test_a_difference_is_the_best_level_that_is_not_equal() -> None:
    book = RebuiltBook(1, [(100, 1), (99, 2), (98, 3)], [(101, 1), (102, 2)])
    same = RebuiltBook(9, [(98, 3), (100, 1), (99, 2)], [(102, 2), (101, 1)])
    assert book.difference(same) is None
    same.apply(10, [(98, 4), (99, 0)], [(102, 3)])
    assert book.difference(same) == "bid 0.00000099: 0.00000002 here, 0.00000000 there"
    same.apply(11, [(98, 3), (99, 2)], [])
    assert book.difference(same) == "ask 0.00000102: 0.00000002 here, 0.00000003 there"


def test_levels_beyond_a_snapshot_that_was_cut_are_not_compared() -> None:
    deep = [(price, 1) for price in range(1, WHOLE + 500)]
    cut = deep[-WHOLE:]
    book, snapshot = RebuiltBook(1, deep, []), RebuiltBook(1, cut, [])
    assert book.difference(snapshot) is None
    snapshot.apply(2, [(cut[0][0], 0)], [])
    assert book.difference(snapshot) is not None
    whole = RebuiltBook(1, deep[-10:], [])  # fewer levels than are requested: there are no more
    assert book.difference(whole) is not None


@pytest.mark.parametrize(("bid", "ask", "crossed"), [(100, 101, False), (101, 101, True), (102, 101, True)])
def test_a_bid_that_is_not_below_every_ask_crosses_the_book(bid: int, ask: int, crossed: bool) -> None:
    assert RebuiltBook(1, [(bid, 1)], [(ask, 1)]).crossed is crossed
    assert not RebuiltBook(1, [(bid, 1)], []).crossed


def test_amounts_and_levels() -> None:
    assert amount(b"\x01\x00") == 256
    assert amount("1.5") == 150_000_000
    assert amount(None) is None
    good = {"price": b"\x01", "quantity": b"\x00"}
    assert side_of({"bids": [good]}, "bids") == [(1, 0)]
    for bad in (
        {"price": b"\x00", "quantity": b"\x01"},
        {"price": b"\x01", "quantity": b"\xff"},
        {"price": None, "quantity": b""},
    ):
        with pytest.raises(ValueError, match="bids has the level"):
            side_of({"bids": [bad]}, "bids")
