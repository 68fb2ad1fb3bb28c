"""What the simulator costs: ``python -m tests.campaigns.bench.simulator [trades/s] [connections] [seconds]``.

Prints one JSON object: trades per second that each connection got, and the simulator's share of one core.
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


async def count(url: str, symbols: list[str], seconds: float) -> int:
    """Trades that one connection gets; counted, not decoded."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, limit=2**22)
    streams = "/".join(f"{symbol.lower()}@trade" for symbol in symbols)
    writer.write(HANDSHAKE.format(streams).encode())
    await reader.readuntil(b"\r\n\r\n")
    found, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        found += (await reader.read(2**20)).count(b'"e":"trade"')
    writer.transport.abort()
    return found


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def main(rate: int, connections: int, seconds: float) -> dict[str, float]:
    """Measure."""
    with (
        tempfile.TemporaryDirectory() as folder,
        SimulatorProcess(Path(folder), "--symbols", "50", "--rate", str(rate)) as process,
    ):
        assert process.process is not None
        symbols = list(process.state()["symbols"])
        before = cpu_seconds(process.process.pid)
        began = time.monotonic()
        counts = await asyncio.gather(*(count(process.ws_url, symbols, seconds) for _ in range(connections)))
        used = cpu_seconds(process.process.pid) - before
        took = time.monotonic() - began
    return {
        "rate": rate,
        "connections": connections,
        "per_connection": round(min(counts) / took),
        "core_share": round(used / took, 3),
    }


if __name__ == "__main__":
    given = [float(text) for text in sys.argv[1:]] + [2000.0, 3.0, 10.0][len(sys.argv) - 1 :]
    sys.stdout.write(json.dumps(asyncio.run(main(int(given[0]), int(given[1]), given[2]))) + "\n")
