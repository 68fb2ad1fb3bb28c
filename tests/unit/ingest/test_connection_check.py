"""What ``ingest check --connect`` says of registries and of addresses to listen on is what ``run`` would meet."""

import json
import socket

import pytest

from ingest.connection_check import NotTried, try_listening, try_registry
from ingest.core.errors import Retry, Stop
from ingest.kafka.schemas import trade_schema
from ingest.metrics import Metrics
from ingest.settings import Settings, load
from tests.harness.registry import Registry
from tests.harness.scripted_http import Answer, Request, scripted_http

SUBJECT = "market.crypto.trades.binance-value"


def settings_for(url: str, **more: str) -> Settings:
    return load({"K2_KAFKA_SCHEMA_REGISTRY_URL": url, **more})


async def tried(url: str, **more: str) -> str:
    return await try_registry(settings_for(f"{url},http://127.0.0.1:9", **more), url, Metrics(process=False))


async def test_one_of_several_registries_is_asked_and_nothing_is_registered(schema_registry: Registry) -> None:
    assert SUBJECT.removesuffix("-value") in await tried(schema_registry.url)
    assert schema_registry.handle("GET", "/subjects", {}) == []
    schema_registry.handle("POST", f"/subjects/{SUBJECT}/versions", {"schema": trade_schema()})
    assert await tried(schema_registry.url) == "the schema is registered"
    others = await tried(schema_registry.url, K2_BINANCE_STREAMS="trade,aggTrade")
    assert "market.crypto.trades.binance," not in others
    assert "agg_trades" in others
    with pytest.raises(Retry, match=r"127\.0\.0\.1:9"):
        await try_registry(settings_for(schema_registry.url), "http://127.0.0.1:9", Metrics(process=False))


async def test_what_run_refuses_is_refused(schema_registry: Registry) -> None:
    with pytest.raises(Stop, match="K2_KAFKA_SCHEMA_AUTO_REGISTER"):
        await tried(schema_registry.url, K2_KAFKA_SCHEMA_AUTO_REGISTER="false")
    other = json.loads(trade_schema())
    other["fields"] = [{"name": "id", "type": "long"}]
    schema_registry.handle("POST", f"/subjects/{SUBJECT}/versions", {"schema": json.dumps(other)})
    with pytest.raises(Stop, match="not compatible"):
        await tried(schema_registry.url)
    with pytest.raises(Stop):
        await tried(schema_registry.url, K2_KAFKA_SCHEMA_AUTO_REGISTER="false")


@pytest.mark.parametrize(("status", "error"), [(200, Retry), (404, Stop), (403, Stop), (503, Retry)])
async def test_a_page_is_no_registry(status: int, error: type[Exception]) -> None:
    def page(_: Request) -> Answer:
        return Answer(b"<!doctype html><title>Welcome</title>", status)

    async with scripted_http(page) as server:
        with pytest.raises(error):
            await tried(server.url)


def test_addresses_to_listen_on() -> None:
    assert "can be had" in try_listening("127.0.0.1", 0)
    with pytest.raises(Stop, match=r"cannot listen on 192\.0\.2\.1:0"):
        try_listening("192.0.2.1", 0)
    with pytest.raises(Stop, match="no-such-host"):
        try_listening("no-such-host.invalid", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(NotTried, match="in use"):
        try_listening("127.0.0.1", taken.getsockname()[1])
