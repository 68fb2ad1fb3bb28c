import asyncio
import resource
import shutil
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from ingest.simulator import cli
from ingest.simulator.ledger import Ledger
from ingest.simulator.state_folder import StateFolder
from tests.harness.processes import ROOT, inherited
from tests.unit.ingest.simulator.client import connected, receive
from tests.unit.ingest.simulator.conftest import Start, running, trade, until
from tests.unit.ingest.simulator.state_folders import ALL, IDENTITY


def simulate(*arguments: str) -> int:
    parser = ArgumentParser()
    cli.add_arguments(parser)
    return cli.run(parser.parse_args(["--symbols", "BTCUSDT", *arguments]))


async def test_a_folder_is_of_one_process_and_one_market(tmp_path: Path) -> None:
    async with running(symbols="BTCUSDT", state=tmp_path / "deep" / "folder"):
        pass
    folder = str(tmp_path / "deep" / "folder")
    refusals = {
        ("--seed", "2"): "another market (seed: 1 there, 2 here)",
        ("--symbols", "ETHUSDT"): "another market (symbols: BTC/USDT there, ETH/USDT here)",
        ("--edges",): "edges: False there, True here",
        ("--replay", "some.ndjson"): "--state and --replay exclude each other",
    }
    for options, text in refusals.items():
        done = await asyncio.to_thread(started, "--state", folder, *options)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert text in done.stderr
    async with running(symbols="BTCUSDT", state=Path(folder)):
        done = await asyncio.to_thread(started, "--state", folder)
        assert done.returncode == 2
        assert "another simulator uses it" in done.stderr
    file = tmp_path / "file"
    file.write_text("")
    done = await asyncio.to_thread(started, "--state", str(file))
    assert done.returncode == 2
    assert "name a folder that can be written" in done.stderr


def started(*options: str, most_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """The command, until it ends by itself; ``most_bytes`` of any file that it writes."""

    def limited() -> None:
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))

    command = [sys.executable, "-m", "ingest", "simulate", "--symbols", "BTCUSDT", *options]
    return subprocess.run(
        command, env=inherited(), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False, preexec_fn=limited
    )


def test_a_full_disk_ends_it_and_is_told(tmp_path: Path) -> None:
    done = started("--state", str(tmp_path), "--rate", "5000", most_bytes=20_000)
    assert done.returncode == 2
    assert "make room and start again" in done.stderr.splitlines()[-1]
    after = Ledger()
    StateFolder(tmp_path, after, IDENTITY | {"symbols": "BTC/USDT"}, most_bytes=2**20).close()
    assert 100 < after.symbols["BTCUSDT"].sent_trades < 20_000 / 29


async def test_what_a_client_has_seen_is_there_after_a_kill(tmp_path: Path) -> None:
    async with running(state=tmp_path / "state") as exchange:
        async with connected(exchange, "/ws/btcusdt@trade") as connection:
            (sent,) = trade(exchange)
            assert (await receive(connection))[0]["t"] == sent
            shutil.copytree(tmp_path / "state", tmp_path / "killed")
        exchange.injector.inject("void", {"symbol": "BTCUSDT", "count": 2})
        exchange.injector.inject("symbol_status", {"symbol": "ETHUSDT", "status": "BREAK"})
        shutil.copytree(tmp_path / "state", tmp_path / "later")
    async with running(state=tmp_path / "killed") as exchange:
        assert [row[0] for row in exchange.ledger.symbols["BTCUSDT"].rows(0, ALL)] == [sent]
    async with running(state=tmp_path / "later") as exchange:
        assert exchange.ledger.symbols["BTCUSDT"].voids == [(sent + 1, sent + 2)]
        assert exchange.ledger.symbols["ETHUSDT"].status == "BREAK"


async def test_the_market_goes_on_where_it_was(tmp_path: Path, simulator: Start) -> None:
    options: dict[str, Any] = {"state": tmp_path, "rate": 2000.0, "paused": False, "symbols": "BTCUSDT,ETHUSDT,BNBUSDT"}
    async with simulator(**options) as exchange:
        exchange.injector.inject("list_symbol", {"symbol": "NEW/USDT"})
        exchange.injector.inject("delist", {"symbol": "BNBUSDT"})
        exchange.injector.inject("relist", {"symbol": "ETHUSDT", "first_id": 7})
        exchange.injector.inject("clock_skew", {"ms": 60_000})
        ledger = exchange.ledger
        await until(lambda: min(one.sent_trades for one in ledger.symbols.values()) > 20)
        exchange.driver.stop()
        trade(exchange, price=31415_00000000)  # far from where it began
    before = {name: one.newest(ALL) for name, one in ledger.all_symbols.items()}
    last_us = ledger.last_us
    async with simulator(**options) as exchange:
        again = exchange.ledger
        assert {name: again.all_symbols[name].rows(rows[0][0], len(rows)) for name, rows in before.items() if rows} == {
            name: rows for name, rows in before.items() if rows
        }
        await until(lambda: all(again.symbols[name].sent_trades > len(before[name]) + 5 for name in again.symbols))
    assert (set(again.symbols), set(again.delisted)) == ({"BTCUSDT", "ETHUSDT", "NEWUSDT"}, {"BNBUSDT"})
    for name, one in again.symbols.items():
        following = one.rows(before[name][-1][0] + 1, ALL)
        assert [row[0] for row in following[:5]] == list(range(before[name][-1][0] + 1, before[name][-1][0] + 6))
        assert following[0][3] >= last_us, "times do not fall"
        assert abs(following[0][1] - before[name][-1][1]) < before[name][-1][1] // 100, "nor does the price jump"


async def test_without_a_folder_each_start_is_the_same_exchange(simulator: Start) -> None:
    first = []
    for _ in range(2):
        async with simulator(paused=False, rate=2000.0) as exchange:
            one = exchange.ledger.symbols["BTCUSDT"]
            await until(lambda one=one: one.sent_trades > 20)  # type: ignore[misc]
            first.append([row[:3] for row in one.rows(0, 20)])
    assert first[0] == first[1]
