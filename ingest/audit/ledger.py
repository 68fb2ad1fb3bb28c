"""What the exchange really traded: the simulator's own books, or the exchange's history by REST."""

import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import httpx2
import msgspec

from ingest.audit.model import Inconclusive, LedgerPage, LedgerSymbol, LedgerTrade

TRADES_IN_MEMORY = 300_000
"""Over the pages of all symbols together."""
LONGEST_WAIT_SECONDS = 600.0
"""For a rate limit to pass; what is beyond is left to whoever runs the audit."""

T = TypeVar("T")


class Ledger(Protocol):
    """The truth that the topic is held against. All methods raise ``Inconclusive``."""

    page_limit: int
    """Most trades that one page can have."""
    lag_seconds: float
    """How late a trade may show up here after it happened."""

    def symbols(self) -> dict[str, LedgerSymbol] | None:
        """All symbols; None where the ledger does not list them."""

    def symbol(self, symbol: str) -> LedgerSymbol | None:
        """The state of one symbol now; None if the exchange does not know it."""

    def page(self, symbol: str, from_id: int, limit: int) -> LedgerPage:
        """Trades from ``from_id`` on, ascending."""


class _SimulatorPage(msgspec.Struct, frozen=True):
    trades: list[LedgerTrade]
    next_from_id: int | None = None


class _SimulatorSymbol(msgspec.Struct, frozen=True):
    first_id: int
    last_id: int
    voids: list[tuple[int, int]] = []
    base_asset: str | None = None
    quote_asset: str | None = None


class _SimulatorState(msgspec.Struct, frozen=True):
    symbols: dict[str, _SimulatorSymbol]


class _RestTrade(msgspec.Struct, frozen=True, gc=False):
    """An entry of ``GET /api/v3/historicalTrades``, as Binance documents it."""

    id: int
    price: str
    qty: str
    time: int
    is_buyer_maker: bool = msgspec.field(name="isBuyerMaker")


class _RestSymbol(msgspec.Struct, frozen=True):
    symbol: str
    base_asset: str = msgspec.field(name="baseAsset")
    quote_asset: str = msgspec.field(name="quoteAsset")


class _RestInfo(msgspec.Struct, frozen=True):
    symbols: list[_RestSymbol]


class _Http:
    """GET with a time-out and errors that say what to do."""

    def __init__(self, url: str, what: str, timeout: float, headers: Mapping[str, str] | None = None) -> None:
        self._what = f"{what} at {url}"
        self._client = httpx2.Client(base_url=url, timeout=timeout, headers=dict(headers or {}), trust_env=False)

    def get(self, path: str, params: Mapping[str, str | int]) -> httpx2.Response:
        try:
            return self._client.get(path, params=dict(params))
        except httpx2.HTTPError as error:
            raise Inconclusive(f"{self._what} does not answer: {error or type(error).__name__}") from error

    def decode(self, response: httpx2.Response, form: type[T]) -> T:
        if response.status_code != 200:
            raise Inconclusive(f"{self._what} answered {response.status_code}: {response.text[:200]}")
        try:
            return msgspec.json.decode(response.content, type=form)
        except msgspec.MsgspecError as error:
            raise Inconclusive(f"{self._what} sent what is no answer to {response.url.path}: {error}") from error


class SimulatorLedger:
    """The simulator's admin API: every trade it ever sent, without lag."""

    page_limit = 100_000
    lag_seconds = 0.0

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        self._http = _Http(url, "the ledger", timeout)

    def symbols(self) -> dict[str, LedgerSymbol] | None:
        """All symbols of the simulator."""
        state = self._http.decode(self._http.get("/admin/state", {}), _SimulatorState)
        return {
            symbol: LedgerSymbol(
                one.last_id,
                one.first_id,
                one.voids,
                (one.base_asset, one.quote_asset) if one.base_asset and one.quote_asset else None,
            )
            for symbol, one in state.symbols.items()
        }

    def symbol(self, symbol: str) -> LedgerSymbol | None:
        """The state of one symbol now."""
        return (self.symbols() or {}).get(symbol)

    def page(self, symbol: str, from_id: int, limit: int) -> LedgerPage:
        """One page of the books."""
        answer = self._http.get("/admin/ledger", {"symbol": symbol, "from_id": from_id, "limit": limit})
        page = self._http.decode(answer, _SimulatorPage)
        return LedgerPage(page.trades, page.next_from_id)


