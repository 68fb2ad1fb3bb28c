"""How far this machine's clock differs from the exchange's, by one request of weight 1."""

import time

import msgspec

from ingest.binance.rest import RestClient
from ingest.core.clock import Clock
from ingest.core.errors import Reject

CLOCK_SECONDS = 5.0
"""A clock that differs by more from the exchange's makes wrong times of ingestion."""
MICROSECONDS_FROM = 10**14
"""1973 as microseconds, 5138 as milliseconds: tells the units apart."""


class _ServerTime(msgspec.Struct):
    server_time: int = msgspec.field(name="serverTime")


_decode = msgspec.json.Decoder(_ServerTime).decode


class ClockDifference(msgspec.Struct, frozen=True):
    """Seconds by which this machine's clock is ahead of the exchange's, and half the time that the request took."""

    ahead: float
    uncertainty: float

    @property
    def wrong(self) -> bool:
        """Whether the clock differs by more than is tolerated."""
        return abs(self.ahead) > CLOCK_SECONDS + self.uncertainty

    def __str__(self) -> str:
        word = "ahead of" if self.ahead > 0 else "behind"
        return f"this machine's clock is {abs(self.ahead):.1f} s {word} the exchange's"


async def clock_difference(rest: RestClient, clock: Clock = time) -> ClockDifference:
    """Compare the clocks. Raises ``Retry``."""
    before = clock.time_ns() // 1000
    began = clock.monotonic()
    server_us, _ = await rest.get("/api/v3/time", {}, parse_server_time, weight=1)
    uncertainty = (clock.monotonic() - began) / 2
    return ClockDifference((before - server_us) / 1e6 + uncertainty, uncertainty)


def parse_server_time(body: bytes) -> int:
    """Read the time of the exchange in microseconds. Raises ``Reject``."""
    try:
        value = _decode(body).server_time
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Reject("malformed_json", f"{error}"[:200]) from error
    return value if value > MICROSECONDS_FROM else value * 1000
