"""The auditor, the reader and the examples on the topics of all streams, written by the real service."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

from ingest.reader import AggTrade, Bar, BookSnapshot, BookUpdate, Break, Gap, Quote, Reader, Trade, sibling
from tests.harness.processes import ROOT, inherited
from tests.harness.registry import Registry
from tests.harness.stack import Stack

STREAMS = ("trade", "aggTrade", "blockTrade", "kline_1s", "bookTicker", "depth")
KINDS = {
    "aggTrade": "agg_trades",
    "blockTrade": "block_trades",
    "kline_1s": "bars",
    "bookTicker": "quotes",
    "depth": "books",
}
TOPIC = "audited"
SECONDS = 20.0
SETTLE = 5.0

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stack(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A service that has recorded every stream, with a reset of all connections in the middle, and was stopped."""
    with (
        Registry() as registry,
        Stack(
            tmp_path_factory.mktemp("streams"),
            bootstrap_servers=kafka,
            registry_url=registry.url,
            simulator=["--symbols", "3", "--rate", "150", "--burst", "20", "--seed", "11"],
            topic=TOPIC,
            settings={"K2_BINANCE_STREAMS": ",".join(STREAMS), "K2_BINANCE_VOID_CONFIRM_SECONDS": "2"},
        ) as stack,
    ):
        service = stack.service()
        stack.wait(lambda: in_sync(stack), "every book in sync")
        stack.wait(lambda: len(stack.committed()) == 3, "trades of every symbol")
        time.sleep(SECONDS / 2)
        stack.simulator.fault("reset")
        stack.wait(lambda: in_sync(stack), "every book in sync again")
        time.sleep(SECONDS / 2)
        stack.simulator.market("stop")
        stack.wait(stack.caught_up, "the last trade")
        time.sleep(SETTLE)
        assert service.terminate() == 0
        yield stack


def in_sync(stack: Stack) -> bool:
    try:
        books = stack.services["blue"].status()["streams"]["depth"]["books"]
    except (OSError, ValueError, KeyError):
        return False
    return bool(books["in_sync"] == books["recorded"] > 0)


def audit(stack: Stack, stream: str, *options: str) -> dict[str, Any]:
    topic = TOPIC if stream == "trade" else f"{TOPIC}.{KINDS[stream]}"
    command = [
        sys.executable, "-m", "ingest", "audit", "--stream", stream, "--topic", topic, "--bootstrap-servers",
        stack.bootstrap_servers, "--schema-registry-url", stack.registry_url, "--json", "-", *options,
    ]  # fmt: skip
    if "--ledger-rest" not in options:
        command += ["--ledger", stack.simulator.admin_url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=inherited(), cwd=ROOT)
    report: dict[str, Any] = json.loads(done.stdout or "{}")
    assert report, done.stderr[-2000:]
    assert done.returncode == {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 2}[report["verdict"]]
    return report


@pytest.mark.parametrize("stream", STREAMS)
def test_what_the_service_recorded_is_what_the_exchange_had(stack: Stack, stream: str) -> None:
    head = ("--expect-to-head",) if stream in ("trade", "depth") else ()
    report = audit(stack, stream, *head)
    assert report["verdict"] == "PASS", (report["reason"], report["violations"][:5])
    assert len(report["symbols"]) == 3
    assert report["totals"]["ledger"] > 0
    if stream == "depth":
        assert report["totals"]["snapshots"] >= 6  # each first one, and the book at the end


def test_a_topic_of_one_stream_is_none_of_another(stack: Stack) -> None:
    topic = f"{TOPIC}.quotes"
    report = audit(stack, "depth", "--topic", topic)
    assert report["verdict"] == "FAIL"
    assert "lacks" in json.dumps(report["violations"])


def reader(stack: Stack, topic: str) -> Reader:
    return Reader(topic, bootstrap_servers=stack.bootstrap_servers, schema_registry_url=stack.registry_url)


