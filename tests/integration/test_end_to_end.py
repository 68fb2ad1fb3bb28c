"""The main job on the real parts: simulator, Kafka and service as processes; the auditor has the last word."""

import contextlib
import json
import random
import subprocess
import sys
import time
import urllib.error
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.kafka import KafkaBroker, free_ports
from tests.harness.processes import ROOT, ServiceProcess, http_json, inherited
from tests.harness.registry import Registry
from tests.harness.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PATIENCE = 180.0
"""For conditions that take a second on an idle machine."""
MARKET = ("--symbols", "5", "--rate", "400")

MakeStack = Callable[..., Stack]


@pytest.fixture
def make_stack(tmp_path: Path, schema_registry: Registry) -> Iterator[MakeStack]:
    with contextlib.ExitStack() as exits:

        def make(bootstrap_servers: str, *options: str, **settings: str) -> Stack:
            return exits.enter_context(
                Stack(
                    tmp_path,
                    bootstrap_servers=bootstrap_servers,
                    registry_url=schema_registry.url,
                    simulator=options or MARKET,
                    settings=settings,
                    topic=f"t-{uuid.uuid4().hex[:8]}",
                )
            )

        yield make


def writing(stack: Stack, instance: str = "blue") -> ServiceProcess:
    stack.wait(lambda: stack.writing(instance), f"{instance} as writer", seconds=PATIENCE)
    return stack.services[instance]


def committed_more(stack: Stack, by: int, instance: str = "blue") -> None:
    """Wait until so many more trades are in Kafka."""
    first: dict[str, int] = {}
    """The last id with which each symbol was first seen: a new one begins at the exchange's, with no trade in Kafka."""

    def more() -> bool:
        now = stack.committed(instance)
        return sum(last_id - first.setdefault(symbol, last_id) for symbol, last_id in now.items()) >= by

    stack.wait(more, f"{by} more trades in Kafka", seconds=PATIENCE)


def settle(stack: Stack, instance: str = "blue") -> None:
    stack.simulator.market("stop")
    stack.wait(lambda: stack.caught_up(instance), "the last trade in Kafka", seconds=PATIENCE)


def assert_clean(stack: Stack) -> dict[str, Any]:
    """The auditor finds everything, up to the exchange's last trade."""
    code, audit = stack.audit()
    totals: dict[str, Any] = audit["totals"]
    assert code == 0, f"{audit['reason']}: {json.dumps(totals)}"
    assert totals["committed"] > 0
    return totals


NEWEST = 2**62
"""A generation that is newer than any that is recorded."""


def control(stack: Stack, instance: str, verb: str, **body: object) -> dict[str, Any]:
    url = f"{stack.services[instance].control_url}/control/{verb}"
    return dict(http_json(url, method="POST", body=body, token=stack.settings()["K2_CONTROL_TOKEN"], timeout=90.0))


def role(stack: Stack, instance: str) -> str:
    with contextlib.suppress(OSError, ValueError):
        return str(stack.services[instance].status().get("role"))
    return ""


def test_a_clean_run_is_exact_and_its_doors_tell_the_truth(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka)
    service = stack.service("blue")
    writing(stack)
    committed_more(stack, 1500)
    assert service.healthy()
    http_json(f"{service.url}/health/live")
    settle(stack)
    stack.wait(lambda: service.status()["holes"] == 0, "no hole", seconds=PATIENCE)
    status = service.status()
    assert (status["role"], status["generation"], status["instance"]) == ("active", 1, "blue")
    assert all(symbol["lag"] == 0 and symbol["frozen"] is None for symbol in status["symbols"].values())
    assert [connection["state"] for connection in status["connections"]] == ["live"]
    samples = service.metrics()
    made = stack.simulator.sent()
    assert samples["ingest_writer_active"] == 1
    assert sum(v for k, v in samples.items() if k.startswith("ingest_trades_committed_total{")) <= made
    assert samples["serializer_cache_size"] == 1
    assert samples['ingest_log_events_total{level="ERROR"}'] == 0
    assert service.terminate() == 0
    assert assert_clean(stack)["committed"] <= made


