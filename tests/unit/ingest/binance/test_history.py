import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.binance.history import History, parse_activity, parse_exchange_info, parse_page
from ingest.binance.refusals import FORBIDDEN_FIRST_SECONDS
from ingest.binance.rest import BODY_LIMIT
from ingest.core.errors import Banned, Reject, Retry
from ingest.core.trade import Trade
from ingest.metrics import REJECT_REASONS, Metrics
from ingest.settings import BinanceSettings
from tests.harness.scripted_http import Answer, Request, ScriptedHttp, page, scripted_http

INFO = {
    "rateLimits": [
        {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300000},
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
    ],
    "symbols": [
        {
            "symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT",
            "filters": [
                {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
                {"filterType": "LOT_SIZE", "stepSize": "0.00001000"},
                {"filterType": "PERCENT_PRICE", "avgPriceMins": 5},
            ],
        },
        {"symbol": "BNBUSD", "status": "BREAK", "baseAsset": "BNB", "quoteAsset": "USD"},
    ],
}  # fmt: skip


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time_ns(self) -> int:
        return 1_700_000_000_000_000_000 + int(self.now * 1e9)


def history(*servers: ScriptedHttp, clock: Any = None, **changes: Any) -> History:
    binance = BinanceSettings(
        rest_url=servers[0].url,
        rest_fallback_urls=tuple(server.url for server in servers[1:]),
        **{"rest_timeout_seconds": 2.0, **changes},
    )
    return History(
        binance, Metrics(process=False), ssl_context=None, clock=clock or Hands(), uniform=lambda low, high: high
    )


def always(answer: Answer) -> Callable[[Request], Answer]:
    return lambda _request: answer


def in_turn(*answers: Answer) -> Callable[[Request], Answer]:
    rest = list(answers)
    return lambda _request: rest.pop(0) if len(rest) > 1 else rest[0]


async def test_a_page_becomes_trades_equal_to_those_of_the_stream() -> None:
    async with scripted_http(always(Answer(page(5_000_000_001, 2)))) as server, history(server) as past:
        answer = await past.trades_from("BTCUSDT", 5_000_000_001)
    assert answer.trades == [
        Trade("BTCUSDT", 5_000_000_001, "61234.56000000", "0.01000000", 1_723_161_254_122_000, True),
        Trade("BTCUSDT", 5_000_000_002, "61234.56000000", "0.01000000", 1_723_161_254_122_001, False),
    ]
    assert answer.rejected == []
    request = server.requests[0]
    assert request.path == "/api/v3/historicalTrades"
    assert request.query == {"symbol": "BTCUSDT", "fromId": "5000000001", "limit": "1000"}
    assert request.headers["x-mbx-time-unit"] == "microsecond"  # the server lower-cases
    assert request.headers["accept-encoding"] == "identity"


async def test_a_damaged_element_is_handed_over_with_its_id_and_bytes() -> None:
    elements = json.loads(page(7, 4))
    elements[1]["price"] = 1.5
    del elements[2]["isBuyerMaker"]
    elements.append({"id": "nine"})
    body = json.dumps(elements, separators=(",", ":")).encode()
    answer = parse_page("BTCUSDT", body)
    assert [trade.trade_id for trade in answer.trades] == [7, 10]
    assert [(trade_id, error.reason) for trade_id, _, error in answer.rejected] == [
        (8, "wrong_type"),
        (9, "missing_field"),
        (None, "wrong_type"),
    ]
    assert all(raw in body for _, raw, _ in answer.rejected)


@pytest.mark.parametrize(
    "body",
    [
        page(7, 1)[:-1] + b"," + page(6, 1)[1:],
        page(7, 1)[:-1] + b"," + page(7, 1)[1:],
        page(7, 3, time_us=1_723_161_254_122),
        b"{}",
        b"null",
        b"",
        b"<html>busy</html>",
        b"[" * 100_000,
        b'[{"id":7},{"id":6}]',
    ],
)
async def test_a_page_that_cannot_be_believed_is_asked_for_again(body: bytes) -> None:
    async with scripted_http(always(Answer(body))) as server, history(server) as past:
        with pytest.raises(Retry):
            await past.trades_from("BTCUSDT", 6)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "price", "qty", "time", "isBuyerMaker", "symbols", "rateLimits", "lastId", "symbol"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
NOISY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@NOISY
@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=100), st.integers(0, 99), st.binary())
def test_no_body_raises_anything_but_reject(body: bytes, place: int, junk: bytes) -> None:
    mutated = page(7, 2)[: place * 3] + junk + page(7, 2)[place * 3 :]
    for parse in (lambda b: parse_page("X", b), parse_exchange_info, parse_activity):
        for candidate in (body, mutated, json.dumps(INFO).encode()[: place * 4] + junk):
            try:
                parse(candidate)
            except Reject as error:
                reason = error.reason
            else:
                continue
            assert reason in REJECT_REASONS