class RestLedger:
    """The exchange's own history (``/api/v3/historicalTrades``, weight 25, in microseconds on request).

    It shares the exchange's limit with whoever else uses this address: it stays below ``weight_limit`` of used weight
    per minute, waits as long as a 429 says, and a 418 ends the audit.
    """

    page_limit = 1000
    lag_seconds = 5.0

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        weight_limit: int = 3000,
        sleep: Callable[[float], None] = time.sleep,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._http = _Http(url, "the exchange", timeout, {"X-MBX-TIME-UNIT": "MICROSECOND"})
        self._weight_limit = weight_limit
        self._sleep = sleep
        self._clock_ns = clock_ns

    def symbols(self) -> dict[str, LedgerSymbol] | None:
        """Nothing: to ask for the state of every listed symbol would use up the limit."""
        return None

    def symbol(self, symbol: str) -> LedgerSymbol | None:
        """Assets and last id."""
        answer = self._get("/api/v3/exchangeInfo", {"symbol": symbol})
        if answer.status_code == 400:  # -1121, "Invalid symbol."
            return None
        info = self._http.decode(answer, _RestInfo)
        assets = {one.symbol: (one.base_asset, one.quote_asset) for one in info.symbols}.get(symbol)
        newest = self._trades({"symbol": symbol, "limit": 1})
        return LedgerSymbol(newest[-1].trade_id if newest else -1, assets=assets)

    def page(self, symbol: str, from_id: int, limit: int) -> LedgerPage:
        """One page of history."""
        trades = self._trades({"symbol": symbol, "fromId": from_id, "limit": limit})
        return LedgerPage(trades, trades[-1].trade_id + 1 if len(trades) >= limit else None)

    def _trades(self, params: Mapping[str, str | int]) -> list[LedgerTrade]:
        found = self._http.decode(self._get("/api/v3/historicalTrades", params), list[_RestTrade])
        return [LedgerTrade(one.id, one.price, one.qty, one.time, one.is_buyer_maker) for one in found]

    def _get(self, path: str, params: Mapping[str, str | int]) -> httpx2.Response:
        waited = 0.0
        while True:
            answer = self._http.get(path, params)
            if answer.status_code == 418:
                raise Inconclusive(
                    f"the exchange has banned this address (418, Retry-After {_retry_after(answer):g} s)"
                )
            if answer.status_code != 429:
                self._keep_below_limit(answer)
                return answer
            pause = _retry_after(answer)
            waited += pause
            if waited > LONGEST_WAIT_SECONDS:
                raise Inconclusive(f"the exchange's rate limit asks to wait {pause:g} s: audit later or fewer symbols")
            self._sleep(pause)

    def _keep_below_limit(self, answer: httpx2.Response) -> None:
        used = answer.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if used.isdigit() and int(used) >= self._weight_limit:
            self._sleep(60.0 - self._clock_ns() / 1e9 % 60.0)  # the count starts afresh with the minute


def _retry_after(answer: httpx2.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return max(1.0, float(text)) if text.isdigit() else 60.0


class _Page:
    """A window onto the ledger; within it, ids that are not there do not exist."""

    __slots__ = ("first", "index", "last", "open", "trades")

    def __init__(self, from_id: int, page: LedgerPage) -> None:
        self.trades = page.trades
        self.first = from_id
        self.open = page.next_from_id is None
        newest = page.trades[-1].trade_id if page.trades else from_id - 1
        self.last = newest if page.next_from_id is None else max(newest, page.next_from_id - 1)
        self.index = 0


class Cursor:
    """One symbol's trades, paged in as they are asked for: quick in order, possible in any.

    Two pages at most: the one that follows the topic and one for what is out of order.
    """

    def __init__(
        self,
        ledger: Ledger,
        symbol: str,
        limit: int,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ledger = ledger
        self._symbol = symbol
        self._limit = min(limit, ledger.page_limit)
        self._sleep = sleep
        self._main: _Page | None = None
        self._other: _Page | None = None
        self._fruitless = 1000 if ledger.lag_seconds == 0 else 10

    def at(self, trade_id: int) -> LedgerTrade | None:
        """Return the trade with this id; None if the exchange has none."""
        main = self._main
        if main is not None:
            index = main.index
            if index < len(main.trades):
                trade = main.trades[index]
                if trade.trade_id == trade_id:
                    main.index = index + 1
                    return trade
        return self._find(trade_id)

    def _find(self, trade_id: int) -> LedgerTrade | None:
        page = self._page_with(trade_id)
        if trade_id > page.last:
            page = self._ask_head(trade_id, page)
        trades = page.trades
        index = bisect_left(trades, trade_id, key=lambda trade: trade.trade_id)
        if index < len(trades) and trades[index].trade_id == trade_id:
            page.index = index + 1
            return trades[index]
        return None

    def _page_with(self, trade_id: int) -> _Page:
        main, other = self._main, self._other
        for page in (main, other):
            if page is not None and page.first <= trade_id and (trade_id <= page.last or page.open):
                return page
        fetched = self._fetch(trade_id)
        if main is None or trade_id > main.last:
            self._main = fetched
        else:
            self._other = fetched
        return fetched

    def _fetch(self, from_id: int) -> _Page:
        return _Page(from_id, self._ledger.page(self._symbol, from_id, self._limit))

    def _ask_head(self, trade_id: int, page: _Page) -> _Page:
        """The id is beyond what the ledger had when it was asked: ask again, it may have grown since."""
        waited = 0.0
        while self._fruitless > 0:
            fetched = self._fetch(trade_id)
            if fetched.last >= trade_id:
                self._main = fetched
                return fetched
            if waited >= self._ledger.lag_seconds:
                self._fruitless -= 1
                break
            self._sleep(1.0)
            waited += 1.0
        return page

    def between(self, first_id: int, last_id: int) -> Iterator[LedgerTrade]:
        """Iterate over the trades from ``first_id`` to ``last_id`` inclusive."""
        due: int | None = first_id
        while due is not None and due <= last_id:
            page = self._ledger.page(self._symbol, due, min(self._limit, last_id - due + 1))
            for trade in page.trades:
                if trade.trade_id > last_id:
                    return
                yield trade
            due = page.next_from_id


class NoTrades:
    """The lookup of a symbol that the exchange does not have."""

    def at(self, trade_id: int) -> LedgerTrade | None:
        """None."""
        return None

    def between(self, first_id: int, last_id: int) -> Iterator[LedgerTrade]:
        """Nothing."""
        return iter(())


def page_size(symbols: int) -> int:
    """Trades per page such that the pages of all symbols fit into memory."""
    return max(500, min(100_000, TRADES_IN_MEMORY // max(1, symbols)))


def describe(value: Any) -> str:
    """A value for a human, cut to a sensible length."""
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