def test_nothing_is_lost_or_doubled_by_sigkill_at_random_moments(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka)
    service = stack.service("blue")
    dice = random.Random(7)
    writing(stack)
    for _ in range(4):
        committed_more(stack, dice.randrange(50, 600))
        time.sleep(dice.uniform(0.0, 0.2))
        service.kill()
        service.start()
        writing(stack)
    committed_more(stack, 200)
    settle(stack)
    assert service.status()["generation"] == 5
    assert service.terminate() == 0
    assert_clean(stack)


def test_an_exchange_that_keeps_its_trades_may_be_killed_with_the_service(
    kafka: str, make_stack: MakeStack, tmp_path: Path
) -> None:
    ports = map(str, free_ports(3))
    listening = [part for option in ("--port", "--rest-port", "--admin-port") for part in (option, next(ports))]
    stack = make_stack(kafka, *MARKET, *listening, "--state", str(tmp_path / "exchange"))
    service = stack.service("blue")
    writing(stack)
    committed_more(stack, 800)
    before = stack.simulator.state()["symbols"]
    stack.simulator.kill()
    service.kill()
    stack.simulator.start()
    after = stack.simulator.state()["symbols"]
    assert all(
        (after[symbol]["first_id"], after[symbol]["last_id"] >= one["last_id"], after[symbol]["forgotten"])
        == (one["first_id"], True, False)
        for symbol, one in before.items()
    )
    service.start()
    writing(stack)
    committed_more(stack, 400)
    settle(stack)
    assert not [symbol for symbol, one in service.status()["symbols"].items() if one["frozen"] is not None]
    assert service.terminate() == 0
    totals = assert_clean(stack)
    assert totals["committed"] >= 1200


def test_what_was_traded_while_the_service_was_dead_is_found_without_a_further_trade(
    kafka: str, make_stack: MakeStack
) -> None:
    stack = make_stack(kafka)
    service = stack.service("blue")
    writing(stack)
    committed_more(stack, 500)
    service.kill()
    made = stack.simulator.sent()
    stack.wait(lambda: stack.simulator.sent() > made + 300, "trades that nobody hears", seconds=PATIENCE)
    stack.simulator.market("stop")
    service.start()
    stack.wait(stack.caught_up, "the end of every sequence", seconds=PATIENCE)
    assert service.terminate() == 0
    assert_clean(stack)


def test_a_broker_that_is_killed_and_comes_back_costs_nothing(own_kafka: KafkaBroker, make_stack: MakeStack) -> None:
    stack = make_stack(own_kafka.bootstrap_servers)
    service = stack.service("blue")
    writing(stack)
    committed_more(stack, 300)
    for _ in range(2):
        own_kafka.kill()
        time.sleep(3.0)
        own_kafka.start()
        committed_more(stack, 800)
    settle(stack)
    assert service.terminate() == 0
    assert_clean(stack)


def test_of_two_services_one_writes_and_a_frozen_writer_is_fenced(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka, K2_TAKEOVER_AFTER_SECONDS="6")
    for name in ("blue", "green"):
        stack.service(name, start=False).start(wait=False)
    for service in stack.services.values():
        service.wait_ready()

    def roles() -> list[str]:
        return sorted(role(stack, name) for name in stack.services)

    stack.wait(lambda: roles() == ["active", "standby"], "one writer, one standby", seconds=PATIENCE)
    first = next(name for name in stack.services if stack.writing(name))
    second = next(name for name in stack.services if name != first)
    committed_more(stack, 300, first)
    stack.services[first].pause()
    writing(stack, second)
    committed_more(stack, 300, second)
    stack.services[first].resume()
    stack.wait(lambda: role(stack, first) == "standby", "the thawed one as standby", seconds=PATIENCE)
    assert stack.writing(second)
    committed_more(stack, 300, second)
    settle(stack, second)
    assert [service.terminate() for service in stack.services.values()] == [0, 0]
    assert_clean(stack)