@pytest.mark.parametrize("last_id", [-2, 2**63, 10**55, 1.5, "7", None])
def test_a_last_id_that_no_trade_can_have_is_refused(last_id: object) -> None:
    with pytest.raises(Reject):
        parse_activity(json.dumps([{"symbol": "BTCUSDT", "lastId": last_id}]).encode())


async def test_exchange_info_gives_assets_and_steps_and_sets_the_weight_limit() -> None:
    async with scripted_http(always(Answer(json.dumps(INFO).encode()))) as server, history(server) as past:
        infos = await past.exchange_info(["BTCUSDT", "NOSUCH"])
        assert past.rest.budget.allowed(server.url) == 600
    assert list(infos) == ["BTCUSDT"]
    btc = infos["BTCUSDT"]
    assert (btc.base_asset, btc.quote_asset, btc.tick_size, btc.step_size) == (
        "BTC",
        "USDT",
        "0.01000000",
        "0.00001000",
    )
    assert server.requests[0].query == {"symbols": '["BTCUSDT","NOSUCH"]'}


async def test_one_unknown_name_does_not_spoil_the_answer_about_the_others() -> None:
    refusal = Answer(b'{"code":-1121,"msg":"Invalid symbol."}', status=400)
    tickers = json.dumps([{"symbol": "BTCUSDT", "lastId": 9}, {"symbol": "XYZ", "lastId": -1}]).encode()

    def answer(request: Request) -> Answer:
        if "symbols" in request.query:
            return refusal
        return Answer(tickers if "ticker" in request.path else json.dumps(INFO).encode())

    async with scripted_http(answer) as server, history(server) as past:
        assert list(await past.exchange_info(["BTCUSDT", "NOSUCH"])) == ["BTCUSDT"]
        assert await past.last_ids(["BTCUSDT", "NOSUCH"]) == {"BTCUSDT": 9}


async def test_last_ids_of_a_few_are_cheap_and_of_many_are_one_call() -> None:
    async with scripted_http(always(Answer(b"[]"))) as server, history(server) as past:
        assert await past.last_ids([]) == {}
        await past.last_ids([f"S{n}" for n in range(41)])
        await past.last_ids([f"S{n}" for n in range(101)])
        await past.last_ids()
    assert [len(json.loads(request.query.get("symbols", "[]"))) for request in server.requests] == [20, 20, 1, 0, 0]
    assert all(request.query["type"] == "MINI" for request in server.requests)


@pytest.mark.parametrize(("status", "kind"), [(429, Retry), (418, Banned)])
async def test_no_call_is_made_before_retry_after_has_passed(status: int, kind: type[Retry]) -> None:
    clock = Hands()
    answers = in_turn(Answer(b"{}", status=status, headers={"Retry-After": "7"}), Answer(page(1, 1)))
    async with scripted_http(answers) as server, history(server, clock=clock) as past:
        with pytest.raises(kind) as caught:
            await past.trades_from("BTCUSDT", 1)
        assert caught.value.after == 7.0
        for step in (0.0, 3.0, 3.9):
            clock.now += step
            with pytest.raises(kind):
                await past.trades_from("BTCUSDT", 1)
        assert len(server.requests) == 1
        clock.now += 0.2
        assert len((await past.trades_from("BTCUSDT", 1)).trades) == 1


@pytest.mark.parametrize("header", [None, "soon", "-5", "99999999999999", "Wed, 21 Oct 2026 07:28:00 GMT"])
async def test_a_ban_without_a_usable_time_lasts_its_minimum(header: str | None) -> None:
    headers = {} if header is None else {"Retry-After": header}
    async with scripted_http(always(Answer(b"", status=418, headers=headers))) as server, history(server) as past:
        with pytest.raises(Banned) as caught:
            await past.last_ids()
    assert caught.value.after == 120.0


