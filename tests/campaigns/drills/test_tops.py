"""What counts as a comparison of tops, and what explains a difference."""

from decimal import Decimal
from typing import Any

from tests.campaigns.drills.tops import SHORT_LIVED, compare


def quote(number: int, bid: str, ask: str = "11") -> dict[str, Any]:
    return {
        "kind": "QUOTE", "source_sequence": number, "bid_price": Decimal(bid), "bid_quantity": Decimal(1),
        "ask_price": Decimal(ask), "ask_quantity": Decimal(1),
    }  # fmt: skip


def interruption(last: int, first: int) -> dict[str, Any]:
    return {"kind": "BREAK", "break_detail": {"last_update_id": last, "first_update_id": first}}


def event(kind: str, first: int, last: int, bids: dict[str, str], asks: dict[str, str] | None = None) -> dict[str, Any]:
    sides = {
        side: [{"price": Decimal(price), "quantity": Decimal(quantity)} for price, quantity in levels.items()]
        for side, levels in (("bids", bids), ("asks", asks or {}))
    }
    return {"kind": kind, "symbol": "A", "first_update_id": first, "final_update_id": last, **sides}


START = event("SNAPSHOT", 10, 10, {"10": "1", "9": "1"}, {"11": "1"})


def test_equal_tops_are_counted_side_by_side() -> None:
    found, book = compare([quote(10, "10"), quote(20, "8")], [START, event("UPDATE", 11, 12, {"8": "1"})])
    assert (found.sides, found.different, book.in_sync) == (2, [], True)


def test_nothing_is_compared_out_of_sync_without_a_next_quote_or_across_a_break() -> None:
    update = event("UPDATE", 11, 12, {"8": "1"})
    assert compare([quote(10, "10"), quote(20, "8")], [update])[0].sides == 0
    assert compare([quote(10, "10")], [START, update])[0].sides == 0
    assert compare([quote(10, "10"), interruption(10, 20), quote(20, "8")], [START, update])[0].sides == 0


def test_a_top_that_was_removed_for_a_few_ids_is_explained_and_nothing_else_is() -> None:
    gone = event("UPDATE", 11, 12, {"10": "0"})
    for following, update, explained in (
        (12 + SHORT_LIVED, gone, True),
        (13 + SHORT_LIVED, gone, False),
        (14, event("UPDATE", 11, 12, {"10": "2"}), False),
    ):
        found, _ = compare([quote(10, "10"), quote(following, "10")], [START, update])
        (difference,) = found.different
        assert (difference.side, difference.update_id) == ("bid", 12)
        assert difference.explained is explained
        assert (found.unexplained == []) is explained


def test_a_quote_at_the_very_id_explains_nothing() -> None:
    found, _ = compare([quote(12, "10"), quote(13, "10")], [START, event("UPDATE", 11, 12, {"10": "0"})])
    assert len(found.unexplained) == 1