def status_as_of_now(stack: Stack, service: ServiceProcess) -> dict[str, Any]:
    """What /status says, once that is not older than this call: while the loop hangs it is."""
    began = time.monotonic()
    shown: dict[str, Any] = {}

    def young() -> bool:
        shown.update(service.status())
        return bool(shown["snapshot_age_seconds"] < time.monotonic() - began)

    stack.wait(young, "a status as of now", seconds=PATIENCE)
    return shown


def test_a_shadow_agrees_and_takes_over_by_promotion_and_back(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka)
    stack.service("blue")
    writing(stack)
    green = stack.service("green", K2_START_MODE="shadow")
    stack.wait(lambda: green.metrics()["ingest_shadow_compared_total"] >= 500, "500 records compared", seconds=PATIENCE)
    counted = green.metrics()["ingest_shadow_compared_total"]
    shadow = status_as_of_now(stack, green)["shadow"]
    assert shadow["compared"] >= counted, "/status is older than /metrics read before it"
    assert (shadow["mismatched"], shadow["mismatches"], role(stack, "green")) == (0, [], "shadow")
    answer = control(stack, "green", "promote", deployment_id="d1", generation=2)
    assert answer == {"state": "active", "generation": 2, "repeated": False}
    assert control(stack, "green", "promote", deployment_id="d1", generation=2)["repeated"] is True
    assert control(stack, "blue", "promote", deployment_id="at-once", generation=NEWEST)["state"] == "active"
    assert control(stack, "green", "promote", deployment_id="and-again", generation=NEWEST)["generation"] == 4
    stack.wait(lambda: role(stack, "blue") == "standby", "blue as standby", seconds=PATIENCE)
    committed_more(stack, 300, "green")
    assert green.metrics()["ingest_handover_gap_seconds"] < 30
    assert control(stack, "blue", "watch")["state"] == "shadow"
    stack.wait(
        lambda: stack.services["blue"].metrics()["ingest_shadow_compared_total"] >= 100,
        "blue compares",
        seconds=PATIENCE,
    )
    assert control(stack, "blue", "promote", deployment_id="back", generation=NEWEST)["state"] == "active"
    assert control(stack, "green", "stand_by")["state"] == "standby"
    with pytest.raises(urllib.error.HTTPError, match="409"):
        control(stack, "green", "promote", deployment_id="d2", generation=2)
    committed_more(stack, 300, "blue")
    settle(stack, "blue")
    assert stack.services["blue"].metrics()["ingest_shadow_mismatch_total"] == 0
    assert control(stack, "green", "drain")["state"] == "draining"
    assert green.wait(PATIENCE) == 0
    assert stack.services["blue"].terminate() == 0
    assert_clean(stack)


def test_sigterm_in_the_middle_of_a_batch_ends_in_time_and_loses_nothing(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka, "--symbols", "5", "--rate", "1500")
    service = stack.service("blue")
    for _ in range(3):
        writing(stack)
        committed_more(stack, 700)
        began = time.monotonic()
        assert service.terminate() == 0
        assert time.monotonic() - began < 30.0  # 10 on a machine that does nothing else
        service.start()
    writing(stack)
    committed_more(stack, 300)
    settle(stack)
    assert service.terminate() == 0
    assert_clean(stack)


def test_sigterm_while_the_broker_is_away_ends_in_time(own_kafka: KafkaBroker, make_stack: MakeStack) -> None:
    stack = make_stack(own_kafka.bootstrap_servers)
    service = stack.service("blue")
    writing(stack)
    committed_more(stack, 300)
    own_kafka.kill()
    time.sleep(2.0)
    began = time.monotonic()
    assert service.terminate() == 0
    assert time.monotonic() - began < 40.0  # 10 on a machine that does nothing else
    own_kafka.start()
    service.start()
    writing(stack)
    committed_more(stack, 300)
    settle(stack)
    assert service.terminate() == 0
    assert_clean(stack)


