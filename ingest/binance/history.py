"""REST history: missing trades by id, exchangeInfo, last ids; every answer is checked before it is used.

The history is a lagging database: a page may end before the newest trade, and ``fromId`` older than what is kept is
answered with the oldest kept trade [obs binance-public-data#376]. The caller checks the first id.
"""

import itertools
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self

import msgspec

from ingest.binance.aggregates import Aggregate, parse_aggregates
from ingest.binance.listings import Activity, parse_activity, parse_exchange_info
from ingest.binance.refusals import UNKNOWN_SYMBOL, BadRequest, RequestRefused
from ingest.binance.rest import EXCHANGE_INFO_LIMIT, RestClient
from ingest.binance.symbols import SymbolInfo
from ingest.binance.weight import Urgency
from ingest.core.errors import Reject, Retry
from ingest.core.trade import Trade, WireInt, WireText

PAGE_LIMIT = 1000
WEIGHT_TRADES = 25
WEIGHT_AGGREGATES = 4
WEIGHT_EXCHANGE_INFO = 20
WEIGHT_TICKER_FEW = 2
WEIGHT_TICKER_ALL = 80
TICKER_CHUNK = 20
"""Symbols that one ``ticker/24hr`` of weight 2 may name [rest]."""
EARLIEST_US = 10**14
"""1973 as microseconds, 5138 as milliseconds: tells the units apart."""
SYMBOLS_IN_QUERY = 100

_DAMAGED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class HistoryPage(msgspec.Struct, frozen=True):
    """One page: ascending, possibly with holes, and what in it could not be used (id where known, bytes, why)."""

    trades: list[Trade]
    rejected: list[tuple[int | None, bytes, Reject]]


class TradeElement(msgspec.Struct, gc=False):
    """One trade as REST pages have it [rest]."""

    id: WireInt
    price: WireText
    qty: WireText
    time: WireInt
    isBuyerMaker: bool  # noqa: N815 -- the exchange's name


