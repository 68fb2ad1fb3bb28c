"""What the exchange really traded: the simulator's ledger, or the exchange's history by REST."""

import itertools
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import httpx2
import msgspec

from ingest.audit.http import Transport
from ingest.audit.model import Entry, Inconclusive, LedgerPage, LedgerSymbol, LedgerTrade
from ingest.decoding import Undecodable, decode_typed
from ingest.http.answers import ask

LONGEST_WAIT_SECONDS = 600.0
"""Longest wait for a rate limit; a longer one ends the audit as INCONCLUSIVE."""
ANSWER_BYTES = 64 * 2**20
"""Of one answer: several times the longest page."""
RETRIES = 3
"""Further attempts after a time-out, a 5xx or an answer that is no JSON."""
INVALID_SYMBOL = -1121

T = TypeVar("T")


class Ledger(Protocol):
    """The truth that the topic is compared with. All methods raise ``Inconclusive``."""

    page_limit: int
    """Most trades that one page can have."""
    lag_seconds: float
    """How late a trade may show up here after it happened."""
    complete: bool
    """Whether a trade that is not in the ledger never happened. False for a history that begins or ends somewhere,
    leaves trades out for a while, or no longer lists a symbol."""

    def symbols(self) -> dict[str, LedgerSymbol] | None:
        """All symbols; None where the ledger does not list them."""

    def symbol(self, symbol: str) -> LedgerSymbol | None:
        """The state of one symbol now; None if the ledger does not list it."""

    def newest(self, symbol: str) -> Entry | None:
        """The trade that happened last, whatever its id; None if there is none."""

    def forgotten(self, symbol: str) -> list[tuple[int, int]]:
        """Ranges of ids that a complete ledger had once and has no more."""

    def page(self, symbol: str, from_id: int, limit: int) -> LedgerPage:
        """Trades from ``from_id`` on, ascending."""


class _SimulatorPage(msgspec.Struct, frozen=True):
    trades: list[LedgerTrade]
    next_from_id: int | None = None


class _SimulatorSymbol(msgspec.Struct, frozen=True):
    first_id: int
    last_id: int
    voids: list[tuple[int, int]] = []
    floor_id: int = 0
    forgotten: bool = False
    former: list[tuple[int, int]] = []
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


class _ErrorBody(msgspec.Struct, frozen=True):
    code: int | None = None


