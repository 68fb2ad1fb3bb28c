import json
from typing import Any

import pytest

from ingest.binance.stream_history import Snapshots, StreamHistory, parse_page, parse_snapshot, start_of_bar
from ingest.binance.weight import Urgency
from ingest.core.errors import Reject
from ingest.core.market_events import AggTrade, Bar, BlockTrade, BookSnapshot
from ingest.core.streams import AGG_TRADE, BLOCK_TRADE, DEPTH, Stream, bars

TIME = 1_700_000_040_000_000
MINUTE = 60_000_000


def kline(opens: int) -> list[object]:
    return [opens, "1.0", "3.0", "0.5", "2.0", "10.0", opens + MINUTE - 1, "20.0", 5, "4.0", "8.0", "0"]


def aggregate(number: int) -> dict[str, object]:
    return {"a": number, "p": "1.0", "q": "2.0", "f": 2 * number, "l": 2 * number + 1, "T": TIME, "m": True, "M": True}


def block(number: int) -> dict[str, object]:
    return {"id": number, "price": "1.0", "qty": "2.0", "quoteQty": "2.0", "time": TIME, "isBuyerMaker": False}


def body(rows: object) -> bytes:
    return json.dumps(rows).encode()


def test_aggregates_and_block_trades_are_read() -> None:
    page = parse_page(AGG_TRADE, "BTCUSDT", body([aggregate(4), aggregate(6)]))
    assert page.trades[0] == AggTrade("BTCUSDT", 4, "1.0", "2.0", 8, 9, TIME, True)
    assert [event.trade_id for event in page.trades] == [4, 6]
    page = parse_page(BLOCK_TRADE, "BTCUSDT", body([block(4)]))
    assert page.trades == [BlockTrade("BTCUSDT", 4, "1.0", "2.0", TIME, False)]


def test_of_bars_the_last_one_may_be_open_and_is_left_out() -> None:
    page = parse_page(bars("1m"), "BTCUSDT", body([kline(TIME), kline(TIME + MINUTE)]))
    figures = ("1.0", "3.0", "0.5", "2.0", "10.0", "20.0", "4.0", "8.0")
    assert page.trades == [Bar("BTCUSDT", "1m", TIME // MINUTE, TIME, TIME + MINUTE - 1, figures, 5)]
    assert parse_page(bars("1m"), "BTCUSDT", body([kline(TIME)])).trades == []


def test_a_bar_of_history_equals_the_one_of_the_stream() -> None:
    (kept,) = parse_page(bars("1m"), "BTCUSDT", body([kline(TIME), kline(TIME + MINUTE)])).trades
    live = Bar("BTCUSDT", "1m", TIME // MINUTE, TIME, TIME + MINUTE - 1, kept.figures, 5, 100, 104, TIME + MINUTE)
    assert live.same_content(kept)
    assert hash(live) == hash(kept)
    corrected = Bar("BTCUSDT", "1m", TIME // MINUTE, TIME, TIME + MINUTE - 1, kept.figures, 6, 100, 105)
    assert not live.same_content(corrected)


@pytest.mark.parametrize(
    ("stream", "rows", "reason"),
    [
        (AGG_TRADE, [aggregate(6), aggregate(4)], "not_an_event"),
        (AGG_TRADE, [{**aggregate(1), "a": "x"}], "malformed_json"),
        (AGG_TRADE, {"code": 1}, "malformed_json"),
        (AGG_TRADE, [{**aggregate(1), "T": TIME // 1000}], "implausible_time"),
        (BLOCK_TRADE, [{}], "malformed_json"),
        (bars("1m"), [kline(TIME)[:5]], "malformed_json"),
        (bars("1m"), [kline(10**18), kline(10**18 + 1)], "implausible_time"),
    ],
)
def test_a_page_that_cannot_be_used_is_refused(stream: Stream, rows: object, reason: str) -> None:
    with pytest.raises(Reject) as caught:
        parse_page(stream, "BTCUSDT", body(rows))
    assert caught.value.reason == reason


def test_a_snapshot_is_read_and_a_damaged_one_refused() -> None:
    answer = {"lastUpdateId": 5, "bids": [["1.0", "2.0"]], "asks": []}
    assert parse_snapshot(body(answer)) == BookSnapshot(5, [("1.0", "2.0")], [])
    damages: list[object] = [{}, {**answer, "lastUpdateId": -1}, {**answer, "bids": [["1.0"]]}, []]
    for damage in damages:
        with pytest.raises(Reject):
            parse_snapshot(body(damage))
    with pytest.raises(Reject, match="levels"):
        parse_snapshot(body({**answer, "bids": [["1.0", "2.0"]] * 5001}))


def test_a_bar_s_number_leads_to_the_time_that_it_is_asked_for_with() -> None:
    assert start_of_bar(bars("1m"), TIME // MINUTE) == TIME // 1000
    assert start_of_bar(bars("1M"), 648) == 1_704_067_200_000  # January 2024
    monday = 1_704_067_200_000_000
    week = bars("1w")
    begins = start_of_bar(week, monday // week.stride_us) * 1000
    assert monday - week.stride_us < begins <= monday


class Rest:
    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], int]] = []

    async def get(self, path: str, params: dict[str, str], parse: Any, *, weight: int, urgency: Urgency) -> Any:
        assert urgency is Urgency.STREAMS
        self.asked.append((path, params, weight))
        return parse(body({"lastUpdateId": 5, "bids": [], "asks": []} if "depth" in path else [])), "url"


async def test_each_stream_asks_for_its_own_history() -> None:
    rest: Any = Rest()
    for stream in (AGG_TRADE, BLOCK_TRADE, bars("1m")):
        await StreamHistory(rest, stream).trades_from("BTCUSDT", 7, 999)
    assert rest.asked == [
        ("/api/v3/aggTrades", {"symbol": "BTCUSDT", "fromId": "7", "limit": "1000"}, 4),
        ("/api/v3/historicalBlockTrades", {"symbol": "BTCUSDT", "fromId": "7", "limit": "1000"}, 25),
        ("/api/v3/klines", {"symbol": "BTCUSDT", "startTime": "420000", "limit": "1000", "interval": "1m"}, 2),
    ]
    assert (await Snapshots(rest).book("BTCUSDT")).last_update_id == 5
    assert rest.asked[-1] == ("/api/v3/depth", {"symbol": "BTCUSDT", "limit": "1000"}, 50)
    with pytest.raises(RuntimeError, match="no history"):
        await StreamHistory(rest, DEPTH).trades_from("BTCUSDT", 7)
