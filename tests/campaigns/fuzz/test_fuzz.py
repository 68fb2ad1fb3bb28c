"""The oracles under Hypothesis: seeds that are damaged byte by byte, and JSON of the right keys with any values."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingest.binance.history import History
from ingest.binance.rest import RestClient
from ingest.core.errors import Retry
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings
from tests.campaigns.fuzz import targets
from tests.campaigns.fuzz.targets import ORACLES
from tests.harness.scripted_http import Answer, scripted_http
from tools import locks

OF_JSON = [name for name in ORACLES if targets.as_json(name)]
NOISY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
EDITS = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 12), st.binary(max_size=6)), max_size=5)
KEYS = (
    *("e", "E", "s", "t", "p", "q", "T", "m", "stream", "data", "event", "error", "code", "msg", "result", "id"),
    *("price", "qty", "time", "isBuyerMaker", "symbols", "symbol", "rateLimits", "lastId", "filters", "limit"),
)
VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
    | st.sampled_from(["trade", "serverShutdown", "btcusdt@trade", "1.0", "-1", "1e5", "NaN", "\u0663", 1, 2**63, 1.0])
)  # fmt: skip
JSON = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=8),
    max_leaves=16,
)


def damaged(seed: bytes, edits: Sequence[tuple[int, int, bytes]]) -> bytes:
    """The seed with stretches of bytes replaced."""
    data = bytearray(seed)
    for place, length, replacement in edits:
        at = place % (len(data) + 1)
        data[at : at + length] = replacement
    return bytes(data)


@pytest.mark.parametrize("name", ORACLES)
@settings(NOISY, max_examples=80)
@given(data=st.data())
def test_damaged_bytes_are_refused_or_mean_what_they_say(name: str, data: st.DataObject) -> None:
    ORACLES[name](damaged(data.draw(st.sampled_from(targets.corpus(name))), data.draw(EDITS)))


@pytest.mark.parametrize("name", OF_JSON)
@settings(NOISY, max_examples=80)
@given(value=JSON)
def test_any_json_is_refused_or_means_what_it_says(name: str, value: Any) -> None:
    ORACLES[name](json.dumps(value).encode())


@pytest.mark.parametrize("name", OF_JSON)
@settings(NOISY, max_examples=80)
@given(data=st.data())
def test_a_field_of_any_value_is_refused_or_means_what_it_says(name: str, data: st.DataObject) -> None:
    """One value anywhere in a message that is right otherwise."""
    message = json.loads(data.draw(st.sampled_from(targets.as_json(name))))
    ORACLES[name](json.dumps(_with_one_replaced(message, data)).encode())


def _with_one_replaced(message: Any, data: st.DataObject) -> Any:
    path = data.draw(st.sampled_from(list(_paths(message))))
    if not path:
        return data.draw(JSON)
    holder = message
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = data.draw(st.sampled_from(_near(holder[path[-1]])) | JSON)
    return message


def _paths(value: Any, *before: str | int) -> Iterator[tuple[str | int, ...]]:
    yield before
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _paths(value[key], *before, key)


def _near(value: Any) -> list[Any]:
    """Values that a careless reader takes for the right one."""
    if isinstance(value, bool):
        return [int(value), str(value).lower(), str(value), not value, [value]]
    if isinstance(value, int):
        return [str(value), float(value), value + 2**63, -value, value + 0.5, value > 0, [value]]
    if isinstance(value, str):
        return [
            f"0{value}",
            f"{value}0",
            f"-{value}",
            f" {value}",
            f"{value}e1",
            value.lower(),
            value.encode("utf-8", "surrogatepass").hex(),
            "",
        ]
    return [[value], {"": value}]


@pytest.mark.parametrize("name", ORACLES)
def test_the_oracles_hold_for_the_seeds(name: str) -> None:
    for seed in targets.corpus(name):
        ORACLES[name](seed)


HEADERS = st.sampled_from(["", "0", "1", "-5", "1e3", "9" * 30, "\u0664".encode().decode("latin-1"), "soon", "60, 60"])


@settings(NOISY, max_examples=60)
@given(
    status=st.sampled_from([200, 200, 200, 204, 301, 302, 304, 400, 401, 403, 404, 418, 429, 451, 500, 503, 599, 999]),
    after=HEADERS,
    used=HEADERS,
    body=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()),
)
@example(status=418, after="9" * 30, used="9" * 30, body=b"")
def test_any_answer_of_rest_is_an_answer_or_a_retry_with_a_finite_wait(
    status: int, after: str, used: str, body: bytes
) -> None:
    async def ask() -> None:
        headers = {"Retry-After": after, "X-MBX-USED-WEIGHT-1M": used}
        async with scripted_http(lambda _request: Answer(body, status, headers)) as server:
            await ask_everything(server.url)

    asyncio.run(ask())


@settings(NOISY, max_examples=60)
@given(edits=EDITS)
def test_any_bytes_instead_of_http_are_a_retry(edits: list[tuple[int, int, bytes]]) -> None:
    answer = damaged(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]", edits)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async def ask() -> None:
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            await ask_everything(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")

    asyncio.run(ask())


async def ask_everything(url: str) -> None:
    options = BinanceSettings(rest_url=url, rest_fallback_urls=(), rest_timeout_seconds=10.0)
    calls: tuple[Callable[[History], Awaitable[object]], ...] = (
        lambda past: past.trades_from("BTCUSDT", 7),
        lambda past: past.exchange_info(["BTCUSDT"]),
        lambda past: past.last_ids(["BTCUSDT"]),
    )
    for call in calls:
        wait = 0.0
        async with History(RestClient(options, Metrics(process=False), ssl_context=None)) as past:
            try:
                await call(past)
            except Retry as error:
                wait = error.after
        assert 0.0 <= wait <= 4 * 86_400.0


def test_every_corpus_belongs_to_a_target_and_is_small() -> None:
    files = {path.stem: path for path in targets.CORPUS.iterdir()}
    assert set(files) == set(ORACLES)
    assert all(path.stat().st_size < 64_000 for path in files.values())


def test_atheris_is_locked_with_hashes() -> None:
    path = "tests/campaigns/fuzz/atheris.txt"
    assert set(locks.parse(locks.read(path), path)) == {"atheris"}
