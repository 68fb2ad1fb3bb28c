"""The schema on the real Apicurio Registry, the one of the compose stack."""

import io
import json
import os
from collections.abc import Iterator
from typing import Any

import fastavro
import httpx2
import pytest

from ingest.core.errors import Stop
from ingest.core.streams import STREAMS, Stream
from ingest.core.trade import Trade
from ingest.kafka.encoding import EARLIEST_US, GenericEncoder, TradeEncoder
from ingest.kafka.schema_watch import SchemaWatch
from ingest.kafka.schemas import Registry, make_encoder, resolve_stream_schema, trade_schema
from ingest.metrics import Metrics
from ingest.settings import load
from tests.harness.apicurio import Apicurio, ApicurioUnavailable

pytestmark = pytest.mark.integration

READ_ONLY = "/apis/registry/v3/admin/config/properties/apicurio.storage.read-only.enabled"


@pytest.fixture(scope="module")
def apicurio() -> Iterator[Apicurio]:
    registry = Apicurio()
    try:
        registry.start()
    except ApicurioUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Apicurio: {error}")
    with registry:
        yield registry


async def resolved(apicurio: Apicurio, topic: str, **more: str) -> tuple[int, str]:
    settings = load({"K2_KAFKA_SCHEMA_REGISTRY_URL": apicurio.url, "K2_KAFKA_TOPIC": topic, **more})
    async with Registry(settings) as client:
        return await client.resolve_schema()


def ask(apicurio: Apicurio, method: str, path: str, body: Any) -> httpx2.Response:
    return httpx2.request(method, apicurio.root + path, json=body, timeout=30.0, trust_env=False)


async def test_registered_once_and_looked_up_afterwards_even_if_nothing_may_be_registered(apicurio: Apicurio) -> None:
    first = await resolved(apicurio, "once")
    again = await resolved(apicurio, "once")
    assert (again[0], json.loads(again[1])) == (first[0], json.loads(trade_schema()))
    encoder = make_encoder(load({}), Metrics(process=False), *again, {"BTCUSDT": ("BTC", "USDT")})
    assert isinstance(encoder, TradeEncoder)
    without = await resolved(apicurio, "once", K2_KAFKA_SCHEMA_AUTO_REGISTER="false")
    assert without[0] == first[0]
    assert ask(apicurio, "PUT", READ_ONLY, {"value": "true"}).is_success
    try:
        assert (await resolved(apicurio, "once"))[0] == first[0]
    finally:
        assert ask(apicurio, "PUT", READ_ONLY, {"value": "false"}).is_success


async def test_a_subject_that_does_not_exist_is_named_if_nothing_is_to_be_registered(apicurio: Apicurio) -> None:
    with pytest.raises(Stop, match="subject absent-value does not exist and K2_KAFKA_SCHEMA_AUTO_REGISTER is false"):
        await resolved(apicurio, "absent", K2_KAFKA_SCHEMA_AUTO_REGISTER="false")


async def test_an_incompatible_subject_is_refused(apicurio: Apicurio) -> None:
    path = "/apis/ccompat/v7/subjects/foreign-value/versions"
    assert ask(apicurio, "POST", path, {"schema": '{"type":"string"}'}).is_success
    with pytest.raises(Stop, match="not compatible"):
        await resolved(apicurio, "foreign")


def older() -> str:
    """TradeV2 as older versions registered it: without the times of sending and reading."""
    schema = json.loads(trade_schema())
    schema["fields"] = [field for field in schema["fields"] if field["name"] not in ("event_timestamp", RECEIVED)]
    return json.dumps(schema)


RECEIVED = "receive_timestamp"
TRADE = Trade("BTCUSDT", 7, "1.00000000", "2.00000000", EARLIEST_US, True, EARLIEST_US + 5)
ASSETS = {"BTCUSDT": ("BTC", "USDT")}


@pytest.mark.parametrize("rule", ["BACKWARD", "FULL_TRANSITIVE"])
async def test_a_subject_with_the_older_trade_takes_the_newer_one_and_both_read_each_other(
    apicurio: Apicurio, rule: str
) -> None:
    topic = f"older-{rule.lower()}"
    subject = f"/apis/ccompat/v7/subjects/{topic}-value/versions"
    assert ask(apicurio, "POST", subject, {"schema": older()}).is_success
    assert ask(apicurio, "PUT", f"/apis/ccompat/v7/config/{topic}-value", {"compatibility": rule}).is_success
    kept = await resolved(apicurio, topic, K2_KAFKA_SCHEMA_AUTO_REGISTER="false")
    assert json.loads(kept[1]) == json.loads(older())
    before = make_encoder(load({}), Metrics(process=False), *kept, ASSETS)
    assert isinstance(before, GenericEncoder)  # a fixed schema goes on, without the two times
    settled = await resolved(apicurio, topic)
    assert settled[0] != kept[0]
    after = make_encoder(load({}), Metrics(process=False), *settled, ASSETS)
    assert isinstance(after, TradeEncoder)
    after.received(EARLIEST_US + 9)
    old, new = (fastavro.parse_schema(json.loads(text)) for text in (kept[1], settled[1]))
    forth: Any = fastavro.schemaless_reader(io.BytesIO(before.encode(TRADE, 1)[5:]), old, new)
    back: Any = fastavro.schemaless_reader(io.BytesIO(after.encode(TRADE, 1)[5:]), new, old)
    assert (forth["event_timestamp"], forth[RECEIVED]) == (None, None)
    assert {name: forth[name] for name in back} == back


@pytest.mark.parametrize("stream", [stream for stream in STREAMS.values() if not stream.name.startswith("kline_1")])
async def test_the_schema_of_every_stream_is_registered_once(apicurio: Apicurio, stream: Stream) -> None:
    settings = load({"K2_KAFKA_SCHEMA_REGISTRY_URL": apicurio.url})
    first = await resolve_stream_schema(settings, f"of.{stream.kind}", stream.record)
    assert await resolve_stream_schema(settings, f"of.{stream.kind}", stream.record) == first
    foreign = f"foreign.{stream.kind}"
    fields = [{"name": "x", "type": "string"}]
    other = json.dumps({"type": "record", "name": stream.record, "namespace": "com.k2.marketdata", "fields": fields})
    assert ask(apicurio, "POST", f"/apis/ccompat/v7/subjects/{foreign}-value/versions", {"schema": other}).is_success
    fixed = load({"K2_KAFKA_SCHEMA_REGISTRY_URL": apicurio.url, "K2_KAFKA_SCHEMA_AUTO_REGISTER": "false"})
    with pytest.raises(Stop, match=f"is not {stream.record} of this version"):
        await resolve_stream_schema(fixed, foreign, stream.record)


async def test_a_subject_that_is_deleted_while_its_records_are_written_is_reported(apicurio: Apicurio) -> None:
    settled = await resolved(apicurio, "deleted")
    settings = load({"K2_KAFKA_SCHEMA_REGISTRY_URL": apicurio.url, "K2_KAFKA_TOPIC": "deleted"})
    watch = SchemaWatch(settings, Metrics(process=False))
    watch.writes("deleted", *settled)
    await watch.look()
    assert watch.problems == {}
    subject = "/apis/ccompat/v7/subjects/deleted-value"
    for permanent in ("false", "true"):
        assert ask(apicurio, "DELETE", f"{subject}?permanent={permanent}", None).is_success
    await watch.look()
    assert "deleted" in watch.problems
    watch.writes("nowhere", 2_000_000_000, trade_schema())
    await watch.look()
    assert "no schema for that number" in watch.problems["nowhere"][0]
