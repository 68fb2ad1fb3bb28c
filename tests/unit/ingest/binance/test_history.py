import json
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingest.binance.history import parse_page
from ingest.binance.listings import parse_activity, parse_exchange_info
from ingest.core.errors import Reject, Retry
from ingest.core.trade import Trade
from ingest.metrics import REJECT_REASONS
from tests.harness.scripted_http import Answer, Request, page, scripted_http
from tests.unit.ingest.binance.history_of import INFO, always, history


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


@pytest.mark.parametrize("field", ["rateLimits", "symbols"])
def test_objects_of_exchange_info_are_bounded_before_they_are_built(field: str) -> None:
    """16 MiB of empty limits took 465 MB."""
    body = b'{"symbols":[],"%s":[%s{}]}' % (field.encode(), b"{}," * 5_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(Reject, match="more than 200000 objects"):
            parse_exchange_info(body)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


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
