"""REST as Binance documents it: bodies, weights, headers, refusals; over the same ledger as the streams."""

import json
from typing import Any

import pytest

from ingest.simulator.ledger import Ledger
from ingest.simulator.rest import Response, RestApi

NOW = 1_795_624_000_000_000
IP = "10.0.0.1"
FIRST = 2**32 + 7


class Clock:
    now_us = NOW

    def __call__(self) -> int:
        return self.now_us


class Api:
    """A ledger with 2,000 trades of BTCUSDT, one a second and the last one now, and its REST API."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.ledger = Ledger()
        self.btc = self.ledger.add("BTCUSDT", "BTC", "USDT", FIRST)
        self.ledger.add("ETHBTC", "ETH", "BTC", 5, status="BREAK")
        for number in range(2000):
            self.btc.append(
                6_000_000_000_000 + number, 150_000, NOW - (1999 - number) * 1_000_000 + 123, number % 2 == 0
            )
        self.rest = RestApi(self.ledger, now_us=self.clock, **options)

    def get(self, path: str, query: str = "", **headers: str) -> Response:
        answer = self.rest.handle("GET", path, query, {k.replace("_", "-"): v for k, v in headers.items()}, IP)
        assert answer is not None
        return answer

    def json(self, path: str, query: str = "", **headers: str) -> Any:
        answer = self.get(path, query, **headers)
        assert answer.status == 200, answer.body
        return json.loads(answer.body)

    def refused(self, path: str, query: str = "", **headers: str) -> tuple[int, int]:
        answer = self.get(path, query, **headers)
        return answer.status, json.loads(answer.body)["code"]


@pytest.fixture
def api() -> Api:
    return Api()


def test_a_trade_byte_by_byte(api: Api) -> None:
    row = (
        '[{"id":4294967303,"price":"60000.00000000","qty":"0.00150000","quoteQty":"90.00000000",'
        f'"time":{(NOW - 1_999_000_000 + 123) // 1000},"isBuyerMaker":true,"isBestMatch":true}}]'
    )
    answer = api.get("/api/v3/historicalTrades", f"symbol=BTCUSDT&limit=1&fromId={FIRST}")
    assert answer.body.decode() == row
    assert ("Content-Type", "application/json;charset=UTF-8") in answer.headers


@pytest.mark.parametrize(
    ("query", "first", "count"),
    [
        ("", 1500, 500),
        ("limit=1000", 1000, 1000),
        ("limit=5000", 1000, 1000),
        (f"fromId={FIRST + 10}", 10, 500),
        (f"fromId={FIRST + 1990}", 1990, 10),
        ("fromId=0&limit=3", 0, 3),
        (f"fromId={FIRST + 2000}", 0, 0),
    ],
)
def test_history_by_id(api: Api, query: str, first: int, count: int) -> None:
    rows = api.json("/api/v3/historicalTrades", f"symbol=BTCUSDT&{query}")
    assert [row["id"] for row in rows] == list(range(FIRST + first, FIRST + first + count))


def test_an_id_older_than_what_is_kept_is_answered_from_the_oldest_kept_one() -> None:
    api = Api(retention=100)
    rows = api.json("/api/v3/historicalTrades", "symbol=BTCUSDT&fromId=1&limit=2")
    assert [row["id"] for row in rows] == [FIRST + 1900, FIRST + 1901]
    assert api.json("/api/v3/aggTrades", "symbol=BTCUSDT&fromId=1&limit=1")[0]["f"] == FIRST + 1900
    assert api.json("/api/v3/trades", "symbol=BTCUSDT&limit=1000")[0]["id"] == FIRST + 1000  # memory, not database


def test_the_database_lags_and_memory_does_not() -> None:
    api = Api(history_lag_us=10_000_000)
    assert api.json("/api/v3/historicalTrades", "symbol=BTCUSDT&limit=1")[0]["id"] == FIRST + 1988
    assert api.json("/api/v3/historicalTrades", f"symbol=BTCUSDT&fromId={FIRST + 1995}") == []
    assert api.json("/api/v3/aggTrades", "symbol=BTCUSDT&limit=1")[-1]["l"] == FIRST + 1988
    assert api.json("/api/v3/trades", "symbol=BTCUSDT&limit=1")[0]["id"] == FIRST + 1999
    api.clock.now_us += 20_000_000
    assert api.json("/api/v3/historicalTrades", "symbol=BTCUSDT&limit=1")[0]["id"] == FIRST + 1999


@pytest.mark.parametrize("unit", ["MICROSECOND", "microsecond"])
def test_microseconds_on_request(api: Api, unit: str) -> None:
    assert api.json("/api/v3/trades", "symbol=BTCUSDT&limit=1", X_MBX_TIME_UNIT=unit)[0]["time"] == NOW + 123
    assert api.json("/api/v3/time", x_mbx_time_unit=unit) == {"serverTime": NOW}
    assert api.json("/api/v3/time") == {"serverTime": NOW // 1000}


def test_aggregates_by_id_and_time(api: Api) -> None:
    oldest = api.json("/api/v3/aggTrades", "symbol=BTCUSDT&fromId=0&limit=2")
    assert [set(one) for one in oldest] == [set("apqflTmM")] * 2
    assert [(one["f"], one["l"]) for one in oldest] == [(FIRST, FIRST), (FIRST + 1, FIRST + 1)]
    start = (NOW - 99_000_000) // 1000
    by_time = api.json("/api/v3/aggTrades", f"symbol=BTCUSDT&startTime={start}&endTime={start + 1000}")
    assert [one["f"] for one in by_time] == [FIRST + 1900, FIRST + 1901]
    newest = api.json("/api/v3/aggTrades", f"symbol=BTCUSDT&endTime={start}&limit=2")
    assert [one["f"] for one in newest] == [FIRST + 1899, FIRST + 1900]
    assert api.refused("/api/v3/aggTrades", "symbol=BTCUSDT&fromId=1&startTime=1") == (400, -1128)


def test_exchange_info(api: Api) -> None:
    info = api.json("/api/v3/exchangeInfo")
    assert [(one["symbol"], one["baseAsset"], one["quoteAsset"], one["status"]) for one in info["symbols"]] == [
        ("BTCUSDT", "BTC", "USDT", "TRADING"),
        ("ETHBTC", "ETH", "BTC", "BREAK"),
    ]
    limits = {one["rateLimitType"]: one for one in info["rateLimits"]}
    assert limits["REQUEST_WEIGHT"] == {
        "rateLimitType": "REQUEST_WEIGHT",
        "interval": "MINUTE",
        "intervalNum": 1,
        "limit": 6000,
    }
    assert [one["symbol"] for one in api.json("/api/v3/exchangeInfo", "symbolStatus=BREAK")["symbols"]] == ["ETHBTC"]
    several = api.json("/api/v3/exchangeInfo", "symbols=%5B%22ETHBTC%22,%22BTCUSDT%22%5D")
    assert [one["symbol"] for one in several["symbols"]] == ["ETHBTC", "BTCUSDT"]


def test_the_other_answers(api: Api) -> None:
    assert api.get("/api/v3/ping").body == b"{}"
    book = api.json("/api/v3/depth", "symbol=BTCUSDT&limit=5")
    assert set(book) == {"lastUpdateId", "bids", "asks"}
    assert float(book["bids"][0][0]) < float(book["asks"][0][0])
    assert len(book["bids"]) == len(book["asks"]) == 5
    assert api.json("/api/v3/ticker/price", "symbol=BTCUSDT") == {"symbol": "BTCUSDT", "price": "60000.00001999"}
    assert set(api.json("/api/v3/ticker/bookTicker")[0]) >= {"bidPrice", "askQty"}
    assert set(api.json("/api/v3/avgPrice", "symbol=BTCUSDT")) == {"mins", "price", "closeTime"}
    full = api.json("/api/v3/ticker/24hr", "symbol=BTCUSDT")
    assert (full["firstId"], full["lastId"], full["count"]) == (FIRST, FIRST + 1999, 2000)
    assert "bidPrice" not in api.json("/api/v3/ticker/24hr", "symbol=BTCUSDT&type=MINI")


@pytest.mark.parametrize(
    ("path", "query", "weight"),
    [
        ("/api/v3/ping", "", 1),
        ("/api/v3/time", "", 1),
        ("/api/v3/exchangeInfo", "", 20),
        ("/api/v3/depth", "symbol=BTCUSDT", 5),
        ("/api/v3/depth", "symbol=BTCUSDT&limit=101", 25),
        ("/api/v3/depth", "symbol=BTCUSDT&limit=1000", 50),
        ("/api/v3/depth", "symbol=BTCUSDT&limit=9000", 250),
        ("/api/v3/trades", "symbol=BTCUSDT", 25),
        ("/api/v3/historicalTrades", "symbol=BTCUSDT", 25),
        ("/api/v3/aggTrades", "symbol=BTCUSDT", 4),
        ("/api/v3/avgPrice", "symbol=BTCUSDT", 2),
        ("/api/v3/ticker/24hr", "symbol=BTCUSDT", 2),
        ("/api/v3/ticker/24hr", "", 80),
        ("/api/v3/ticker/price", "", 4),
    ],
)
def test_weights(api: Api, path: str, query: str, weight: int) -> None:
    used = dict(api.get(path, query).headers)
    assert used["x-mbx-used-weight-1m"] == str(weight)
    assert dict(api.get("/api/v3/ping").headers)["x-mbx-used-weight-1m"] == str(weight + 1)
    assert api.rest.counters["weight"] == weight + 1


@pytest.mark.parametrize(
    ("path", "query", "code"),
    [
        ("/api/v3/historicalTrades", "", -1102),
        ("/api/v3/historicalTrades", "symbol=btcusdt", -1100),
        ("/api/v3/historicalTrades", "symbol=NOSUCH", -1121),
        ("/api/v3/historicalTrades", "symbol=", -1105),
        ("/api/v3/historicalTrades", "symbol=BTCUSDT&symbol=BTCUSDT", -1101),
        ("/api/v3/historicalTrades", "symbol=BTCUSDT&colour=blue", -1104),
        ("/api/v3/historicalTrades", "symbol=BTCUSDT&fromId=x", -1100),
        ("/api/v3/historicalTrades", "symbol=BTCUSDT&limit=0", -1130),
        ("/api/v3/time", "a=1", -1101),
        ("/api/v3/depth", "symbol=BTCUSDT&symbolStatus=BREAK", -1220),
        ("/api/v3/exchangeInfo", "symbolStatus=ASLEEP", -1122),
        ("/api/v3/exchangeInfo", "symbol=BTCUSDT&symbolStatus=BREAK", -1128),
        ("/api/v3/ticker/price", "symbols=%5B%22BTCUSDT%22,%22BTCUSDT%22%5D", -1151),
    ],
)
def test_bad_requests(api: Api, path: str, query: str, code: int) -> None:
    assert api.refused(path, query) == (400, code)


def test_a_bad_time_unit_path_and_method(api: Api) -> None:
    assert api.refused("/api/v3/time", x_mbx_time_unit="SECOND") == (400, -1194)
    assert api.get("/api/v1/time").status == 404
    answer = api.rest.handle("POST", "/api/v3/time", "", {}, IP)
    assert answer is not None
    assert answer.status == 405


def test_429_then_418_with_retry_after_and_the_next_minute() -> None:
    api = Api(weight_limit=100)
    for _ in range(4):
        assert api.get("/api/v3/trades", "symbol=BTCUSDT").status == 200
    refused = api.get("/api/v3/trades", "symbol=BTCUSDT")
    assert refused.status == 429
    assert 0 < int(dict(refused.headers)["Retry-After"]) <= 60
    assert json.loads(refused.body)["code"] == -1003
    while (answer := api.get("/api/v3/ping")).status == 429:
        pass
    assert (answer.status, json.loads(answer.body)["code"]) == (418, -1003)
    pause = int(dict(answer.headers)["Retry-After"])
    assert pause >= 100
    other = api.rest.handle("GET", "/api/v3/ping", "", {}, "10.0.0.2")
    assert other is not None
    assert other.status == 200  # limits are per address
    api.clock.now_us += pause * 1_000_000 + 60_000_000
    assert api.get("/api/v3/ping").status == 200
    assert api.rest.counters["rest_418"] == 1
    assert api.rest.counters["rest_429"] >= 10


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, "html"), (418, "json"), (429, "json"), (500, "json"), (502, "html"), (503, "json"), (504, "html")],
)
def test_statuses_on_demand(api: Api, status: int, kind: str) -> None:
    api.rest.faults.refuse(status, calls=2, retry_after=3)
    for _ in range(2):
        answer = api.get("/api/v3/time")
        assert answer.status == status
        assert dict(answer.headers)["Retry-After"] == "3"
        assert (b"<html>" in answer.body) == (kind == "html")
    assert api.get("/api/v3/time").status == 200
    assert api.rest.counters[f"rest_{status}"] == 2


def test_answers_that_hang_are_cut_or_incomplete(api: Api) -> None:
    faults, path, query = api.rest.faults, "/api/v3/historicalTrades", f"symbol=BTCUSDT&fromId={FIRST}&limit=30"
    faults.hang = 1
    assert api.rest.handle("GET", path, query, {}, IP) is None
    faults.garbage = 1
    with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
        json.loads(api.get(path, query).body)
    faults.truncate = 2
    assert [len(api.json(path, query)) for _ in range(3)] == [20, 15, 30]
    faults.hang, faults.only = 1, "/api/v3/exchangeInfo"
    assert len(api.json(path, query)) == 30


def test_a_negative_number_of_calls_hits_all_of_them_until_it_is_cleared(api: Api) -> None:
    faults, path, query = api.rest.faults, "/api/v3/historicalTrades", f"symbol=BTCUSDT&fromId={FIRST}&limit=30"
    faults.truncate = -1
    assert [len(api.json(path, query)) for _ in range(4)] == [20, 15, 20, 15]
    faults.garbage = -1
    for _ in range(3):
        with pytest.raises(ValueError, match=r"Expecting|Unterminated|delimiter"):
            json.loads(api.get(path, query).body)
    faults.hang = -1
    assert [api.rest.handle("GET", path, query, {}, IP) for _ in range(3)] == [None, None, None]
    faults.clear()
    assert len(api.json(path, query)) == 30


def test_tickers_follow_the_last_24_hours() -> None:
    api = Api()
    day = 86_400_000_000
    before = api.json("/api/v3/ticker/24hr", "symbol=BTCUSDT")
    assert (before["highPrice"], before["lowPrice"]) == ("60000.00001999", "60000.00000000")
    api.clock.now_us += day // 2
    api.btc.append(5_000_000_000_000, 100_000_000, api.clock.now_us, True)
    api.clock.now_us += day // 2 + 60_000_000  # the far end moves by whole minutes
    later = api.json("/api/v3/ticker/24hr", "symbol=BTCUSDT")
    assert (later["count"], later["firstId"], later["lastId"]) == (1, FIRST + 2000, FIRST + 2000)
    assert (later["highPrice"], later["lowPrice"], later["prevClosePrice"]) == (
        "50000.00000000",
        "50000.00000000",
        "60000.00001999",
    )
    api.clock.now_us += 2 * day
    quiet = api.json("/api/v3/ticker/24hr", "symbol=BTCUSDT")
    assert (quiet["count"], quiet["firstId"], quiet["lastPrice"]) == (0, -1, "50000.00000000")
    assert api.json("/api/v3/ticker/24hr", "symbol=ETHBTC")["lastPrice"] == "0.00000000"


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("permissions=SPOT", ["BTCUSDT", "ETHBTC"]),
        ("permissions=%5B%22LEVERAGED%22%5D", []),
        ("permissions=NONSENSE", -1130),
        ("permissions=%5B3%5D", -1130),
        ("permissions=%5B", -1130),
        ("symbol=BTCUSDT&symbols=%5B%22ETHBTC%22%5D", -1128),
        ("symbols=BTCUSDT", -1100),
        ("symbols=%5B%5D", -1100),
        ("symbols=%5B%22btcusdt%22%5D", -1100),
        ("showPermissionSets=perhaps", -1130),
    ],
)
def test_what_exchange_info_selects(api: Api, query: str, answer: list[str] | int) -> None:
    if isinstance(answer, int):
        assert api.refused("/api/v3/exchangeInfo", query) == (400, answer)
    else:
        assert [one["symbol"] for one in api.json("/api/v3/exchangeInfo", query)["symbols"]] == answer


def test_times_may_be_given_in_either_unit_and_the_largest_number_is_64_bits(api: Api) -> None:
    micro = api.json("/api/v3/aggTrades", f"symbol=BTCUSDT&startTime={NOW}&limit=1")
    milli = api.json("/api/v3/aggTrades", f"symbol=BTCUSDT&startTime={NOW // 1000}&limit=1")
    assert micro == milli
    assert api.refused("/api/v3/historicalTrades", f"symbol=BTCUSDT&fromId={2**63}") == (400, -1130)
    assert api.json("/api/v3/historicalTrades", f"symbol=BTCUSDT&fromId={2**63 - 1}") == []
