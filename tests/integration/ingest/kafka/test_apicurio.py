"""The schema on the real Apicurio Registry, the one of the compose stack."""

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from ingest.core.errors import Stop
from ingest.kafka.encoding import TradeEncoder
from ingest.kafka.schemas import Registry, make_encoder, trade_schema
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
    return httpx2.request(method, apicurio.root + path, json=body, timeout=30.0)


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