class _Http:
    """GET with a time-out, retries, and errors that say what to do."""

    def __init__(
        self,
        url: str,
        what: str,
        transport: Transport,
        *,
        headers: Mapping[str, str] | None = None,
        proxied: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._what = f"{what} at {url}"
        self._sleep = sleep
        self._client = transport.client(url, headers=headers, proxied=proxied)
        weakref.finalize(self, self._client.close)

    def get(self, path: str, params: Mapping[str, str | int]) -> httpx2.Response:
        """Return the answer. Raises ``Inconclusive`` if there is none, or none but 5xx, after the retries."""
        attempt = 0
        while True:
            try:
                answer = ask(self._client, "GET", path, params=dict(params), most_bytes=ANSWER_BYTES)
            except httpx2.HTTPError as error:
                if attempt == RETRIES:
                    raise Inconclusive(f"{self._what} does not answer: {str(error) or type(error).__name__}") from error
            else:
                if answer.status_code < 500 or attempt == RETRIES:
                    return answer
            self._sleep(2.0**attempt / 4)
            attempt += 1

    def decode(self, response: httpx2.Response, form: type[T]) -> T:
        """Return the body of a 200. Raises ``Inconclusive`` for everything else."""
        if response.status_code != 200:
            raise Inconclusive(f"{self._what} answered {response.status_code}: {response.text[:200]}")
        try:
            return decode_typed(response.content, form)
        except Undecodable as error:
            raise Inconclusive(f"{self._what} sent what is no answer to {response.url.path}: {error}") from error

    def read(self, ask: Callable[[], httpx2.Response], form: type[T]) -> T:
        """Request and decode; an answer that is no JSON, such as half of one, is requested again."""
        for attempt in range(RETRIES):
            try:
                return self.decode(ask(), form)
            except Inconclusive as error:
                if error.__cause__ is None or type(error.__cause__.__cause__) is not msgspec.DecodeError:
                    raise
            self._sleep(2.0**attempt / 4)
        return self.decode(ask(), form)


class SimulatorLedger:
    """The simulator's admin API: every trade it ever made, without lag."""

    page_limit = 100_000
    lag_seconds = 0.0
    complete = True

    def __init__(self, url: str, *, transport: Transport | None = None) -> None:
        self._http = _Http(url, "the ledger", transport or Transport())

    def symbols(self) -> dict[str, LedgerSymbol] | None:
        """All symbols of the simulator."""
        return {
            symbol: LedgerSymbol(
                one.last_id,
                one.first_id,
                one.voids,
                (one.base_asset, one.quote_asset) if one.base_asset and one.quote_asset else None,
            )
            for symbol, one in self._state().items()
        }

    def symbol(self, symbol: str) -> LedgerSymbol | None:
        """The state of one symbol now."""
        return (self.symbols() or {}).get(symbol)

    def forgotten(self, symbol: str) -> list[tuple[int, int]]:
        """Ids that the simulator no longer keeps, and ids traded before a symbol was listed again."""
        state = self._state().get(symbol)
        if state is None:
            return []
        return [*state.former, *([(0, state.floor_id - 1)] if state.forgotten else [])]

    def _state(self) -> dict[str, _SimulatorSymbol]:
        return self._http.read(lambda: self._http.get("/admin/state", {}), _SimulatorState).symbols

    def newest(self, symbol: str) -> Entry | None:
        """The trade with the last id given out; None if that id is a void."""
        state = self._state().get(symbol)
        if state is None or state.last_id < 0:
            return None
        found = self.page(symbol, state.last_id, 1).trades
        return found[0] if found and found[0].trade_id == state.last_id else None

    def page(self, symbol: str, from_id: int, limit: int) -> LedgerPage:
        """One page of the ledger."""
        query: dict[str, str | int] = {"symbol": symbol, "from_id": from_id, "limit": limit}
        page = self._http.read(lambda: self._http.get("/admin/ledger", query), _SimulatorPage)
        return LedgerPage(page.trades, page.next_from_id)


class RestLedger:
    """The exchange's own history (``/api/v3/historicalTrades``, weight 25, in microseconds on request).

    It shares the exchange's limit with other programs at this address: it stays below ``weight_limit`` of used weight
    per minute, waits as long as a 429 says, and a 418 ends the audit.
    """

    page_limit = 1000
    lag_seconds = 5.0
    complete = False

    def __init__(
        self,
        url: str,
        *,
        transport: Transport | None = None,
        weight_limit: int = 3000,
        sleep: Callable[[float], None] = time.sleep,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._http = _Http(
            url,
            "the exchange",
            transport or Transport(),
            headers={"X-MBX-TIME-UNIT": "MICROSECOND"},
            proxied=True,
            sleep=sleep,
        )
        self._weight_limit = weight_limit
        self._sleep = sleep
        self._clock_ns = clock_ns

    def symbols(self) -> dict[str, LedgerSymbol] | None:
        """Nothing: to ask for the state of every listed symbol would use up the limit."""
        return None

    def symbol(self, symbol: str) -> LedgerSymbol | None:
        """Assets and last id."""
        answer = self._get("/api/v3/exchangeInfo", {"symbol": symbol})
        if answer.status_code == 400 and _code(answer) == INVALID_SYMBOL:
            return None
        info = self._http.decode(answer, _RestInfo)
        assets = {one.symbol: (one.base_asset, one.quote_asset) for one in info.symbols}.get(symbol)
        newest = self.newest(symbol)
        return LedgerSymbol(newest.trade_id if newest else -1, assets=assets)

    def forgotten(self, symbol: str) -> list[tuple[int, int]]:
        """None: a history says nothing of what it does not have."""
        return []

    def newest(self, symbol: str) -> Entry | None:
        """The last entry of the history; None without one, or if the exchange no longer lists the symbol."""
        answer = self._get("/api/v3/historicalTrades", {"symbol": symbol, "limit": 1})
        if answer.status_code == 400 and _code(answer) == INVALID_SYMBOL:
            return None
        found = self._http.decode(answer, list[_RestTrade])
        return _trade(found[-1]) if found else None

    def page(self, symbol: str, from_id: int, limit: int) -> LedgerPage:
        """One page of history."""
        trades = self._trades({"symbol": symbol, "fromId": from_id, "limit": limit})
        return LedgerPage(trades, trades[-1].trade_id + 1 if len(trades) >= limit else None)

    def _trades(self, params: Mapping[str, str | int]) -> list[LedgerTrade]:
        found = self._http.read(lambda: self._get("/api/v3/historicalTrades", params), list[_RestTrade])
        if any(after.id <= before.id for before, after in itertools.pairwise(found)):
            raise Inconclusive(f"the exchange sent trades of {params['symbol']} that are not in the order of their ids")
        return [_trade(one) for one in found]

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
                raise Inconclusive(f"the rate limit demands a wait of {pause:g} s: audit later or fewer symbols")
            self._sleep(pause)

    def _keep_below_limit(self, answer: httpx2.Response) -> None:
        used = answer.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if used.isdigit() and int(used) >= self._weight_limit:
            self._sleep(60.0 - self._clock_ns() / 1e9 % 60.0)  # the count starts afresh with the minute


def _trade(one: _RestTrade) -> LedgerTrade:
    return LedgerTrade(one.id, one.price, one.qty, one.time, one.is_buyer_maker)


def _code(answer: httpx2.Response) -> int | None:
    """The exchange's error code; None where the body has none."""
    try:
        return decode_typed(answer.content, _ErrorBody).code
    except Undecodable:
        return None


def _retry_after(answer: httpx2.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return max(1.0, float(text)) if text.isdigit() else 60.0
