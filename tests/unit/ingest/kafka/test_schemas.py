"""The schema at the registry: settled before the first write, refused where it does not fit, waited for where away."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest

from ingest.core.errors import Retry, Stop
from ingest.core.trade import Trade
from ingest.kafka.encoding import GenericEncoder, TradeEncoder
from ingest.kafka.schemas import BODY_LIMIT, Registry, SerializerCache, make_encoder, resolve_schema, trade_schema
from ingest.metrics import Metrics
from ingest.settings import Settings, load
from tests.harness.registry import Refused
from tests.harness.registry import Registry as FakeRegistry
from tests.harness.scripted_http import Answer, Request, scripted_http

SUBJECT = "market.crypto.trades.binance-value"
ASSETS = {"BTCUSDT": ("BTC", "USDT")}
TRADE = Trade("BTCUSDT", 7, "1.00000000", "2.00000000", 1_723_161_254_122_000, buyer_is_maker=True)


def settings_for(url: str, **more: str) -> Settings:
    return load({"K2_KAFKA_SCHEMA_REGISTRY_URL": url, **more})


async def settled(registry: FakeRegistry, **more: str) -> tuple[int, str]:
    async with Registry(settings_for(registry.url, **more)) as client:
        return await client.resolve_schema()


def changed(**fields: Any) -> str:
    schema = json.loads(trade_schema())
    schema["fields"] = [{**field, **fields.get(field["name"], {})} for field in schema["fields"]]
    return json.dumps(schema)


async def test_a_new_subject_is_registered_and_the_same_schema_keeps_its_id(schema_registry: FakeRegistry) -> None:
    first = await settled(schema_registry)
    again = await settled(schema_registry)
    assert first == (1, trade_schema())
    assert (again[0], json.loads(again[1])) == (1, json.loads(trade_schema()))
    assert schema_registry.handle("GET", "/subjects", {}) == [SUBJECT]
    asked = [line.removeprefix("POST ") for line in schema_registry.requests if line.startswith("POST")]
    compatibility = f"/compatibility/subjects/{SUBJECT}/versions/latest"
    lookup, register = f"/subjects/{SUBJECT}", f"/subjects/{SUBJECT}/versions"
    assert asked == [lookup, compatibility, register, lookup], "looked up first, registered only what is missing"


class Forgetful(FakeRegistry):
    """Gives readers another schema than the one that was registered."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def handle(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        answer = super().handle(method, path, body)
        return {"schema": self.text} if "/schemas/ids/" in path else answer


@pytest.mark.parametrize("text", ["{{{", '{"type":"record","name":"x","fields":[]}', "[" * 5000])
async def test_a_schema_that_is_read_back_as_another_is_refused(text: str) -> None:
    with Forgetful(text) as registry, pytest.raises(Stop, match="gives another schema"):
        await settled(registry)


async def test_an_incompatible_schema_is_refused(schema_registry: FakeRegistry) -> None:
    other = changed(message_id={"type": "long"})
    schema_registry.handle("POST", f"/subjects/{SUBJECT}/versions", {"schema": other})
    with pytest.raises(Stop, match="not compatible"):
        await settled(schema_registry)
    assert len(schema_registry.handle("GET", f"/subjects/{SUBJECT}/versions/latest", {})["schema"]) == len(
        json.dumps(json.loads(other))
    )


async def test_without_registration_the_latest_version_is_used_and_must_exist(schema_registry: FakeRegistry) -> None:
    with pytest.raises(Stop, match="does not exist and K2_KAFKA_SCHEMA_AUTO_REGISTER is false"):
        await settled(schema_registry, K2_KAFKA_SCHEMA_AUTO_REGISTER="false")
    schema = json.loads(trade_schema())
    schema["fields"].append({"name": "note", "type": ["null", "string"], "default": None})
    schema_registry.handle("POST", f"/subjects/{SUBJECT}/versions", {"schema": json.dumps(schema)})
    number, text = await settled(schema_registry, K2_KAFKA_SCHEMA_AUTO_REGISTER="false")
    assert json.loads(text) == schema
    encoder = make_encoder(settings_for("http://x"), Metrics(process=False), number, text, ASSETS)
    assert isinstance(encoder, GenericEncoder)
    assert encoder.encode(TRADE, 1).startswith(b"\x00" + number.to_bytes(4, "big"))