class _LooseElement(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw()
    price: msgspec.Raw = msgspec.Raw()
    qty: msgspec.Raw = msgspec.Raw()
    time: msgspec.Raw = msgspec.Raw()
    isBuyerMaker: msgspec.Raw = msgspec.Raw()  # noqa: N815 -- the exchange's name


_page = msgspec.json.Decoder(list[TradeElement]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_element = msgspec.json.Decoder(TradeElement).decode
_loose_element = msgspec.json.Decoder(_LooseElement).decode
_integer = msgspec.json.Decoder(WireInt).decode


class History:
    """What the exchange remembers. An asynchronous context manager.

    Every method raises ``Retry`` (with seconds) or ``Banned``, and nothing else.
    """

    def __init__(self, rest: RestClient) -> None:
        self.rest = rest
        self._behind: dict[str, tuple[int, set[str]]] = {}
        """Symbol -> the id asked for, and the addresses whose history does not reach it yet, or is damaged there."""

    async def __aenter__(self) -> Self:
        await self.rest.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.rest.__aexit__(kind, error, trace)

    async def trades_from(self, symbol: str, from_id: int, limit: int = PAGE_LIMIT) -> HistoryPage:
        """Return up to ``limit`` trades of ``symbol`` in ascending order, beginning at ``from_id`` or later.

        Elements that are not well formed are returned in ``rejected``; a page that is not ascending, or not in
        microseconds, is a ``Retry``. After a page without any such trade, or with elements in ``rejected``, the next
        address is asked first.
        """
        query = {"symbol": symbol, "fromId": str(from_id), "limit": str(min(limit, PAGE_LIMIT))}
        page, url = await self.rest.get(
            "/api/v3/historicalTrades",
            query,
            lambda body: parse_page(symbol, body),
            weight=WEIGHT_TRADES,
            urgency=Urgency.TRADES,
            skip=self._to_skip(symbol, from_id),
        )
        self._note_reach(symbol, from_id, page, url)
        return page

    def _to_skip(self, symbol: str, from_id: int) -> set[str]:
        asked_for, urls = self._behind.get(symbol, (from_id, set()))
        return urls if asked_for == from_id else set()

    def _note_reach(self, symbol: str, from_id: int, page: HistoryPage, url: str) -> None:
        if not page.rejected and any(trade.trade_id >= from_id for trade in page.trades):
            self._behind.pop(symbol, None)
            return
        urls = self._to_skip(symbol, from_id) | {url}
        # When all are behind, all are asked again.
        self._behind[symbol] = (from_id, urls if len(urls) < self.rest.address_count else set())

    async def aggregates(self, symbol: str, limit: int = PAGE_LIMIT) -> list[Aggregate]:
        """Return the newest ``limit`` aggregates of ``symbol`` in ascending order."""
        query = {"symbol": symbol, "limit": str(min(limit, PAGE_LIMIT))}
        found, _ = await self.rest.get(
            "/api/v3/aggTrades", query, parse_aggregates, weight=WEIGHT_AGGREGATES, urgency=Urgency.TRADES
        )
        return found

    async def exchange_info(self, symbols: Sequence[str] | None = None) -> dict[str, SymbolInfo]:
        """Return what the exchange states about its symbols, all of them or those named; unknown ones are absent.

        A named symbol counts as unknown when no address that answers has it. Takes over the weight limit of each.
        """
        infos, url = await self._exchange_info(symbols, skip=())
        if symbols is None:
            return infos
        asked = {url}
        while missing := [name for name in symbols if name not in infos]:
            if len(asked) == self.rest.address_count:
                break
            try:
                more, url = await self._exchange_info(missing, skip=asked)
            except Retry:
                break
            asked.add(url)
            infos |= more
        return {name: infos[name] for name in symbols if name in infos}

    async def _exchange_info(
        self, symbols: Sequence[str] | None, skip: Collection[str]
    ) -> tuple[dict[str, SymbolInfo], str]:
        query: dict[str, str] = {}
        if symbols is not None and len(symbols) <= SYMBOLS_IN_QUERY:
            query["symbols"] = _names(symbols)
        try:
            (infos, weight_limit), url = await self._ask_exchange_info(query, skip)
        except RequestRefused:
            if not query:
                raise
            # One unknown name spoils the whole question (-1121, -1100, or a firewall): ask for all of them instead.
            (infos, weight_limit), url = await self._ask_exchange_info({}, skip)
        if weight_limit is not None:
            self.rest.set_limit(weight_limit, url)
        return infos, url

    async def _ask_exchange_info(
        self, query: dict[str, str], skip: Collection[str]
    ) -> tuple[tuple[dict[str, SymbolInfo], int | None], str]:
        return await self.rest.get(
            "/api/v3/exchangeInfo",
            query,
            parse_exchange_info,
            weight=WEIGHT_EXCHANGE_INFO,
            limit=EXCHANGE_INFO_LIMIT,
            skip=skip,
        )

    async def last_ids(self, symbols: Sequence[str] | None = None) -> dict[str, int]:
        """Return symbol -> id of its newest trade, -1 for no trade in 24 h. See ``activity``."""
        return {symbol: found.last_id for symbol, found in (await self.activity(symbols)).items()}

    async def activity(self, symbols: Sequence[str] | None = None) -> dict[str, Activity]:
        """Return the last 24 hours of the symbols named, or of all. Symbols it does not know are absent.

        Weight: 2 for each 20 symbols, 80 for all of them.
        """
        if symbols is not None and not symbols:
            return {}
        if symbols is None or len(symbols) > 5 * TICKER_CHUNK:
            found = await self._tickers({}, WEIGHT_TICKER_ALL)
        else:
            found = {}
            try:
                for start in range(0, len(symbols), TICKER_CHUNK):
                    names = _names(symbols[start : start + TICKER_CHUNK])
                    found |= await self._tickers({"symbols": names}, WEIGHT_TICKER_FEW)
            except RequestRefused as error:
                if isinstance(error, BadRequest) and error.code != UNKNOWN_SYMBOL:
                    raise
                found = await self._tickers({}, WEIGHT_TICKER_ALL)
        return found if symbols is None else {name: found[name] for name in symbols if name in found}

    async def _tickers(self, query: dict[str, str], weight: int) -> dict[str, Activity]:
        found, _ = await self.rest.get("/api/v3/ticker/24hr", {"type": "MINI", **query}, parse_activity, weight=weight)
        return found


def _names(symbols: Sequence[str]) -> str:
    return msgspec.json.encode(list(symbols)).decode()


def parse_page(symbol: str, body: bytes) -> HistoryPage:
    """Read a page of ``historicalTrades``. Raises ``Reject`` where the page as a whole cannot be used."""
    rejected: list[tuple[int | None, bytes, Reject]] = []
    try:
        elements: list[TradeElement] = _page(body)
        ids = [element.id for element in elements]
    except _DAMAGED:
        elements, ids = _one_by_one(symbol, body, rejected)
    if len(elements) + len(rejected) > PAGE_LIMIT:
        raise Reject("not_an_event", f"more than {PAGE_LIMIT} elements", symbol=symbol)
    if any(later <= earlier for earlier, later in itertools.pairwise(ids)):
        raise Reject("not_an_event", "ids do not ascend", symbol=symbol)
    if elements and all(element.time < EARLIEST_US for element in elements):
        raise Reject("implausible_time", "times are not in microseconds", symbol=symbol)
    trades = [Trade(symbol, e.id, e.price, e.qty, e.time, e.isBuyerMaker) for e in elements]
    return HistoryPage(trades, rejected)


def _one_by_one(
    symbol: str, body: bytes, rejected: list[tuple[int | None, bytes, Reject]]
) -> tuple[list[TradeElement], list[int]]:
    try:
        parts = _elements(body)
    except _DAMAGED as error:
        raise Reject("malformed_json", f"{error}"[:200], symbol=symbol) from error
    elements: list[TradeElement] = []
    ids: list[int] = []
    for part in parts:
        raw = bytes(part)
        try:
            element: TradeElement = _element(raw)
        except _DAMAGED as error:
            trade_id = _id_of(raw)
            reason = "missing_field" if "missing required field" in str(error) else "wrong_type"
            rejected.append((trade_id, raw, Reject(reason, f"{error}"[:200], symbol=symbol, trade_id=trade_id)))
            if trade_id is not None:
                ids.append(trade_id)
        else:
            elements.append(element)
            ids.append(element.id)
    return elements, ids


def _id_of(raw: bytes) -> int | None:
    try:
        trade_id: int = _integer(_loose_element(raw).id)
    except _DAMAGED:
        return None
    return trade_id
