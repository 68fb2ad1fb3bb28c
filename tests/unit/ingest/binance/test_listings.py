"""Lists of the exchange with entries that cannot be read: they never stop the others."""

import json
import logging
from typing import Any

import pytest

from ingest.binance.listings import Activity, parse_activity, parse_exchange_info
from ingest.binance.symbols import UNSTATED
from ingest.core.errors import Reject
from tests.unit.ingest.binance.history_of import INFO

KNOWN: Any = INFO
BTC = KNOWN["symbols"][0]


def listed(*entries: Any, **more: Any) -> bytes:
    return json.dumps({**KNOWN, "symbols": [BTC, *entries], **more}).encode()


def entry(**changes: Any) -> dict[str, Any]:
    return {**BTC, "symbol": "BADUSDT", **changes}


@pytest.mark.parametrize("damage", [{"status": None}, {"status": 7}, {"filters": None}, {"filters": [{"tickSize": 1}]}])
def test_damage_beside_the_assets_does_not_keep_a_symbol_from_being_recorded(damage: dict[str, Any]) -> None:
    infos, weight = parse_exchange_info(listed(entry(**damage)))
    assert list(infos) == ["BTCUSDT", "BADUSDT"]
    bad = infos["BADUSDT"]
    assert (bad.complete, bad.base_asset, bad.quote_asset) == (True, "BTC", "USDT")
    assert bad.status == (UNSTATED if "status" in damage else "TRADING")
    assert infos["BTCUSDT"].tick_size == "0.01000000"
    assert weight == 1200


@pytest.mark.parametrize("damage", [{"baseAsset": None}, {"quoteAsset": 5}, {"baseAsset": "X" * 70}])
def test_a_symbol_without_readable_assets_is_named_and_incomplete(
    caplog: pytest.LogCaptureFixture, damage: dict[str, Any]
) -> None:
    infos, _ = parse_exchange_info(listed(entry(**damage)))
    assert {name: info.complete for name, info in infos.items()} == {"BTCUSDT": True, "BADUSDT": False}
    assert any("BADUSDT" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("nameless", [None, 5, [], {}, {"symbol": None}, {"symbol": "X" * 65}])
def test_an_entry_without_a_readable_name_is_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture, nameless: Any
) -> None:
    with caplog.at_level(logging.WARNING):
        infos, _ = parse_exchange_info(listed(nameless))
    assert list(infos) == ["BTCUSDT"]
    assert any("1 entries cannot be read" in record.getMessage() for record in caplog.records)


def test_a_list_of_which_nothing_can_be_read_is_no_list() -> None:
    with pytest.raises(Reject, match="none of 2 entries"):
        parse_exchange_info(b'{"symbols":[null,5]}')
    with pytest.raises(Reject):
        parse_exchange_info(b'{"symbols":null}')


@pytest.mark.parametrize(
    "limits", [None, "x", [{"limit": "1"}], [None, 5], [{**KNOWN["rateLimits"][0], "limit": "1200"}]]
)  # fmt: skip
def test_damaged_limits_do_not_cost_the_symbols(limits: Any) -> None:
    infos, weight = parse_exchange_info(listed(rateLimits=limits))
    assert (list(infos), weight) == (["BTCUSDT"], None)


def test_one_damaged_limit_does_not_cost_the_others() -> None:
    _, weight = parse_exchange_info(listed(rateLimits=[{"limit": "x"}, *KNOWN["rateLimits"]]))
    assert weight == 1200


@pytest.mark.parametrize("damage", [{"lastId": None}, {"lastId": "7"}, {"lastId": -2}, {"count": None}, {"symbol": 1}])
def test_one_damaged_ticker_does_not_cost_the_others(damage: dict[str, Any]) -> None:
    good = {"symbol": "BTCUSDT", "lastId": 9, "count": 3}
    assert parse_activity(json.dumps([{**good, "symbol": "BADUSDT", **damage}, good]).encode()) == {
        "BTCUSDT": Activity(9, 3)
    }


def test_one_ticker_that_is_no_list_counts_as_one() -> None:
    """As the exchange answers for a single symbol; an error in its place is none."""
    assert parse_activity(b' {"symbol":"BTCUSDT","lastId":9,"count":3}') == {"BTCUSDT": Activity(9, 3)}
    with pytest.raises(Reject, match="ticker/24hr"):
        parse_activity(b'{"code":-1000,"msg":"an error"}')
