"""The reader and the examples of the documentation, on a topic that the real service has written."""

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ingest.reader import Deleted, Gap, Reader, ReaderError, Record, Start, Trade, Undecodable, Void
from ingest.reader.consumer import Event, TopicConsumer
from tests.harness.registry import Registry
from tests.harness.stack import Stack

ROOT = Path(__file__).resolve().parents[4]
EXAMPLES = ROOT / "docs" / "examples"

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def stack(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with (
        Registry() as registry,
        Stack(
            tmp_path_factory.mktemp("examples"),
            bootstrap_servers=kafka,
            registry_url=registry.url,
            simulator=["--symbols", "3", "--rate", "2000", "--seed", "7", "--paused"],
            topic="examples.trades",
            settings={"K2_BINANCE_VOID_CONFIRM_SECONDS": "2"},
        ) as stack,
    ):
        stack.service()
        stack.wait(stack.writing, "the service as writer")
        stack.simulator.market("start")
        stack.wait(lambda: len(stack.committed()) == 3, "trades of every symbol")
        stack.simulator.fault("void", count=3)
        stack.wait(lambda: stack.simulator.sent() > 9000, "a few seconds of trading", seconds=180)
        stack.simulator.market("stop")
        stack.wait(stack.caught_up, "the last trade", seconds=180)
        yield stack


def reader(stack: Stack, *symbols: str, start: Start | None = None) -> Reader:
    return Reader(
        stack.topic,
        symbols=symbols,
        start=start,
        bootstrap_servers=stack.bootstrap_servers,
        schema_registry_url=stack.registry_url,
    )


def everything(stack: Stack, *symbols: str, start: Start | None = None) -> list[Record]:
    with reader(stack, *symbols, start=start) as records:
        return list(records)


def busiest(stack: Stack) -> str:
    """The symbol whose ids have the void."""
    symbols = stack.simulator.state()["symbols"]
    return max(stack.committed(), key=lambda name: int(symbols[name]["last_id"] - symbols[name]["first_id"]))


def test_it_yields_every_trade_in_order_and_the_voids_in_their_place(stack: Stack) -> None:
    records = everything(stack)
    assert not [record for record in records if isinstance(record, Gap)]
    for symbol, entry in stack.simulator.state()["symbols"].items():
        ids: list[int] = []
        for record in records:
            if isinstance(record, Trade) and record.symbol == symbol:
                assert record.source_sequence is not None
                ids.append(record.source_sequence)
            elif isinstance(record, Void) and record.symbol == symbol:
                assert record.reason == "exchange_hole"
                ids += range(record.first_id, record.last_id + 1)
        assert ids == list(range(ids[0], entry["last_id"] + 1))
    assert sum(record.last_id - record.first_id + 1 for record in records if isinstance(record, Void)) == 3


def test_it_begins_at_an_id_without_reading_what_is_before(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    symbol = busiest(stack)
    ids = [record.source_sequence for record in everything(stack, symbol) if isinstance(record, Trade)]
    wanted = ids[-50]
    assert wanted is not None
    read = 0
    original = TopicConsumer.events

    def counted(self: TopicConsumer, offsets: dict[int, int], **options: Any) -> Iterator[Event]:
        nonlocal read
        for event in original(self, offsets, **options):
            read += 1
            yield event

    monkeypatch.setattr(TopicConsumer, "events", counted)
    found = everything(stack, symbol, start=Start.at_id({symbol: wanted}))
    assert [record.source_sequence for record in found if isinstance(record, Trade)] == ids[-50:]
    assert 50 <= read < len(ids)


def test_it_begins_at_a_time(stack: Stack) -> None:
    trades = [record for record in everything(stack) if isinstance(record, Trade)]
    # By time, not by place: one partition may be read whole before the other.
    middle = sorted(trade.ingestion_timestamp for trade in trades)[len(trades) // 2]
    found = [r for r in everything(stack, start=Start.at_time(middle)) if isinstance(r, Trade)]
    assert 0 < len(found) < len(trades)
    assert {t.trade_id for t in trades if t.ingestion_timestamp > middle + timedelta(seconds=1)} <= {
        t.trade_id for t in found
    }


def test_it_goes_on_at_a_stored_position_without_a_trade_lost_or_read_twice(stack: Stack) -> None:
    whole = everything(stack)
    position = None
    parts: list[Record] = []
    while True:
        with reader(stack, start=Start.at_position(position) if position else None) as records:
            part = list(itertools.islice(records, 1_111))
            position = json.loads(json.dumps(records.position()))
        parts += part
        if len(part) < 1_111:
            break

    def of(symbol: str, records: list[Record]) -> list[str]:
        assert not [r for r in records if isinstance(r, Deleted)]
        return [
            r.trade_id if isinstance(r, Trade) else str(r)
            for r in records
            if not isinstance(r, Deleted | Undecodable) and r.symbol == symbol
        ]

    for symbol in stack.committed():
        assert of(symbol, parts) == of(symbol, whole)


def test_the_head_is_where_latest_begins(stack: Stack) -> None:
    assert everything(stack, start=Start.latest()) == []


def refusal(topic: str, bootstrap_servers: str, schema_registry_url: str) -> str:
    with (
        pytest.raises(ReaderError) as refused,
        Reader(
            topic, bootstrap_servers=bootstrap_servers, schema_registry_url=schema_registry_url, timeout=5
        ) as records,
    ):
        list(records)
    return str(refused.value)


def test_what_cannot_be_read_is_a_clear_error(stack: Stack) -> None:
    servers, registry, away = stack.bootstrap_servers, stack.registry_url, "127.0.0.1:9"
    assert (
        refusal("no.such.topic", servers, registry)
        == f"no topic no.such.topic at {servers}: `ingest topics` creates it"
    )
    assert refusal(stack.topic, away, registry).startswith(f"no answer from {away}: ")
    assert refusal(stack.topic, servers, f"http://{away}").startswith(
        f"no answer from the schema registry http://{away}: "
    )
    assert "HTTP 404 for schema 1; Apicurio's address ends in /apis/ccompat/v7" in refusal(
        stack.topic, servers, f"{registry}/v7"
    )
    assert "expected http://" in refusal(stack.topic, servers, "registry:8081")


def example(stack: Stack, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, str(EXAMPLES / name), "--topic", stack.topic,
        "--bootstrap-servers", stack.bootstrap_servers, "--schema-registry-url", stack.registry_url, *options,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_the_example_finds_every_symbol_complete(stack: Stack) -> None:
    done = example(stack, "continuity.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 3 symbols, 0 out of place, 3 ids void" in done.stdout


def test_bars_hold_every_trade_of_the_symbol(stack: Stack, tmp_path: Path) -> None:
    symbol = sorted(stack.committed())[0]
    done = example(stack, "bars.py", "--symbol", symbol, "--csv", str(tmp_path / "bars.csv"))
    assert done.returncode == 0, done.stdout + done.stderr
    header, *rows = (tmp_path / "bars.csv").read_text().splitlines()
    column = header.split(",").index("trades")
    trades = [record for record in everything(stack, symbol) if isinstance(record, Trade)]
    assert sum(int(row.split(",")[column]) for row in rows) == len(trades)


def test_trades_are_printed_from_an_id(stack: Stack) -> None:
    symbol = busiest(stack)
    last = stack.committed()[symbol]
    done = example(stack, "trades.py", "--symbol", symbol, "--from", f"id:{last - 2}", "--limit", "9")
    assert done.returncode == 0, done.stderr
    assert [int(line.split()[2]) for line in done.stdout.splitlines()] == [last - 2, last - 1, last]


def test_errors_of_the_examples_are_one_line(stack: Stack) -> None:
    done = example(stack, "bars.py", "--symbol", "NOSUCH")
    assert (done.returncode, done.stderr) == (1, "no trade of NOSUCH in examples.trades\n")
    for name in ("bars.py", "trades.py", "continuity.py"):
        done = example(stack, name, "--schema-registry-url", "http://127.0.0.1:9")
        assert done.returncode == 2
        assert done.stderr.startswith("no answer from the schema registry http://127.0.0.1:9")
        assert done.stderr.count("\n") == 1