async def test_credentials_are_sent_and_a_refusal_names_them() -> None:
    with FakeRegistry(user="k2", password="right") as registry:  # noqa: S106
        user = {"K2_KAFKA_SCHEMA_REGISTRY_USER": "k2"}
        assert (await settled(registry, **user, K2_KAFKA_SCHEMA_REGISTRY_PASSWORD="right"))[0] == 1  # noqa: S106
        with pytest.raises(Stop, match="K2_KAFKA_SCHEMA_REGISTRY_USER"):
            await settled(registry, **user, K2_KAFKA_SCHEMA_REGISTRY_PASSWORD="wrong")  # noqa: S106


@pytest.mark.parametrize(
    ("answer", "kind", "match"),
    [
        (Answer(b"{}", status=500), Retry, "HTTP 500"),
        (Answer(b"<html>", status=503), Retry, "<html>"),
        (Answer(b'{"error_code": 409, "message": "no"}', status=409), Stop, "does not fit"),
        (Answer(b"{}", status=404), Stop, "Confluent-compatible"),
        (Answer(b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}", status=404), Stop, "Confluent-compatible"),
        (Answer(b'{"is_compatible": "maybe"}'), Retry, "an answer that is none"),
        (Answer(b"\xff\xfe"), Retry, "an answer that is none"),
        (Answer(b"[1]" + b" " * 2_000_000), Retry, "beyond"),
        (Answer(hang_up=True), Retry, "RemoteProtocolError|ReadError"),
        (Answer(b"{}", status=302, headers={"Location": "http://elsewhere.invalid"}), Retry, "HTTP 302"),
    ],
)
async def test_every_answer_says_what_to_do(answer: Answer, kind: type[Exception], match: str) -> None:
    async with scripted_http(lambda _: answer) as server, Registry(settings_for(server.url)) as client:
        with pytest.raises(kind, match=match):
            await client.resolve_schema()


async def test_nobody_there_is_waited_for() -> None:
    async with Registry(settings_for("http://127.0.0.1:1")) as client:
        with pytest.raises(Retry, match="ConnectError"):
            await client.resolve_schema()


async def test_a_registry_that_is_away_at_the_start_is_asked_until_it_answers(schema_registry: FakeRegistry) -> None:
    schema_registry.failing = 503

    async def heal() -> None:
        while len(schema_registry.requests) == 0 and schema_registry.failing:
            await asyncio.sleep(0.3)
            schema_registry.failing = None

    async with asyncio.TaskGroup() as group:
        group.create_task(heal())
        waiting = group.create_task(resolve_schema(settings_for(schema_registry.url)))
    assert waiting.result()[0] == 1


async def test_a_schema_by_its_id(schema_registry: FakeRegistry) -> None:
    await settled(schema_registry)
    async with Registry(settings_for(schema_registry.url)) as client:
        assert json.loads(await client.schema(1)) == json.loads(trade_schema())
        with pytest.raises(Stop, match="40403"):
            await client.schema(9)


async def test_a_slow_answer_is_a_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.kafka.schemas.REQUEST_SECONDS", 0.2)

    def slowly(_: Request) -> Answer:
        return Answer(delay=30.0)

    async with scripted_http(slowly) as server, Registry(settings_for(server.url)) as client:
        with pytest.raises(Retry, match="Timeout"):
            await client.resolve_schema()


async def test_an_answer_without_end_is_refused() -> None:
    body = b'{"id": 1, "schema": "' + b"x" * BODY_LIMIT + b'"}'
    async with scripted_http(lambda _: Answer(body)) as server, Registry(settings_for(server.url)) as client:
        with pytest.raises(Retry, match="beyond"):
            await client.resolve_schema()


def test_the_specialised_encoder_is_for_our_own_schema_and_a_foreign_one_is_refused() -> None:
    settings, metrics = settings_for("http://x"), Metrics(process=False)
    assert isinstance(make_encoder(settings, metrics, 1, trade_schema(), ASSETS), TradeEncoder)
    spaced = json.dumps(json.loads(trade_schema()), indent=4)
    assert isinstance(make_encoder(settings, metrics, 1, spaced, ASSETS), TradeEncoder)
    for other in (
        changed(message_id={"type": "long"}),
        changed(symbol={"name": "ticker"}),
        changed(side={"type": "no"}),
    ):
        with pytest.raises(Stop, match="cannot hold our records"):
            make_encoder(settings, metrics, 1, other, ASSETS)


def test_the_least_recently_used_serializer_gives_way_and_is_counted() -> None:
    metrics = Metrics(process=False)
    cache = SerializerCache(metrics, maxsize=2)
    made = [cache.get_or_make(number, lambda: TradeEncoder(1, ASSETS)) for number in (1, 2)]
    assert cache.get_or_make(1, lambda: TradeEncoder(1, ASSETS)) is made[0]
    cache.get_or_make(3, lambda: TradeEncoder(3, ASSETS))
    assert sorted(cache) == [1, 3]
    assert metrics.registry.get_sample_value("serializer_cache_size") == 2
    assert metrics.registry.get_sample_value("serializer_cache_evictions_total") == 1


def dropped(*names: str) -> str:
    schema = json.loads(trade_schema())
    schema["fields"] = [field for field in schema["fields"] if field["name"] not in names]
    return json.dumps(schema)


def decimal(name: str, precision: int, scale: int) -> str:
    return changed(
        **{name: {"type": {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}}}
    )


@pytest.mark.parametrize(
    "text",
    [
        dropped("price", "quantity"),
        dropped("source_sequence"),
        dropped("ingestion_timestamp"),
        decimal("price", 12, 8),
        decimal("quantity", 38, 4),
        decimal("quantity", 20, 8),
        changed(source_sequence={"type": "int"}),
        changed(source_sequence={"type": ["null", "int"]}),
        changed(timestamp={"type": {"type": "long", "logicalType": "timestamp-millis"}}),
        changed(timestamp={"type": "int"}),
        changed(price={"type": "double"}),
        changed(price={"type": "string"}),
        changed(side={"type": {"type": "enum", "name": "TradeSide", "symbols": ["BUY", "UNKNOWN"]}}),
        changed(vendor_data={"type": ["null", {"type": "map", "values": "int"}]}),
        changed(message_id={"type": ["null", "bytes"]}),
        json.dumps({"type": "record", "name": "x", "fields": []}),
        json.dumps({"type": "record", "name": "x", "fields": 7}),
        json.dumps({"type": "record", "name": "x", "fields": [7, None]}),
        '"string"',
        "[]",
        "7",
        "{{{",
        "[" * 100_000,
        "",
    ],
)
def test_a_schema_that_loses_a_field_or_a_digit_is_refused_before_the_first_write(text: str) -> None:
    with pytest.raises(Stop, match=f"schema 7 of subject {SUBJECT} (cannot hold our records|is not JSON)"):
        make_encoder(settings_for("http://x"), Metrics(process=False), 7, text, ASSETS)


def test_a_schema_that_holds_more_is_taken() -> None:
    schema = json.loads(decimal("price", 60, 8))
    side = next(field for field in schema["fields"] if field["name"] == "side")
    side["type"] = {**side["type"], "symbols": [*side["type"]["symbols"], "ELSE"]}
    schema["fields"].append({"name": "note", "type": ["null", "string"], "default": None})
    encoder = make_encoder(settings_for("http://x"), Metrics(process=False), 7, json.dumps(schema), ASSETS)
    assert isinstance(encoder, GenericEncoder)


def test_defaults_of_further_fields_are_bounded_however_they_are_nested() -> None:
    """Each record would carry them: 900,000 characters were accepted."""
    schema = json.loads(changed())
    nested = {"type": "record", "name": "more", "fields": [{"name": "x", "type": "string", "default": "y" * 900_000}]}
    further: list[dict[str, Any]] = [
        {"name": "note", "type": "string", "default": "x" * 900_000},
        {"name": "note", "type": nested, "default": {"x": "y" * 5000}},
    ]
    for field in further:
        text = json.dumps({**schema, "fields": [*schema["fields"], field]})
        with pytest.raises(Stop, match=r"cannot hold our records: a record has \d+ bytes"):
            make_encoder(settings_for("http://x"), Metrics(process=False), 7, text, ASSETS)
    short = {"name": "note", "type": "string", "default": "x" * 1000}
    text = json.dumps({**schema, "fields": [*schema["fields"], short]})
    assert isinstance(make_encoder(settings_for("http://x"), Metrics(process=False), 7, text, ASSETS), GenericEncoder)


def test_a_field_that_is_there_twice_is_refused() -> None:
    schema = json.loads(changed())
    for name in ("price", "note"):
        twice = [{"name": "note", "type": "int", "default": 0}, {"name": name, "type": "int", "default": 0}]
        text = json.dumps({**schema, "fields": [*schema["fields"], *twice]})
        with pytest.raises(Stop, match=f"cannot hold our records: field {name} is there twice"):
            make_encoder(settings_for("http://x"), Metrics(process=False), 7, text, ASSETS)


@pytest.mark.parametrize(
    ("status", "code", "text"),
    [(422, 42205, "read-only mode"), (403, 40301, "not authorized"), (401, 40101, "Unauthorized"), (405, 405, "no")],
)
async def test_a_registry_that_registers_nothing_does_not_end_a_restart(status: int, code: int, text: str) -> None:
    with Strict() as registry:
        first = await settled(registry)
        registry.refusal = Refused(status, code, text)
        assert (await settled(registry))[0] == first[0]
        registry.handle("POST", "/subjects/other-value/versions", {"schema": trade_schema()}, strict=False)
        with pytest.raises(Stop, match=text) as stopped:
            await settled(registry, K2_KAFKA_TOPIC="another")
    assert "does not fit" not in str(stopped.value)


class Strict(FakeRegistry):
    """A registry that may refuse registrations."""

    refusal: Refused | None = None

    def handle(self, method: str, path: str, body: Any, *, strict: bool = True) -> Any:
        if strict and self.refusal is not None and method == "POST" and path.endswith("/versions"):
            raise self.refusal
        return super().handle(method, path, body)


@pytest.mark.parametrize(
    "answer",
    [
        [[[[]]]],
        {"id": -1},
        {"id": 2**32, "version": 1},
        {"id": "7"},
        {"id": 1.5},
        {"id": True},
        {"id": 1, "schema": 5},
        None,
        "text",
    ],
)
async def test_nonsense_is_a_clear_retry(answer: Any) -> None:
    raw = Answer(json.dumps(answer).encode())
    for register in ("true", "false"):
        async with (
            scripted_http(lambda _: raw) as server,
            Registry(settings_for(server.url, K2_KAFKA_SCHEMA_AUTO_REGISTER=register)) as client,
        ):
            with pytest.raises(Retry, match="an answer that is none"):
                await client.resolve_schema()


async def test_one_dead_address_of_several_costs_nothing(schema_registry: FakeRegistry) -> None:
    urls = f"http://127.0.0.1:1, {schema_registry.url}/"
    async with Registry(settings_for(urls)) as client:
        assert (await client.resolve_schema())[0] == 1
    with FakeRegistry() as failing:
        failing.failing = 503
        async with Registry(settings_for(f"{failing.url},{schema_registry.url}")) as client:
            assert (await client.resolve_schema())[0] == 1
            assert len(failing.requests) == 0
    async with Registry(settings_for("http://127.0.0.1:1,http://127.0.0.1:2")) as client:
        with pytest.raises(Retry, match=r"127[.]0[.]0[.]1:1.*127[.]0[.]0[.]1:2"):
            await client.resolve_schema()