def test_at_least_once_works_and_says_what_it_is(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka, K2_KAFKA_DELIVERY="at-least-once")
    service = stack.service("blue")
    writing(stack)
    committed_more(stack, 500)
    assert service.status()["delivery"] == "at-least-once"
    assert service.terminate() == 0
    service.start()
    writing(stack)
    committed_more(stack, 500)
    settle(stack)
    assert service.terminate() == 0
    assert_clean(stack)


# Starts that are refused


def ended(service: ServiceProcess) -> int | None:
    service.start(wait=False)
    code = service.wait(PATIENCE)
    if code is None:
        service.kill()
    return code


def test_an_unknown_symbol_is_refused_by_name(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka, "--symbols", "BTC/USDT,ETH/USDT", "--rate", "10")
    service = stack.service("blue", start=False, K2_BINANCE_SYMBOLS="ETHUSTD")
    assert ended(service) == 3
    assert "no symbol 'ETHUSTD'; the exchange has ETHUSDT" in service.tail()


def test_one_unknown_symbol_is_named_and_the_others_are_recorded(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka, "--symbols", "BTC/USDT,ETH/USDT", "--rate", "50")
    service = stack.service("blue", K2_BINANCE_SYMBOLS="BTCUSDT,ETHUSTD")
    stack.wait(lambda: stack.committed().get("BTCUSDT", -1) > 0, "trades of the other symbol", seconds=PATIENCE)
    assert "no symbol 'ETHUSTD'; the exchange has ETHUSDT" in service.log.read_text()
    status = http_json(f"{service.url}/status")
    assert status["left_out"] == {"ETHUSTD": "not_listed"}
    assert service.metrics()['ingest_symbols_left_out{reason="not_listed"}'] == 1.0


def test_missing_topics_are_refused_with_what_to_do(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka)
    for name, setting in (("all", "K2_KAFKA_TOPIC"), ("dlq", "K2_KAFKA_DEAD_LETTER_TOPIC")):
        service = stack.service(name, start=False, **{setting: f"absent-{uuid.uuid4().hex[:6]}"})
        assert ended(service) == 3
        assert "create" in service.tail(3)
        assert "`ingest topics`" in service.tail(3)


def test_an_incompatible_schema_is_refused_before_the_first_write(
    kafka: str, make_stack: MakeStack, schema_registry: Registry
) -> None:
    stack = make_stack(kafka)
    other = {"type": "record", "name": "TradeV2", "namespace": "com.k2.marketdata", "fields": [
        {"name": "message_id", "type": "long"},
    ]}  # fmt: skip
    schema_registry.handle("POST", f"/subjects/{stack.topic}-value/versions", {"schema": json.dumps(other)})
    service = stack.service("blue", start=False)
    assert ended(service) == 3
    assert "not compatible" in service.tail()


def test_bad_settings_are_all_told_one_a_line() -> None:
    environment = inherited() | {
        "K2_BINANCE_SYMBOLS": "btc",
        "K2_KAFKA_NO_SUCH": "1",
        "K2_CONTROL_PORT": "0",
        "K2_CONTROL_TOKEN": "short-secret",
    }
    done = subprocess.run(
        [sys.executable, "-m", "ingest", "run"], env=environment, cwd=ROOT, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert [line.split(":")[1].split("=")[0].strip() for line in lines] == [
        "K2_KAFKA_NO_SUCH",
        "K2_BINANCE_SYMBOLS",
        "K2_CONTROL_TOKEN",
    ]
    assert "short-secret" not in done.stderr + done.stdout