@pytest.mark.parametrize(
    "trouble",
    [
        Answer(b"", status=500),
        Answer(b"<html>", status=502),
        Answer(b"", status=403),
        Answer(b"", status=451),
        Answer(b"", status=404),
        Answer(b"", status=302, headers={"Location": "http://127.0.0.1:1/"}),
        Answer(hang_up=True),
        Answer(page(1, 3), truncate=20),
        Answer(b"x" * 5_000_000),
        Answer(page(1, 1), headers={"Content-Encoding": "gzip"}),
        Answer(page(1, 1), delay=10.0),
    ],
    ids=lambda answer: f"{answer.status}-{len(answer.body)}-{answer.delay}",
)
async def test_trouble_at_one_address_is_answered_by_the_next_and_the_first_is_then_left_alone(trouble: Answer) -> None:
    async with (
        scripted_http(always(trouble)) as bad,
        scripted_http(always(Answer(page(1, 1)))) as good,
        history(bad, good, rest_timeout_seconds=1.5) as past,
    ):
        for _ in range(3):
            assert len((await past.trades_from("BTCUSDT", 1)).trades) == 1
    assert len(bad.requests) == 1


@pytest.mark.parametrize("header", [None, "86400", "1000000000", "nonsense"])
@pytest.mark.parametrize("status", [503, 500, 429, 418, 451])
async def test_retry_after_of_one_address_never_stops_another(status: int, header: str | None) -> None:
    headers = {} if header is None else {"Retry-After": header}
    async with (
        scripted_http(always(Answer(b"", status=status, headers=headers))) as bad,
        scripted_http(always(Answer(page(1, 1)))) as good,
        history(bad, good) as past,
    ):
        for _ in range(5):
            assert len((await past.trades_from("BTCUSDT", 1)).trades) == 1
    assert len(bad.requests) == 1
    assert len(good.requests) == 5


@pytest.mark.parametrize(
    ("status", "header", "seconds"),
    [(503, "86400", 300.0), (503, "7", 7.0), (429, "86400", 600.0), (418, "999999999", 3 * 86_400.0)],
)
async def test_a_single_address_is_asked_again_within_bounds(status: int, header: str, seconds: float) -> None:
    clock = Hands()
    answers = in_turn(Answer(b"", status=status, headers={"Retry-After": header}), Answer(page(1, 1)))
    async with scripted_http(answers) as server, history(server, clock=clock) as past:
        with pytest.raises(Retry):
            await past.trades_from("BTCUSDT", 1)
        clock.now += seconds - 0.1
        with pytest.raises(Retry) as caught:
            await past.trades_from("BTCUSDT", 1)
        assert caught.value.after == pytest.approx(0.1)
        clock.now += 0.2
        await past.trades_from("BTCUSDT", 1)
    assert len(server.requests) == 2


async def test_what_one_address_states_about_weight_does_not_slow_the_others() -> None:
    liar = Answer(b"", status=500, headers={"X-MBX-USED-WEIGHT-1M": "999999999"})
    async with (
        scripted_http(always(liar)) as bad,
        scripted_http(always(Answer(page(1, 1)))) as good,
        history(bad, good) as past,
    ):
        for _ in range(5):
            await past.trades_from("BTCUSDT", 1)
    assert len(good.requests) == 5


async def test_refused_everywhere_stops_all_calls_for_minutes() -> None:
    async with (
        scripted_http(always(Answer(b"", status=451))) as one,
        scripted_http(always(Answer(b"", status=451))) as other,
        history(one, other) as past,
    ):
        for _ in range(4):
            with pytest.raises(Banned):
                await past.last_ids()
    assert (len(one.requests), len(other.requests)) == (1, 1)


async def test_a_403_for_one_request_leaves_the_others_and_is_repeated_after_seconds() -> None:
    clock = Hands()

    def answer(request: Request) -> Answer:
        return Answer(b"", status=403) if request.query["symbol"] == "SELECTUSDT" else Answer(page(1, 1))

    async with scripted_http(answer) as server, history(server, clock=clock) as past:
        for _ in range(3):
            with pytest.raises(Retry) as caught:
                await past.trades_from("SELECTUSDT", 1)
            assert caught.value.after == FORBIDDEN_FIRST_SECONDS
            await past.trades_from("BTCUSDT", 1)
        assert len(server.requests) == 4
        clock.now += FORBIDDEN_FIRST_SECONDS
        with pytest.raises(Retry) as again:
            await past.trades_from("SELECTUSDT", 1)
        assert len(server.requests) == 5
        assert again.value.after == 2 * FORBIDDEN_FIRST_SECONDS


