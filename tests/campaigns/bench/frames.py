"""The market that every benchmark sees: many symbols, eight decimal places, ids beyond 2**32, as the exchange does."""

from collections.abc import Iterator
from random import Random

TEXT = 0x81
BASE_ID = 4_300_000_000
NOW_US = 1_764_000_000_000_000


def symbols(count: int) -> list[str]:
    """Names as the exchange lists them; the busiest first."""
    known = ["BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT", "BNBUSDT"]
    return (known + [f"C{n:04}USDT" for n in range(count)])[:count]


def assets(names: list[str]) -> dict[str, tuple[str, str]]:
    """Base and quote of each symbol."""
    return {name: (name.removesuffix("USDT"), "USDT") for name in names}


def on_the_wire(payload: bytes) -> bytes:
    """The unmasked text frame of a server around a payload of less than 64 KiB."""
    size = len(payload)
    if size < 126:
        return bytes((TEXT, size)) + payload
    return bytes((TEXT, 126)) + size.to_bytes(2, "big") + payload


class Market:
    """The next frame of each symbol. Cheap: everything but ids and times is cut from a fixed pool."""

    def __init__(self, names: list[str]) -> None:
        random = Random(1)
        self.names = names
        self.next_ids = [BASE_ID] * len(names)
        self._order = [random.randrange(len(names)) for _ in range(8191)]
        self._at = 0
        self._heads = [
            (
                b'{"stream":"%s@trade","data":{"e":"trade","E":' % name.lower().encode(),
                b',"s":"%s","t":' % name.encode(),
            )
            for name in names
        ]
        self._middles = [
            b',"p":"%d.%08d","q":"%d.%08d","T":'
            % (random.randrange(100_000), random.randrange(10**6) * 100, random.randrange(100), random.randrange(10**8))
            for _ in range(1021)
        ]
        self._tails = [b',"m":%s,"M":true}}' % side for side in (b"true", b"false")]

    def _next(self, count: int) -> Iterator[tuple[int, int, int]]:
        """The next ``count`` trades: (index of the symbol, id, place in the pools)."""
        for at in range(self._at, self._at + count):
            index = self._order[at % 8191]
            trade_id = self.next_ids[index]
            self.next_ids[index] = trade_id + 1
            yield index, trade_id, at
        self._at += count

    def skip(self, count: int, now_us: int) -> list[tuple[int, int, bytes]]:
        """The next ``count`` trades as history tells them: (index of the symbol, id, element of a page)."""
        names = (b'"price"', b'"qty"', b'"quoteQty":"1.00000000","time"')
        fields = [_renamed(middle, names) for middle in self._middles]
        sides = [b',"isBuyerMaker":%s,"isBestMatch":true}' % side for side in (b"true", b"false")]
        stamp = b"%d" % now_us
        return [
            (index, trade_id, b"".join((b'{"id":%d' % trade_id, fields[at % 1021], stamp, sides[at * 7 % 13 & 1])))
            for index, trade_id, at in self._next(count)
        ]

    def take(self, count: int, now_us: int) -> list[tuple[int, bytes]]:
        """The next ``count`` trades, made at ``now_us``: (index of the symbol, frame on the wire)."""
        order, heads, middles, tails, next_ids = self._order, self._heads, self._middles, self._tails, self.next_ids
        stamp = b"%d" % now_us
        frames = []
        for at in range(self._at, self._at + count):
            index = order[at % 8191]
            trade_id = next_ids[index]
            next_ids[index] = trade_id + 1
            head = heads[index]
            payload = b"".join(
                (head[0], stamp, head[1], b"%d" % trade_id, middles[at % 1021], stamp, tails[at * 7 % 13 & 1])
            )
            frames.append((index, on_the_wire(payload)))
        self._at += count
        return frames


class AggregatedMarket(Market):
    """The same trades as ``aggTrade`` events, each of a single trade: what cryptofeed subscribes to."""

    def take(self, count: int, now_us: int) -> list[tuple[int, bytes]]:
        """As ``Market.take``."""
        heads = [
            (
                b'{"stream":"%s@aggTrade","data":{"e":"aggTrade","E":%d' % (name.lower().encode(), now_us),
                b',"s":"%s","a":' % name.encode(),
            )
            for name in self.names
        ]
        frames = []
        for index, trade_id, at in self._next(count):
            head, number = heads[index], b"%d" % trade_id
            fields = self._middles[at % 1021].removesuffix(b'"T":')
            ids = b'"f":%s,"l":%s,"T":%d' % (number, number, now_us)
            payload = b"".join((head[0], head[1], number, fields, ids, self._tails[at * 7 % 13 & 1]))
            frames.append((index, on_the_wire(payload)))
        return frames


def _renamed(middle: bytes, names: tuple[bytes, bytes, bytes]) -> bytes:
    for short, name in zip((b'"p"', b'"q"', b'"T"'), names, strict=True):
        middle = middle.replace(short, name)
    return middle


def payloads(names: list[str], count: int) -> list[bytes]:
    """The first frames of the market, without their headers."""
    return [data[2:] if data[1] < 126 else data[4:] for _, data in Market(names).take(count, NOW_US)]
