"""Clients that others have written agree with the simulator's ledgers: ccxt keeps the order book."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.harness.engines import EngineUnavailable, engine
from tests.harness.processes import ROOT, SimulatorProcess, http_json

STATES = 60
SECONDS = 240

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1500)]


def ccxt(script: Path, *arguments: str) -> Any:
    """What a script prints, run with ccxt's interpreter."""
    try:
        python = engine("ccxt")
    except EngineUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no ccxt: {error}")
    done = subprocess.run(
        [python, script, *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return json.loads(done.stdout)


def floats(levels: list[list[str]]) -> list[list[float]]:
    return [[float(price), float(quantity)] for price, quantity in levels]


def test_the_book_that_ccxt_keeps_is_the_exchanges_book_at_every_id(tmp_path: Path) -> None:
    with SimulatorProcess(tmp_path, "--symbols", "BTCUSDT,ETHUSDT", "--rate", "200", "--burst", "20") as simulator:
        script = Path(__file__).with_name("ccxt_book.py")
        answer = ccxt(script, simulator.rest_url, simulator.ws_url, str(STATES))
        simulator.market("stop")
        assert len(answer["books"]) >= STATES
        for update_id, (bids, asks) in answer["books"].items():
            book = http_json(f"{simulator.admin_url}/admin/book?symbol=BTCUSDT&id={update_id}")
            assert (bids, asks) == (floats(book["bids"]), floats(book["asks"]))
        update_id, bids = answer["snapshot"]
        book = http_json(f"{simulator.admin_url}/admin/book?symbol=BTCUSDT&id={update_id}")
        assert bids == floats(book["bids"])
        first = answer["quotes"][0][0]
        quotes = http_json(f"{simulator.admin_url}/admin/ledger?symbol=BTCUSDT&stream=bookTicker&from_id={first}")
        truth = {row[0]: row for row in quotes["rows"]}
        assert len(answer["quotes"]) > STATES
        assert all(truth[quote[0]] == quote for quote in answer["quotes"])
