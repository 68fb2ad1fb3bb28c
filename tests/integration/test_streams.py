"""Every stream of the market on the real parts: simulator, Kafka and service as processes."""

import contextlib
import json
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.harness.processes import http_json
from tests.harness.registry import Registry
from tests.harness.stack import Stack
from tests.harness.stream_topics import Book, Rows, by_symbol, check_numbered, check_quotes, committed, rebuild

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

STREAMS = "trade,aggTrade,blockTrade,kline_1s,bookTicker,depth"
MARKET = ("--symbols", "3", "--rate", "120")
PATIENCE = 180.0

MakeStack = Callable[..., Stack]


@pytest.fixture
def make_stack(tmp_path: Path, schema_registry: Registry) -> Iterator[MakeStack]:
    with contextlib.ExitStack() as exits:

        def make(bootstrap_servers: str, **settings: str) -> Stack:
            return exits.enter_context(
                Stack(
                    tmp_path, bootstrap_servers=bootstrap_servers, registry_url=schema_registry.url, simulator=MARKET,
                    settings={"K2_BINANCE_STREAMS": STREAMS, **settings},
                    topic=f"t{uuid.uuid4().hex[:8]}.trades.binance",
                )
            )  # fmt: skip

        yield make


def streams(stack: Stack, instance: str = "blue") -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, KeyError):
        found: dict[str, Any] = stack.services[instance].status()["streams"]
        return found
    return {}


def in_sync(stack: Stack, instance: str = "blue") -> bool:
    books = streams(stack, instance).get("depth", {}).get("books", {})
    return bool(books) and books["in_sync"] == books["recorded"] > 0


def topic(stack: Stack, kind: str) -> Rows:
    return committed(stack.bootstrap_servers, stack.topic.replace("trades", kind), kind)


def assert_audited(stack: Stack) -> None:
    """The auditor, which shares no code with the writer, finds nothing wrong in any stream."""
    for stream in STREAMS.split(","):
        code, report = stack.audit_stream(stream)
        assert code == 0, f"{stream}: {report['reason']}: {json.dumps(report)[:3000]}"


def assert_books_are_the_exchange_s(stack: Stack, books: dict[str, Book]) -> None:
    for symbol, book in books.items():
        assert book.in_sync, symbol
        url = f"{stack.simulator.admin_url}/admin/book?symbol={symbol}&id={book.last}"
        truth: Any = http_json(url)
        for side, ours in (("bids", book.bids), ("asks", book.asks)):
            theirs = {Decimal(price): Decimal(quantity) for price, quantity in truth[side]}
            assert ours == theirs, f"{symbol} {side} at {book.last}"


def assert_contracts(stack: Stack) -> dict[str, Any]:
    """Check every topic on its own and against the simulator's ledger; returns what was found."""
    aggregates = topic(stack, "agg_trades")
    numbers = check_numbered(aggregates)
    for symbol, (first, last) in numbers.items():
        url = f"{stack.simulator.admin_url}/admin/ledger?symbol={symbol}&stream=aggTrade&from_id={first}&limit=5000"
        rows: Any = http_json(url)["rows"]
        theirs = {row[0]: (Decimal(row[1]), Decimal(row[2]), row[3], row[4]) for row in rows}
        ours = {
            row["source_sequence"]: (row["price"], row["quantity"], row["first_trade_id"], row["last_trade_id"])
            for row in by_symbol(aggregates)[symbol]
        }
        compared = [number for number in theirs if number <= last]
        assert compared
        assert {number: theirs[number] for number in compared} == {number: ours[number] for number in compared}
    bars = check_numbered(topic(stack, "bars"))
    check_numbered(topic(stack, "block_trades"))
    quotes = check_quotes(topic(stack, "quotes"))
    assert_audited(stack)
    books = rebuild(topic(stack, "books"))
    assert set(books) == set(numbers) == set(bars)
    assert_books_are_the_exchange_s(stack, books)
    return {"numbers": numbers, "bars": bars, "quotes": quotes, "books": books}


def test_every_stream_of_a_clean_run_keeps_its_contract(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka)
    service = stack.service("blue")
    stack.wait(lambda: in_sync(stack), "every book in sync", seconds=PATIENCE)
    time.sleep(6.0)
    metrics = service.metrics()
    assert service.terminate() == 0
    found = assert_contracts(stack)
    assert found["quotes"]["BREAK"] == 0
    assert sum(book.kinds["BREAK"] for book in found["books"].values()) == 0
    assert sum(metrics[f'ingest_stream_records_committed_total{{stream="{name}"}}'] for name in ("depth", "aggTrade"))


