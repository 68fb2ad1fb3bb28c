"""The operations of a ledger as bytes, so that a simulator that was killed has its trades again.

A journal gathers the bytes of what happens; ``flush`` hands them on whole. ``perform`` does the same operations again.
An operation is a byte that says which, and its fields: integers are little-endian, rare operations are JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from struct import Struct
from struct import error as struct_error
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingest.simulator.ledger import Ledger
    from ingest.simulator.symbol_ledger import SymbolLedger

_SELL, _BUY, _SEAL, _VOID, _RESTART, _CHANGE = range(1, 7)  # a trade by who took: the seller where the buyer is maker
_TRADE = Struct("<BIqqq")  # number of the listing, price, quantity, time
_BARE = Struct("<BI")  # number of the listing, or bytes of JSON
_ONE = Struct("<BIq")  # number of the listing, count or id


class OperationError(ValueError):
    """Bytes that are no operations of this ledger."""


class Journal:
    """Gathers operations; ``sink`` gets them by ``flush``, and raises what ``flush`` raises."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._buffer = bytearray()

    def trade(self, number: int, price: int, quantity: int, time_us: int, buyer_is_maker: bool) -> None:  # noqa: FBT001
        """A trade was appended to a listing."""
        self._buffer += _TRADE.pack(_SELL if buyer_is_maker else _BUY, number, price, quantity, time_us)

    def seal(self, number: int) -> None:
        """The newest aggregate of a listing was completed."""
        self._buffer += _BARE.pack(_SEAL, number)

    def void(self, number: int, count: int) -> None:
        """Ids of a listing were reserved for nothing."""
        self._buffer += _ONE.pack(_VOID, number, count)
        self.flush()

    def restart(self, number: int, trade_id: int) -> None:
        """A listing goes on with another id."""
        self._buffer += _ONE.pack(_RESTART, number, trade_id)
        self.flush()

    def change(self, kind: str, **what: Any) -> None:
        """One of the rare operations, see ``perform``. It is flushed at once: an answer may follow."""
        text = json.dumps({"kind": kind, **what}).encode()
        self._buffer += _BARE.pack(_CHANGE, len(text)) + text
        self.flush()

    def flush(self) -> None:
        """Hand on what was gathered; nothing where there is nothing."""
        if self._buffer:
            self._sink(bytes(self._buffer))
            self._buffer.clear()


def perform(ledger: Ledger, data: bytes) -> None:
    """Do whole operations again, on a ledger without a journal. Raises OperationError."""
    numbers = {one.number: one for one in ledger.all_symbols.values()}
    at, end = 0, len(data)
    try:
        while at < end:
            kind = data[at]
            if kind <= _BUY:
                _, number, price, quantity, time_us = _TRADE.unpack_from(data, at)
                numbers[number].append(price, quantity, time_us, kind == _SELL)
                at += _TRADE.size
            elif kind == _SEAL:
                numbers[_BARE.unpack_from(data, at)[1]].seal()
                at += _BARE.size
            elif kind in (_VOID, _RESTART):
                _, number, value = _ONE.unpack_from(data, at)
                (numbers[number].void if kind == _VOID else numbers[number].restart_at)(value)
                at += _ONE.size
            elif kind == _CHANGE:
                start = at + _BARE.size
                at = start + _BARE.unpack_from(data, at)[1]
                _change(ledger, numbers, json.loads(data[start:at]))
            else:
                raise OperationError(f"there is no operation {kind}")
    except (struct_error, ValueError, KeyError, TypeError) as error:
        raise OperationError(f"an operation that cannot be done: {error!r}") from error


def _change(ledger: Ledger, numbers: dict[int, SymbolLedger], what: dict[str, Any]) -> None:
    match what.pop("kind"):
        case "list":
            made = ledger.add(**what)
            numbers[made.number] = made
        case "relist":
            made = ledger.relist(**what)
            numbers[made.number] = made
        case "delist":
            ledger.delist(what["symbol"])
        case "status":
            ledger.all_symbols[what["symbol"]].change_status(what["status"])
        case "misspell":
            numbers[what["number"]].misspell(what["id"], what["price"], what["quantity"])
        case other:
            raise OperationError(f"there is no change {other!r}")
