"""Reads the exchange's lists of symbols: ``exchangeInfo`` and ``ticker/24hr``.

An entry that cannot be read never stops the others: it is left out, and named in the log. A list of which no entry can
be read is refused as a whole.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import msgspec

from ingest.binance.symbols import UNSTATED, SymbolInfo
from ingest.core.errors import Reject
from ingest.core.trade import WireText

log = logging.getLogger(__name__)

MOST_OBJECTS = 200_000
"""In ``exchangeInfo``: a dozen for each symbol, of which there are some thousands."""
_DAMAGED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class _Filter(msgspec.Struct, rename="camel"):
    filter_type: str = ""
    tick_size: str | None = None
    step_size: str | None = None


class _Symbol(msgspec.Struct, rename="camel"):
    symbol: WireText
    status: WireText
    base_asset: WireText
    quote_asset: WireText
    filters: list[_Filter] = []


class _LooseSymbol(msgspec.Struct, rename="camel"):
    """The same with the values undecoded, for an entry that is damaged somewhere."""

    symbol: WireText
    status: msgspec.Raw = msgspec.Raw()
    base_asset: msgspec.Raw = msgspec.Raw()
    quote_asset: msgspec.Raw = msgspec.Raw()


class _RateLimit(msgspec.Struct, rename="camel"):
    rate_limit_type: str = ""
    interval: str = ""
    interval_num: int = 0
    limit: int = 0


class _ExchangeInfo(msgspec.Struct, rename="camel"):
    symbols: list[_Symbol]
    rate_limits: list[_RateLimit] = []


class _LooseExchangeInfo(msgspec.Struct, rename="camel"):
    symbols: list[msgspec.Raw]
    rate_limits: msgspec.Raw = msgspec.Raw()


class _Ticker(msgspec.Struct, rename="camel"):
    symbol: WireText
    last_id: Annotated[int, msgspec.Meta(ge=-1, le=2**63 - 1)]
    count: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


class Activity(msgspec.Struct, frozen=True):
    """A symbol's last 24 hours: the id of its newest trade (-1: none) and the number of trades."""

    last_id: int
    trades_per_day: int = 0


_exchange_info = msgspec.json.Decoder(_ExchangeInfo).decode
_loose_exchange_info = msgspec.json.Decoder(_LooseExchangeInfo).decode
_symbol = msgspec.json.Decoder(_Symbol).decode
_loose_symbol = msgspec.json.Decoder(_LooseSymbol).decode
_rate_limit = msgspec.json.Decoder(_RateLimit).decode
_tickers = msgspec.json.Decoder(list[_Ticker]).decode
_ticker = msgspec.json.Decoder(_Ticker).decode
_parts = msgspec.json.Decoder(list[msgspec.Raw]).decode
_text = msgspec.json.Decoder(WireText).decode


def parse_exchange_info(body: bytes) -> tuple[dict[str, SymbolInfo], int | None]:
    """Read ``exchangeInfo``: symbols by name, and the request weight per minute where stated.

    A symbol of which only the name can be read, or its assets cannot, has empty assets. Raises ``Reject``.
    """
    if body.count(b"{") > MOST_OBJECTS:  # before they are built: an empty one takes thirty times its bytes
        raise Reject("not_an_event", f"more than {MOST_OBJECTS} objects in exchangeInfo")
    try:
        answer: _ExchangeInfo = _exchange_info(body)
        symbols, limits = [_info(entry) for entry in answer.symbols], answer.rate_limits
    except _DAMAGED:
        loose: _LooseExchangeInfo = _checked(_loose_exchange_info, body)
        symbols = _each(_salvaged, loose.symbols, "exchangeInfo")
        limits = _limits(loose.rate_limits)
    weight = next(
        (
            rule.limit
            for rule in limits
            if (rule.rate_limit_type, rule.interval, rule.interval_num) == ("REQUEST_WEIGHT", "MINUTE", 1)
        ),
        None,
    )
    return {info.symbol: info for info in symbols}, weight if weight is not None and 0 < weight < 10**9 else None


def _info(entry: _Symbol) -> SymbolInfo:
    tick = next((f.tick_size for f in entry.filters if f.filter_type == "PRICE_FILTER"), None)
    step = next((f.step_size for f in entry.filters if f.filter_type == "LOT_SIZE"), None)
    return SymbolInfo(entry.symbol, entry.status, entry.base_asset, entry.quote_asset, tick, step)


def _salvaged(raw: bytes) -> SymbolInfo:
    """What can be read of an entry: its name at least. Raises ``msgspec.DecodeError`` and others of ``_DAMAGED``."""
    try:
        return _info(_symbol(raw))
    except _DAMAGED as error:
        entry: _LooseSymbol = _loose_symbol(raw)
        log.warning("exchangeInfo: %s: damaged entry: %s", entry.symbol, error, extra={"symbol": entry.symbol})
    status, base, quote = map(_text_or_none, (entry.status, entry.base_asset, entry.quote_asset))
    return SymbolInfo(entry.symbol, status or UNSTATED, base or "", quote or "")


def _limits(raw: msgspec.Raw) -> list[_RateLimit]:
    try:
        return _each(_rate_limit, _parts(raw) if raw else (), "exchangeInfo: rateLimits")
    except (*_DAMAGED, Reject) as error:
        log.warning("exchangeInfo: unusable rateLimits: %s", error)
        return []


def parse_activity(body: bytes) -> dict[str, Activity]:
    """Read ``ticker/24hr``: a list, or the one object that the exchange gives for one symbol. Raises ``Reject``."""
    tickers: list[_Ticker]
    try:
        tickers = _tickers(body)
    except _DAMAGED:
        one = body.lstrip().startswith(b"{")
        tickers = _each(_ticker, [msgspec.Raw(body)] if one else _checked(_parts, body), "ticker/24hr")
    return {ticker.symbol: Activity(ticker.last_id, ticker.count) for ticker in tickers}


def _each(read: Callable[[bytes], Any], parts: Sequence[msgspec.Raw], what: str) -> list[Any]:
    """Read each entry by itself; those that cannot be read are left out. Raises ``Reject`` if that is all of them."""
    found: list[Any] = []
    damage: list[str] = []
    for part in parts:
        raw = bytes(part)
        try:
            found.append(read(raw))
        except _DAMAGED as error:
            damage.append(f"{error}: {raw[:80].decode('utf-8', 'replace')}"[:200])
    if damage and not found:
        raise Reject("malformed_json", f"{what}: none of {len(damage)} entries can be read: {damage[0]}"[:200])
    if damage:
        log.warning("%s: %d entries cannot be read and are left out: %s", what, len(damage), damage[0])
    return found


def _checked(decoder: Callable[[bytes], Any], body: bytes) -> Any:
    try:
        return decoder(body)
    except _DAMAGED as error:
        raise Reject("malformed_json", f"{error}"[:200]) from error


def _text_or_none(raw: msgspec.Raw) -> str | None:
    if not raw:
        return None
    try:
        text: str = _text(raw)
    except _DAMAGED:
        return None
    return text
