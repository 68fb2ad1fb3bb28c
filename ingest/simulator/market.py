"""A made-up market: what is traded depends on the seed alone, when it is traded on the caller's clock.

Trades come in events: mostly one fill or a few of one order, now and then a burst of hundreds in one millisecond.
A few symbols make most of the trades and some hardly any, as on the real exchange.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import accumulate

from ingest.simulator import edges
from ingest.simulator.ledger import Ledger, SymbolLedger

BASES = (
    ("BTC", "61837.63"), ("ETH", "2641.19"), ("SOL", "152.77"), ("BNB", "512.4"), ("XRP", "0.6021"), ("DOGE", "0.1034"),
    ("ADA", "0.3412"), ("TRX", "0.2312"), ("AVAX", "22.31"), ("LINK", "10.44"), ("DOT", "4.61"), ("LTC", "60.12"),
    ("PEPE", "0.00000798"), ("SHIB", "0.00001379"), ("NEAR", "3.92"), ("UNI", "5.93"), ("APT", "5.68"), ("ARB", "0.53"),
    ("OP", "1.31"), ("SUI", "0.92"), ("FIL", "3.41"), ("ATOM", "4.97"), ("ETC", "18.6"), ("INJ", "17.2"),
    ("1INCH", "0.252"), ("1000SATS", "0.00021"), ("WIN", "0.0000842"), ("DAI", "0.9998"), ("QTUM", "2.21"),
    ("ZIL", "0.0139"), ("MANA", "0.2621"), ("DENT", "0.000821"), ("AXS", "4.62"), ("NKN", "0.0712"), ("BLZ", "0.142"),
    ("LRC", "0.1302"), ("RUNE", "3.91"), ("XEM", "0.0154"), ("BEL", "0.482"), ("ELF", "0.361"),
)  # fmt: skip
QUOTES = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "TRY", "EUR", "BRL", "JPY", "RUB", "DAI", "XRP", "TUSD")
"""The most liquid first; where a symbol is given without a slash it is split at the longest of these."""

MOST_SYMBOLS = 3000
"""Twice as many as Binance trades; the last are invented."""

MOST_QUANTITY = 10**18
"""In units of 1e-8: ten thousand million coins; a price of one unit would otherwise go with more than 64 bits hold."""
AMBIGUOUS = (("BNB", "USD"), ("XT", "USD"), ("ZB", "TC"), ("QE", "TH"), ("WU", "SDT"))
"""Symbols whose quote asset a guess by the suffix gets wrong: BN/BUSD, X/TUSD, Z/BTC, Q/ETH, W/USDT."""
EDGE_SHARE = 0.5
"""Of prices and of quantities, in a market at the edges."""
BURST_SHARE = 0.05
"""Of all trades."""
QUIET_SHARE = 0.1
"""Of all symbols."""
SINGLE = 0.7
"""Share of orders with one fill, bursts aside; the others have three. Recorded: 0.73 of BTCUSDT, 0.915 of all."""
SKEW = 0.8
"""A symbol's weight is its place to the power of minus this. Of 25 million trades a day, 4 of one symbol: 1.1."""


@dataclass(frozen=True, slots=True)
class Listing:
    """A symbol to trade."""

    symbol: str
    base: str
    quote: str


class Event:
    """Trades of one symbol at one time: ``trades`` are price, quantity, buyer is maker."""

    __slots__ = ("burst", "ledger", "trades")

    def __init__(self, ledger: SymbolLedger, trades: list[tuple[int, int, bool]], *, burst: bool) -> None:
        self.ledger = ledger
        self.trades = trades
        self.burst = burst


def split(symbol: str) -> Listing:
    """A symbol given as BASE/QUOTE, or as one word that ends with a known quote. Raises ValueError."""
    base, slash, quote = symbol.partition("/")
    if slash:
        if not base or not quote:
            raise ValueError(f"{symbol!r} is not BASE/QUOTE")
        return Listing(base + quote, base, quote)
    for known in sorted(QUOTES, key=len, reverse=True):
        if symbol.endswith(known) and symbol != known:
            return Listing(symbol, symbol.removesuffix(known), known)
    raise ValueError(f"{symbol!r} does not end with a known quote asset: write it as BASE/QUOTE")