def test_the_reader_yields_every_stream_without_an_undeclared_gap(stack: Stack) -> None:
    wanted: dict[str, set[type]] = {
        "agg_trades": {AggTrade}, "block_trades": {Trade}, "bars": {Bar}, "quotes": {Quote, Break},
        "books": {BookUpdate, BookSnapshot, Break},
    }  # fmt: skip
    for kind, types in wanted.items():
        with reader(stack, sibling(TOPIC, kind)) as records:
            found = list(records)
        assert not [one for one in found if isinstance(one, Gap)], kind
        assert {type(one) for one in found} <= types
        assert found or kind == "block_trades"


def example(stack: Stack, name: str, topic: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, str(Path(ROOT) / "docs" / "examples" / name), "--bootstrap-servers", stack.bootstrap_servers,
        "--schema-registry-url", stack.registry_url, "--topic", topic, *options,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=inherited(), cwd=ROOT)


def test_the_example_rebuilds_every_book(stack: Stack) -> None:
    done = example(stack, "book.py", f"{TOPIC}.books")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" in sync at ") >= 3


def test_the_example_s_bars_are_the_exchange_s(stack: Stack) -> None:
    done = example(stack, "bars.py", TOPIC, "--compare", "--interval", "1s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > 10
    assert done.stdout.endswith("bars equal the exchange's, 0 do not\n")
    nothing = example(stack, "bars.py", f"{TOPIC}.block_trades", "--compare", "--interval", "1m")
    assert nothing.returncode == 2


def test_the_topics_agree_with_each_other(stack: Stack) -> None:
    command = [
        sys.executable, "-m", "ingest", "audit", "--each-other", "--topic", TOPIC, "--bootstrap-servers",
        stack.bootstrap_servers, "--schema-registry-url", stack.registry_url, "--json", "-",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=inherited(), cwd=ROOT)
    report = json.loads(done.stdout)
    assert report["verdict"] == "PASS", (report["reason"], report["violations"][:5])
    assert report["totals"]["committed"] > 100
    assert report["totals"]["snapshots"] > 100


def test_a_registry_without_the_records_schema_is_no_evidence_against_them(stack: Stack) -> None:
    with Registry() as empty:
        report = audit(stack, "trade", "--schema-registry-url", empty.url)
    assert report["verdict"] == "INCONCLUSIVE"
    assert "is not in the registry" in report["reason"]
    assert (report["totals"]["missing"], report["totals"]["altered"]) == (0, 0)


def test_a_position_that_the_rebuild_has_set_back_is_no_fault(stack: Stack) -> None:
    """The last record of the positions topic is a forged one; then what the documentation says."""
    before = audit(stack, "trade")["symbols"]["BTCUSDT"]
    forged = {"first_id": before["first_id"], "last_id": before["last_id"] + 500, "count": 1, "v": 1}
    producer = Producer({"bootstrap.servers": stack.bootstrap_servers})
    producer.produce(f"{TOPIC}.positions", json.dumps(forged).encode(), b"position:BTCUSDT", 0)
    assert producer.flush(60) == 0
    command = [sys.executable, "-m", "ingest", "positions", "rebuild", "--replace"]
    environment = inherited() | stack.settings()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "differs    (written)" in done.stdout
    report = audit(stack, "trade", "--expect-to-head")
    assert report["verdict"] == "PASS", (report["reason"], report["violations"][:5])
    assert [one.partition(":")[0] for one in report["corrected_positions"]] == ["BTCUSDT"]


def test_more_partitions_of_the_positions_than_shards_are_no_fault(stack: Stack) -> None:
    admin = AdminClient({"bootstrap.servers": stack.bootstrap_servers})
    admin.create_partitions([NewPartitions(f"{TOPIC}.positions", 4)])[f"{TOPIC}.positions"].result(60)
    report = audit(stack, "trade", "--expect-to-head")
    assert report["verdict"] == "PASS", (report["reason"], report["violations"][:5])
