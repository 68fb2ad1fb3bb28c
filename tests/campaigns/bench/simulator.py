"""What the simulator costs: ``python -m tests.campaigns.bench.simulator``, with up to five words behind it.

They are trades per second, connections, seconds, the streams of each symbol (``trade`` by default, for example
``trade,bookTicker,depth@100ms``), and ``state`` where it shall keep its trades in a folder. Prints one JSON object:
events per second that each connection got, and the simulator's share of one core.
"""

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.harness.processes import SimulatorProcess

HANDSHAKE = (
    "GET /stream?streams={} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def count(url: str, symbols: list[str], kinds: list[str], seconds: float) -> int:
    """Events that one connection gets; counted, not decoded."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**22)
    streams = "/".join(f"{symbol.lower()}@{kind}" for symbol in symbols for kind in kinds)
    writer.write(HANDSHAKE.format(streams).encode())
    await reader.readuntil(b"\r\n\r\n")
    found, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        found += (await reader.read(2**20)).count(b'{"stream":')
    writer.transport.abort()
    return found


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def main(rate: int, connections: int, seconds: float, kinds: list[str], *, state: bool) -> dict[str, float]:
    """Measure."""
    with (
        tempfile.TemporaryDirectory() as folder,
        SimulatorProcess(
            Path(folder), "--symbols", "50", "--rate", str(rate), *(["--state", f"{folder}/state"] if state else [])
        ) as process,
    ):
        assert process.process is not None
        symbols = list(process.state()["symbols"])
        before = cpu_seconds(process.process.pid)
        began = time.monotonic()
        counts = await asyncio.gather(*(count(process.ws_url, symbols, kinds, seconds) for _ in range(connections)))
        used = cpu_seconds(process.process.pid) - before
        took = time.monotonic() - began
    return {
        "rate": rate,
        "connections": connections,
        "per_connection": round(min(counts) / took),
        "core_share": round(used / took, 3),
    }


if __name__ == "__main__":
    given = [*sys.argv[1:], *("2000", "3", "10", "trade", "")[len(sys.argv) - 1 :]]
    found = asyncio.run(
        main(int(given[0]), int(given[1]), float(given[2]), given[3].split(","), state=given[4] == "state")
    )
    sys.stdout.write(json.dumps(found) + "\n")