def listings(text: str) -> list[Listing]:
    """The symbols of an option: how many, or which. Raises ValueError."""
    if not text.isascii() or not text.isdigit():
        named = [split(name.strip().upper()) for name in text.split(",") if name.strip()]
        if not named:
            raise ValueError("--symbols: no symbol given")
        twice = sorted({one.symbol for one in named if sum(one.symbol == other.symbol for other in named) > 1})
        if twice:
            raise ValueError(f"--symbols: {', '.join(twice)} named twice")
        return named
    if len(text) > 9 or not 0 < int(text) <= MOST_SYMBOLS:
        raise ValueError(f"--symbols: {text[:20]}: allowed are 1 to {MOST_SYMBOLS} symbols")
    every = [Listing(b + q, b, q) for q in QUOTES for b, _ in BASES if b != q]
    every += [Listing(f"K{number:04d}USDT", f"K{number:04d}", "USDT") for number in range(MOST_SYMBOLS - len(every))]
    return every[: int(text)]


def edge_listings(named: Sequence[Listing]) -> list[Listing]:
    """The same number of symbols, the first few of which have a quote asset that no suffix shows."""
    ambiguous = [Listing(base + quote, base, quote) for base, quote in AMBIGUOUS[: len(named) // 2]]
    known = {one.symbol for one in ambiguous}
    kept = [one for one in named if one.symbol not in known]
    return [*ambiguous, *kept[: len(named) - len(ambiguous)]]


def _steps(listing: Listing) -> tuple[int, int, int]:
    """A usual price, the step of prices and that of quantities, in units of 1e-8."""
    prices = dict(BASES)
    base = Decimal(prices.get(listing.base, "12.5"))
    quote = Decimal(prices.get(listing.quote, "1"))
    price = max(1, int(base / quote * 10**8))
    tick = 10 ** max(0, len(str(price)) - 6)  # about five significant digits
    return price, tick, 10 ** max(0, min(8, len(str(10**16 // price)) - 3))


@dataclass(slots=True)
class _Instrument:
    ledger: SymbolLedger
    random: random.Random
    price: int
    tick: int
    step: int
    typical: int
    """A usual quantity in steps."""
    weight: float = field(default=1.0)
    edges: _AtEdges | None = None


class _AtEdges:
    """Moves prices and quantities to the edges: each edge once, as trades come, then half of them at any edge."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._prices = edges.every_once(draw, edges.INT64_MAX)
        self._quantities = edges.every_once(draw, edges.INT64_MAX)

    def moved(self, trade: tuple[int, int, bool]) -> tuple[int, int, bool]:
        """The trade, with its price, its quantity or both at an edge."""
        price, quantity, maker = trade
        if self._draw.random() < EDGE_SHARE:
            price = next(self._prices)
        if self._draw.random() < EDGE_SHARE:
            quantity = next(self._quantities)
        return price, quantity, maker


class Market:
    """An endless sequence of events over some symbols of a ledger."""

    def __init__(
        self,
        ledger: Ledger,
        symbols: Sequence[Listing],
        *,
        seed: int,
        burst: int = 900,
        single: float = SINGLE,
        skew: float = SKEW,
        at_edges: bool = False,
    ) -> None:
        """``burst`` is the most trades that happen at once; ``at_edges``: see ``edges``.

        What the ledger lists already, of an earlier process, goes on at its next id and its last price.
        """
        self._first_ids = edges.first_ids() if at_edges else []
        self._ledger = ledger
        self._seed = seed
        self._burst = burst
        self._single = single
        self._skew = skew
        began = sum(one.sent_trades for one in ledger.all_symbols.values())
        self._random = random.Random(f"{seed}:order:{began}" if began else f"{seed}:order")  # noqa: S311 - repeatable
        self._instruments: dict[str, _Instrument] = {}
        self._order: list[_Instrument] = []
        self._cumulative: list[float] = []
        known = [Listing(one.symbol, one.base_asset, one.quote_asset) for one in ledger.symbols.values()]
        for listing in dict.fromkeys([*symbols, *known]):
            if listing.symbol in ledger.symbols:
                self._resume(listing, ledger.symbols[listing.symbol])
            elif listing.symbol not in ledger.delisted:
                self._add(listing)
        self._weigh()

    def list(self, listing: Listing, *, first_id: int | None = None) -> SymbolLedger:
        """List another symbol and trade it. Raises ValueError when it is listed already."""
        instrument = self._add(listing, first_id)
        self._weigh()
        return instrument.ledger

    def replace(self, ledger: SymbolLedger) -> None:
        """Trade a symbol that was listed again, from now on in this ledger; one that was delisted trades again."""
        instrument = self._instruments.get(ledger.symbol)
        if instrument is None:
            listing = Listing(ledger.symbol, ledger.base_asset, ledger.quote_asset)
            self._instruments[ledger.symbol] = self._instrument(listing, ledger)
            self._weigh()
        else:
            instrument.ledger = ledger

    def delist(self, symbol: str) -> None:
        """Trade a symbol no more; the ledger keeps what it had."""
        self._instruments.pop(symbol, None)
        self._weigh()

    def price(self, symbol: str) -> int:
        """The price that a symbol has now, traded or not; 0 if it is not listed."""
        instrument = self._instruments.get(symbol)
        return 0 if instrument is None else instrument.price

    def next(self) -> Event | None:
        """What happens next; None if nothing is listed or every listed symbol is on a break."""
        if not self._order:
            return None
        for _ in range(100):
            instrument = self._random.choices(self._order, cum_weights=self._cumulative)[0]
            if instrument.ledger.status in ("TRADING", "HALT", "CANCEL_ONLY"):
                return self._event(instrument)
        return None

    def _event(self, instrument: _Instrument) -> Event:
        draw = instrument.random
        burst = self._burst > 1 and draw.random() < BURST_SHARE * 1.6 / (0.5 * self._burst)
        count = (
            draw.randint(max(2, self._burst // 4), self._burst) if burst else 1 if draw.random() < self._single else 3
        )
        maker = draw.random() < 0.5
        trades = []
        for number in range(count):
            if number == 0 or draw.random() < 0.1:
                step = draw.choice((-3, -1, 0, 0, 1, 3)) if number == 0 else (-1 if maker else 1)
                instrument.price = max(instrument.tick, instrument.price + step * instrument.tick)
            steps = max(1, int(instrument.typical * draw.expovariate(1.0)))
            quantity = instrument.step * min(steps, MOST_QUANTITY // instrument.step)
            trades.append((instrument.price, quantity, maker))
        if instrument.edges is not None:
            trades = [instrument.edges.moved(trade) for trade in trades]
        return Event(instrument.ledger, trades, burst=burst)

    def _add(self, listing: Listing, chosen_id: int | None = None) -> _Instrument:
        draw = random.Random(f"{self._seed}:{listing.symbol}")  # noqa: S311 - repeatable on purpose
        _, tick, step = _steps(listing)
        first_id = draw.randrange(10**6, 2**31) if draw.random() < 0.5 else draw.randrange(2**32, 7 * 10**9)
        if listing.symbol == "BTCUSDT":
            first_id = 2**32 + draw.randrange(10**9)
        if self._first_ids:
            first_id = self._first_ids[len(self._instruments) % len(self._first_ids)]
        ledger = self._ledger.add(
            listing.symbol,
            listing.base,
            listing.quote,
            first_id if chosen_id is None else chosen_id,
            tick_size=f"{Decimal(tick).scaleb(-8):.8f}",
            step_size=f"{Decimal(step).scaleb(-8):.8f}",
        )
        instrument = self._instrument(listing, ledger, draw)
        self._instruments[listing.symbol] = instrument
        return instrument

    def _resume(self, listing: Listing, ledger: SymbolLedger) -> None:
        draw = random.Random(f"{self._seed}:{ledger.symbol}:{ledger.sent_trades}")  # noqa: S311 - repeatable on purpose
        instrument = self._instrument(listing, ledger, draw)
        last = ledger.newest(1)
        if last and not self._first_ids:  # at the edges a trade has a price of its own
            instrument.price = max(instrument.tick, last[0][1] // instrument.tick * instrument.tick)
        self._instruments[listing.symbol] = instrument

    def _instrument(self, listing: Listing, ledger: SymbolLedger, draw: random.Random | None = None) -> _Instrument:
        draw = draw or random.Random(f"{self._seed}:{listing.symbol}:{ledger.first_id}")  # noqa: S311 - repeatable
        price, tick, step = _steps(listing)
        typical = max(1, 100 * 10**16 // price // step)
        at_edges = _AtEdges(draw) if self._first_ids else None
        return _Instrument(ledger, draw, price // tick * tick or tick, tick, step, typical, edges=at_edges)

    def _weigh(self) -> None:
        self._order = list(self._instruments.values())
        count = len(self._order)
        quiet = int(count * QUIET_SHARE)
        for place, instrument in enumerate(self._order):
            instrument.weight = 0.001 if place >= count - quiet else 1.0 / (place + 1) ** self._skew
        self._cumulative = list(accumulate(instrument.weight for instrument in self._order))
