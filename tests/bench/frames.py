"""The market that every benchmark sees: many symbols, eight decimal places, ids beyond 2**32, as the exchange does."""

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


def payloads(names: list[str], count: int) -> list[bytes]:
    """The first frames of the market, without their headers."""
    return [data[2:] if data[1] < 126 else data[4:] for _, data in Market(names).take(count, NOW_US)]
