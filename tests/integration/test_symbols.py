"""Symbols come and go while the service runs, by the exchange's list and by order; no restart, no new connection."""

import contextlib
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.harness.processes import http_json
from tests.harness.registry import Registry
from tests.harness.stack import Stack

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

PATIENCE = 180.0
MARKET = ("--symbols", "BTC/USDT,ETH/USDT,BNB/USDT", "--rate", "200")


@contextlib.contextmanager
def started(kafka: str, registry: Registry, directory: Path, **settings: str) -> Iterator[Stack]:
    with Stack(
        directory, bootstrap_servers=kafka, registry_url=registry.url, simulator=MARKET, settings=settings,
        topic=f"t-{uuid4().hex[:8]}",
    ) as stack:  # fmt: skip
        stack.service()
        stack.wait(stack.writing, "the writer", seconds=PATIENCE)
        yield stack


def grows(stack: Stack, symbol: str) -> None:
    """Wait until a symbol has new trades in Kafka."""
    before = stack.committed().get(symbol, -1)
    stack.wait(lambda: stack.committed().get(symbol, -1) > before, f"trades of {symbol} in Kafka", seconds=PATIENCE)


def says(stack: Stack, text: str) -> None:
    log = stack.services["blue"].log
    stack.wait(lambda: text in log.read_text(), f"{text!r} in the log", seconds=PATIENCE)


def series(stack: Stack, name: str) -> float:
    return sum(value for key, value in stack.services["blue"].metrics().items() if key.partition("{")[0] == name)


def order(stack: Stack, **body: list[str]) -> Any:
    url = f"{stack.services['blue'].control_url}/control/symbols"
    return http_json(url, method="POST", body=body, token=stack.settings()["K2_CONTROL_TOKEN"], timeout=60.0)


def test_a_new_listing_is_recorded_and_a_break_and_a_delisting_are_told(
    kafka: str, schema_registry: Registry, tmp_path: Path
) -> None:
    with started(kafka, schema_registry, tmp_path, K2_BINANCE_SYMBOL_REFRESH_SECONDS="1") as stack:
        for symbol in ("BTCUSDT", "ETHUSDT", "BNBUSDT"):
            grows(stack, symbol)
        assert stack.services["blue"].process is not None
        opened, pid = series(stack, "binance_connection_attempts_total"), stack.services["blue"].process.pid
        stack.simulator.fault("list_symbol", symbol="NEW/USDT")
        grows(stack, "NEWUSDT")
        grows(stack, "NEWUSDT")
        stack.simulator.fault("symbol_status", symbol="ETHUSDT", status="BREAK")
        says(stack, "ETHUSDT: TRADING -> BREAK")
        stack.simulator.fault("symbol_status", symbol="ETHUSDT", status="TRADING")
        says(stack, "ETHUSDT: BREAK -> TRADING")
        grows(stack, "ETHUSDT")
        stack.simulator.fault("delist", symbol="BNBUSDT")
        says(stack, "BNBUSDT: TRADING -> NOT_LISTED")
        grows(stack, "NEWUSDT")
        assert series(stack, "binance_connection_attempts_total") == opened
        assert stack.services["blue"].process.pid == pid
        stack.simulator.market("stop")
        stack.wait(stack.caught_up, "the last trade in Kafka", seconds=PATIENCE)
        code, audit = stack.audit()
        assert code == 0, audit["totals"]


def test_symbols_are_added_and_removed_by_order(kafka: str, schema_registry: Registry, tmp_path: Path) -> None:
    with started(kafka, schema_registry, tmp_path, K2_BINANCE_SYMBOLS="BTCUSDT") as stack:
        grows(stack, "BTCUSDT")
        assert set(stack.committed()) == {"BTCUSDT"}
        order(stack, add=["ETHUSDT"])
        grows(stack, "ETHUSDT")
        with pytest.raises(urllib.error.HTTPError) as refused:
            order(stack, add=["ETHUSTD"])
        refused.value.close()
        assert refused.value.code in (400, 409)
        order(stack, remove=["BTCUSDT"])
        stack.wait(lambda: series(stack, "binance_streams") == 1, "one stream left", seconds=PATIENCE)
        grows(stack, "ETHUSDT")
        assert "BTCUSDT" not in stack.committed()
        assert order(stack, add=["BTCUSDT"])["stored"] is True
        grows(stack, "BTCUSDT")
        stack.services["blue"].kill()
        stack.service()
        stack.wait(stack.writing, "the writer after its restart", seconds=PATIENCE)
        grows(stack, "ETHUSDT")
        assert set(stack.committed()) == {"BTCUSDT", "ETHUSDT"}, "what a command added is recorded after a restart"
        stack.simulator.market("stop")
        stack.wait(stack.caught_up, "the last trade in Kafka", seconds=PATIENCE)
        code, audit = stack.audit()
        assert code == 0, audit["totals"]
