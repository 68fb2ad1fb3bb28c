"""Schemas that somebody deletes or replaces while records are written with them."""

import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ingest.kafka.schema_watch import SchemaWatch
from ingest.kafka.schemas import Registry, trade_schema, void_schema
from ingest.metrics import Metrics
from ingest.settings import Settings, load
from tests.harness.registry import Refused
from tests.harness.registry import Registry as FakeRegistry
from tests.harness.scripted_http import Answer, scripted_http

TOPIC = "market.crypto.trades.binance"
LOOKUP, BY_ID = f"POST /subjects/{TOPIC}-value", "GET /schemas/ids/1"
LATEST = f"GET /subjects/{TOPIC}-value/versions/latest"


class ChangedRegistry(FakeRegistry):
    """Answers some requests as it does after somebody has changed it."""

    def __init__(self) -> None:
        super().__init__()
        self.instead: dict[str, Any] = {}

    def handle(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        answer = self.instead.get(f"{method} {path}")
        if isinstance(answer, Refused):
            raise answer
        return super().handle(method, path, body) if answer is None else answer


@pytest.fixture
def registry() -> Iterator[ChangedRegistry]:
    with ChangedRegistry() as served:
        yield served


def settings_for(url: str, **more: str) -> Settings:
    return load({"K2_KAFKA_SCHEMA_REGISTRY_URL": url, **more})


async def begun(registry: FakeRegistry, metrics: Metrics, **more: str) -> SchemaWatch:
    """A watch of the trades' schema, which is registered."""
    async with Registry(settings_for(registry.url)) as client:
        await client.resolve_schema()
    watch = SchemaWatch(settings_for(registry.url, **more), metrics)
    watch.writes(TOPIC, 1, trade_schema())
    return watch


def severity(metrics: Metrics) -> float | None:
    return metrics.registry.get_sample_value("ingest_topic_problems", {"topic": TOPIC, "problem": "schema"})


def another() -> str:
    schema = json.loads(trade_schema())
    return json.dumps({**schema, "fields": [*schema["fields"], {"name": "venue", "type": "string"}]})


async def test_what_readers_get_is_no_problem(registry: ChangedRegistry) -> None:
    metrics = Metrics(process=False)
    watch = await begun(registry, metrics)
    await watch.look()
    assert (watch.problems, severity(metrics)) == ({}, None)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Refused(404, 40403, "Schema not found"), "no schema"),
        ({"schema": void_schema()}, "another schema"),
        ({"schema": "{"}, "another schema"),
    ],
)
async def test_records_that_nobody_can_read_are_an_error_until_the_schema_is_back(
    registry: ChangedRegistry, caplog: pytest.LogCaptureFixture, answer: Any, words: str
) -> None:
    metrics = Metrics(process=False)
    watch = await begun(registry, metrics)
    registry.instead[BY_ID] = answer
    with caplog.at_level(logging.WARNING):
        await watch.look()
        await watch.look()
    assert len(watch.problems[TOPIC]) == 1
    assert all(part in watch.problems[TOPIC][0] for part in ("schema 1 (TradeV2), and", words, "IMPORT"))
    assert severity(metrics) == 2
    said = [one for one in caplog.records if TOPIC in one.getMessage() and one.levelno >= logging.WARNING]
    assert [one.levelname for one in said] == ["ERROR"]
    registry.instead.clear()
    await watch.look()
    assert (watch.problems, severity(metrics)) == ({}, None)


async def test_a_subject_without_its_schema_is_registered_again_by_the_next_start(registry: ChangedRegistry) -> None:
    metrics = Metrics(process=False)
    watch = await begun(registry, metrics)
    registry.instead[LOOKUP] = Refused(404, 40401, "Subject not found")
    await watch.look()
    assert "the next start registers it again" in watch.problems[TOPIC][0]
    assert severity(metrics) == 1, "records are readable by their number"


async def test_a_newer_version_that_ends_the_next_start_is_named(registry: ChangedRegistry) -> None:
    metrics = Metrics(process=False)
    watch = await begun(registry, metrics, K2_KAFKA_SCHEMA_AUTO_REGISTER="false")
    registry.instead[LATEST] = {"id": 2, "schema": another()}
    await watch.look()
    assert "the next start would be refused: schema 2" in watch.problems[TOPIC][0]
    assert severity(metrics) == 1


async def test_a_refusal_is_named(registry: ChangedRegistry) -> None:
    metrics = Metrics(process=False)
    watch = await begun(registry, metrics)
    registry.instead[BY_ID] = Refused(403, 40301, "User is denied")
    await watch.look()
    assert all(part in watch.problems[TOPIC][0] for part in ("cannot be checked", "HTTP 403", "User is denied"))
    assert severity(metrics) == 1


async def test_a_registry_that_is_away_changes_nothing_and_is_named_once(
    registry: ChangedRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(process=False)
    watch = await begun(registry, metrics)
    registry.instead[BY_ID] = Refused(404, 40403, "Schema not found")
    await watch.look()
    found = watch.problems
    registry.failing = 503
    with caplog.at_level(logging.WARNING):
        await watch.look()
        await watch.look()
    assert watch.problems == found
    assert sum("cannot tell whether readers get the schemas" in one.getMessage() for one in caplog.records) == 1


async def test_a_page_of_html_says_nothing_about_the_schema() -> None:
    metrics = Metrics(process=False)
    async with scripted_http(lambda _: Answer(b"<html>maintenance</html>")) as server:
        watch = SchemaWatch(settings_for(server.url), metrics)
        watch.writes(TOPIC, 1, trade_schema())
        await watch.look()
    assert (watch.problems, severity(metrics)) == ({}, None)


async def test_it_looks_again_and_again(registry: ChangedRegistry) -> None:
    class Done(Exception):
        pass

    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)
        if len(paused) == 2:
            registry.instead[BY_ID] = Refused(404, 40403, "Schema not found")
        if len(paused) == 3:
            raise Done

    async with Registry(settings_for(registry.url)) as client:
        await client.resolve_schema()
    watch = SchemaWatch(settings_for(registry.url), Metrics(process=False), interval=7.0, sleep=sleep)
    watch.writes(TOPIC, 1, trade_schema())
    with pytest.raises(Done):
        await watch.run()
    assert paused == [7.0, 7.0, 7.0]
    assert TOPIC in watch.problems
