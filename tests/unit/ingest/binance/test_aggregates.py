"""``aggTrades`` as the exchange writes it: which aggregates are trades, and which pages cannot be used."""

import json
from typing import Any

import pytest

from ingest.binance.aggregates import contradicted, parse_aggregates, trades_from_aggregates
from ingest.core.errors import Reject
from ingest.core.trade import Trade

TIME = 1_723_161_254_122_000


def element(first: int, last: int, **changes: Any) -> dict[str, Any]:
    return {
        "a": first, "p": "61234.56000000", "q": "0.01000000", "f": first, "l": last, "T": TIME + first, "m": True,
        **changes,
    }  # fmt: skip


def body(*elements: dict[str, Any]) -> bytes:
    return json.dumps(elements).encode()


def test_an_aggregate_of_one_trade_is_that_trade_and_one_of_several_is_none() -> None:
    found = parse_aggregates(body(element(5_000_000_001, 5_000_000_001), element(5_000_000_002, 5_000_000_004)))
    assert [each.trade("BTCUSDT") for each in found] == [
        Trade("BTCUSDT", 5_000_000_001, "61234.56000000", "0.01000000", TIME + 5_000_000_001, True),
        None,
    ]


def test_only_the_missing_range_is_taken() -> None:
    found = parse_aggregates(body(*(element(n, n) for n in (1, 2, 3)), element(4, 6), element(7, 7), element(8, 8)))
    assert [trade.trade_id for trade in trades_from_aggregates("A", found, 2, 7)] == [2, 3, 7]


@pytest.mark.parametrize(
    "page",
    [
        b"", b"{}", b"null", b"<html>", b"[" * 100_000,
        body(element(5, 4)),
        body(element(1, 3), element(3, 3)),
        body(element(2, 2), element(1, 1)),
        body(element(1, 1, T=TIME // 1000)),
        body(element(1, 1, p=1.5)),
        body(element(-1, 1)),
        body(*(element(n, n) for n in range(1001))),
    ],
)  # fmt: skip
def test_a_page_that_cannot_be_used_is_rejected_as_a_whole(page: bytes) -> None:
    with pytest.raises(Reject):
        parse_aggregates(page)


@pytest.mark.parametrize("change", [{"p": "61234.57000000"}, {"q": "0.02000000"}, {"T": TIME}, {"m": False}])
def test_a_trade_that_is_known_otherwise_shows_a_difference(change: dict[str, Any]) -> None:
    known = {7: Trade("A", 7, "61234.56000000", "0.01000000", TIME + 7, True)}
    assert contradicted("A", parse_aggregates(body(element(6, 6), element(7, 7))), known) is None
    assert contradicted("A", parse_aggregates(body(element(6, 6), element(7, 7, **change))), known) == 7
    assert contradicted("A", parse_aggregates(body(element(7, 8, **change))), known) is None