async def test_a_403_for_several_different_requests_in_a_row_concerns_the_address() -> None:
    async with scripted_http(always(Answer(b"", status=403))) as server, history(server) as past:
        for number in range(2):
            with pytest.raises(Retry) as caught:
                await past.trades_from(f"A{number}", 1)
            assert not isinstance(caught.value, Banned)
        for number in range(2, 6):
            with pytest.raises(Banned):
                await past.trades_from(f"A{number}", 1)
    assert len(server.requests) == 3


async def test_a_400_of_one_address_is_checked_with_the_next() -> None:
    refusal = Answer(b'{"code":-1121,"msg":"Invalid symbol."}', status=400)
    async with (
        scripted_http(always(refusal)) as bad,
        scripted_http(always(Answer(page(1, 1)))) as good,
        history(bad, good) as past,
    ):
        assert len((await past.trades_from("BTCUSDT", 1)).trades) == 1


async def test_a_symbol_that_one_address_lacks_is_looked_for_at_the_others() -> None:
    lacking = json.dumps({"symbols": [INFO["symbols"][1]]}).encode()  # type: ignore[index]
    async with (
        scripted_http(always(Answer(lacking))) as bad,
        scripted_http(always(Answer(json.dumps(INFO).encode()))) as good,
        history(bad, good) as past,
    ):
        assert set(await past.exchange_info(["BTCUSDT", "BNBUSD", "NOSUCH"])) == {"BTCUSDT", "BNBUSD"}
    assert (len(bad.requests), len(good.requests)) == (1, 1)


async def test_an_address_whose_history_stays_behind_is_passed_over() -> None:
    async with (
        scripted_http(always(Answer(b"[]"))) as stale,
        scripted_http(always(Answer(page(7, 1)))) as good,
        history(stale, good) as past,
    ):
        assert (await past.trades_from("BTCUSDT", 7)).trades == []
        assert len((await past.trades_from("BTCUSDT", 7)).trades) == 1


async def test_nobody_there_is_a_retry_with_growing_patience() -> None:
    async with scripted_http(always(Answer())) as server:
        pass
    async with history(server) as past:
        afters = []
        for _ in range(8):
            with pytest.raises(Retry) as caught:
                await past.last_ids(["A"])
            afters.append(caught.value.after)
    assert afters == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


async def test_the_weight_budget_holds_back_calls_and_says_for_how_long() -> None:
    clock = Hands()
    async with scripted_http(always(Answer(page(1, 1)))) as server:
        async with history(server, clock=clock, rest_weight_fraction=0.05) as past:
            for _ in range(12):
                await past.trades_from("BTCUSDT", 1)
            with pytest.raises(Retry) as caught:
                await past.trades_from("BTCUSDT", 1)
            assert caught.value.after == 60.0
            clock.now += 60.0
            await past.trades_from("BTCUSDT", 1)
        assert len(server.requests) == 13


async def test_an_unknown_symbol_is_a_slow_retry_and_never_ends_the_service() -> None:
    refusal = Answer(b'{"code":-1121,"msg":"Invalid symbol."}', status=400)
    async with scripted_http(always(refusal)) as server, history(server) as past:
        with pytest.raises(Retry) as caught:
            await past.trades_from("NOSUCH", 1)
    assert caught.value.after == 60.0


async def test_calls_at_once_share_the_pool_and_are_all_answered() -> None:
    async with scripted_http(always(Answer(page(1, 1), delay=0.05))) as server, history(server) as past:
        pages = await asyncio.gather(*(past.trades_from("BTCUSDT", 1) for _ in range(20)))
    assert len(pages) == 20


async def test_a_body_without_end_is_refused() -> None:
    endless = b"[" + b" " * BODY_LIMIT + b"]"
    async with scripted_http(lambda _: Answer(endless)) as server:
        options = BinanceSettings(rest_url=server.url, rest_fallback_urls=(), rest_timeout_seconds=30.0)
        async with History(options, Metrics(process=False), ssl_context=None) as past:
            with pytest.raises(Retry, match="larger than"):
                await past.trades_from("BTCUSDT", 1)
