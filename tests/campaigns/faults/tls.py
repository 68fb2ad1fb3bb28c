"""Row 8: certificates that must be refused, each by a server of its own, before a byte of the stream is read."""

import asyncio
import time
from pathlib import Path

from ingest.binance.tls import client_context
from ingest.binance.transport import OpenFailed, opener
from ingest.metrics import Metrics
from ingest.settings import load
from ingest.simulator.tls import FLAWS
from tests.campaigns.faults.rows import Played
from tests.harness.processes import SimulatorProcess


def play(directory: Path) -> Played:
    """Every flaw there is, and once the good certificate: else everything would pass that refuses everything."""
    played = Played(audit={"committed": 0, "missing": 0, "duplicated": 0, "reordered": 0, "altered": 0})
    accepted = {}
    for flaw in FLAWS:
        directory.mkdir(parents=True, exist_ok=True)
        name = f"tls-{flaw}"
        with SimulatorProcess(
            directory, "--tls", "--tls-dir", str(directory / name), "--tls-flaw", flaw, "--symbols", "1", name=name
        ) as simulator:
            began = time.monotonic()
            accepted[flaw] = asyncio.run(_accepts(simulator))
            played.recoveries.append(time.monotonic() - began)
            if accepted[flaw] and flaw != "none":
                played.problems.append(f"a certificate with the flaw {flaw} was accepted")
    if not accepted["none"]:
        played.problems.append("the good certificate was refused")
    played.note = f"{len(FLAWS) - 1} flaws refused, the good one accepted; nothing was to be audited"
    return played


async def _accepts(simulator: SimulatorProcess) -> bool:
    settings = load({"K2_BINANCE_CUSTOM_CA_BUNDLE": str(simulator.ready["ca_file"])}).binance
    client = opener(settings, Metrics(process=False), client_context(settings))
    try:
        socket = await client.open(f"{simulator.ws_url}/stream")
    except OpenFailed as error:
        if error.reason != "tls":
            raise
        return False
    await socket.close(1000, "")
    return True
