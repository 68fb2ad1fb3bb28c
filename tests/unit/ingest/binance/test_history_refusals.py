import asyncio
import json
from collections.abc import Callable

import pytest

from ingest.binance.history import History
from ingest.binance.refusals import FORBIDDEN_FIRST_SECONDS
from ingest.binance.rest import BODY_LIMIT, RestClient
from ingest.core.errors import Banned, Retry
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings
from tests.harness.scripted_http import Answer, Request, page, scripted_http
from tests.unit.ingest.binance.history_of import INFO, Hands, always, history


def in_turn(*answers: Answer) -> Callable[[Request], Answer]:
    rest = list(answers)
    return lambda _request: rest.pop(0) if len(rest) > 1 else rest[0]


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


async def test_an_address_whose_history_is_damaged_is_passed_over() -> None:
    damaged = page(7, 2).replace(b'"qty":"0.01000000"', b'"qty":0.01')
    async with (
        scripted_http(always(Answer(damaged))) as broken,
        scripted_http(always(Answer(page(7, 2)))) as good,
        history(broken, good) as past,
    ):
        assert [number for number, _, _ in (await past.trades_from("BTCUSDT", 7)).rejected] == [7, 8]
        assert (await past.trades_from("BTCUSDT", 7)).rejected == []


async def test_after_a_page_that_is_damaged_in_one_place_the_next_address_is_asked() -> None:
    damaged = page(7, 2).replace(b'"qty":"0.01000000"', b'"qty":0.01', 1)
    async with (
        scripted_http(always(Answer(damaged))) as broken,
        scripted_http(always(Answer(page(7, 2)))) as good,
        history(broken, good) as past,
    ):
        first = await past.trades_from("BTCUSDT", 7)
        assert ([number for number, _, _ in first.rejected], len(first.trades)) == ([7], 1)
        assert len((await past.trades_from("BTCUSDT", 7)).trades) == 2


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
        async with History(RestClient(options, Metrics(process=False), ssl_context=None)) as past:
            with pytest.raises(Retry, match="larger than"):
                await past.trades_from("BTCUSDT", 1)