def test_a_kill_costs_one_break_of_each_book_and_a_snapshot(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka)
    service = stack.service("blue")
    stack.wait(lambda: in_sync(stack), "every book in sync", seconds=PATIENCE)
    time.sleep(3.0)
    service.kill()
    time.sleep(3.0)
    service.start()
    stack.wait(lambda: in_sync(stack), "every book in sync again", seconds=PATIENCE)
    time.sleep(3.0)
    assert service.terminate() == 0
    found = assert_contracts(stack)
    for symbol, book in found["books"].items():
        assert book.kinds["BREAK"] == 1, symbol
        assert book.kinds["SNAPSHOT"] >= 2, symbol
    assert found["quotes"]["BREAK"] <= 3


def control(stack: Stack, instance: str, verb: str, **body: object) -> dict[str, Any]:
    url = f"{stack.services[instance].control_url}/control/{verb}"
    return dict(http_json(url, method="POST", body=body, token=stack.settings()["K2_CONTROL_TOKEN"], timeout=90.0))


def kinds(found: dict[str, Any], kind: str) -> dict[str, int]:
    return {symbol: book.kinds[kind] for symbol, book in found["books"].items()}


def test_rotations_and_hand_overs_declare_no_break_and_ask_for_no_snapshot(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka)
    stack.service("blue")
    stack.wait(lambda: in_sync(stack), "every book in sync", seconds=PATIENCE)
    stack.service("green", K2_START_MODE="standby")
    time.sleep(3.0)
    assert control(stack, "blue", "rotate")["rotating"] == 6
    time.sleep(8.0)
    for round_, instance in enumerate(("green", "blue", "green")):
        answer = control(stack, instance, "promote", deployment_id=f"d{round_}", generation=2**62)
        assert answer["state"] == "active"
        time.sleep(3.0)
    for name in ("blue", "green"):
        assert stack.services[name].terminate() == 0
    found = assert_contracts(stack)
    assert set(kinds(found, "BREAK").values()) == {0}
    assert set(kinds(found, "SNAPSHOT").values()) == {1}
    assert found["quotes"]["BREAK"] == 0


def test_what_one_connection_missed_is_repaired_by_its_contract(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka)
    service = stack.service("blue")
    stack.wait(lambda: in_sync(stack), "every book in sync", seconds=PATIENCE)
    symbol = next(iter(stack.simulator.state()["symbols"]))
    time.sleep(2.0)
    for stream, count in (("depth@100ms", 2), ("aggTrade", 3), ("kline_1s", 1)):
        stack.simulator.fault("gap", stream=stream, symbol=symbol, count=count)
    time.sleep(5.0)
    stack.wait(lambda: in_sync(stack), "every book in sync again", seconds=PATIENCE)
    stack.wait(lambda: streams(stack)["aggTrade"]["gaps"] == 0, "aggregates repaired", seconds=PATIENCE)
    stack.wait(lambda: streams(stack)["kline_1s"]["gaps"] == 0, "bars repaired", seconds=PATIENCE)
    metrics = service.metrics()
    assert service.terminate() == 0
    found = assert_contracts(stack)
    assert kinds(found, "BREAK") == {one: int(one == symbol) for one in found["books"]}
    assert metrics['ingest_stream_events_total{event="gap_filled",stream="aggTrade"}'] >= 1


def test_two_connections_merge_a_chain(kafka: str, make_stack: MakeStack) -> None:
    stack = make_stack(kafka, K2_BINANCE_DUAL_CONNECTIONS="true")
    service = stack.service("blue")
    stack.wait(lambda: in_sync(stack), "every book in sync", seconds=PATIENCE)
    time.sleep(2.0)
    symbol = next(iter(stack.simulator.state()["symbols"]))
    assert len(streams(stack)["depth"]["connections"]) == 2
    for session in stack.simulator.state()["connections"]:
        # One after the other: no update is missing on both of the two that carry the book.
        stack.simulator.fault("gap", stream="depth@100ms", symbol=symbol, count=1, connection=session["number"])
        time.sleep(1.0)
    struck = len(stack.simulator.state()["faults"])
    assert service.terminate() == 0
    found = assert_contracts(stack)
    assert set(kinds(found, "BREAK").values()) == {0}
    assert found["quotes"]["BREAK"] == 0
    assert struck >= 2
