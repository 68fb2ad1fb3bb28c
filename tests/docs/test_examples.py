"""The examples of the documentation, run on a topic that the real service has written."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.registry import Registry
from tests.support.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
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
            simulator=["--symbols", "3", "--rate", "300", "--seed", "7", "--paused"],
            topic="examples.trades",
            settings={"K2_BINANCE_VOID_CONFIRM_SECONDS": "2"},
        ) as stack,
    ):
        stack.service()
        stack.wait(stack.writing, "the service as writer")
        stack.simulator.market("start")
        stack.wait(lambda: len(stack.committed()) == 3, "trades of every symbol")
        stack.simulator.fault("void", count=3)
        stack.wait(lambda: stack.simulator.sent() > 1500, "a few seconds of trading", seconds=180)
        stack.simulator.market("stop")
        stack.wait(stack.caught_up, "the last trade", seconds=180)
        yield stack


def example(stack: Stack, name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, str(EXAMPLES / name), "--topic", stack.topic,
        "--bootstrap-servers", stack.bootstrap_servers, "--schema-registry-url", stack.registry_url, *options,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_the_consumer_finds_every_symbol_complete(stack: Stack) -> None:
    done = example(stack, "continuity.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of 3 symbols, 0 out of place" in done.stdout


def test_bars_hold_every_trade_of_the_symbol(stack: Stack, tmp_path: Path) -> None:
    symbol = sorted(stack.committed())[0]
    done = example(stack, "bars.py", "--symbol", symbol, "--csv", str(tmp_path / "bars.csv"))
    assert done.returncode == 0, done.stdout + done.stderr
    header, *rows = (tmp_path / "bars.csv").read_text().splitlines()
    column = header.split(",").index("trades")
    entry = stack.simulator.state()["symbols"][symbol]
    voided = sum(last - first + 1 for first, last in entry["voids"])
    position = stack.committed()[symbol]
    counted = sum(int(row.split(",")[column]) for row in rows)
    assert counted == position - entry["first_id"] + 1 - voided


def test_bars_of_an_unknown_symbol_say_so(stack: Stack) -> None:
    done = example(stack, "bars.py", "--symbol", "NOSUCH")
    assert done.returncode == 1
    assert "no trade of NOSUCH" in done.stderr
