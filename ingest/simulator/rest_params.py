"""Query parameters of the simulated REST API, with the refusals Binance documents for bad ones.

Codes are the documented ones (REST error codes, section -11xx); texts follow them, but Binance promises only codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from urllib.parse import unquote_plus

from ingest.simulator.ledger import INT64_MAX, Ledger, SymbolLedger

SYMBOL_RANGE = r"^[\w\-._&&[^a-z]]{1,50}$"  # as Java writes it: word characters without a-z
SYMBOLS_RANGE = r'^\["[\w\-._&&[^a-z]]{1,50}"(,"[\w\-._&&[^a-z]]{1,50}"){0,}\]$'
NUMBER_RANGE = "^[0-9]{1,20}$"
STATUSES = ("TRADING", "HALT", "BREAK")

_SYMBOL = re.compile(r"(?:[^\Wa-z]|[.\-]){1,50}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_MICROSECONDS_FROM = 10**14  # the year 5138 in milliseconds, 1973 in microseconds


class ApiError(Exception):
    """A refusal with Binance's error code; answered as HTTP 400 unless `status` says otherwise."""

    def __init__(self, code: int, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status

    @property
    def body(self) -> bytes:
        """The answer's body."""
        return error_body(self.code, self.message)


def error_body(code: int, message: str) -> bytes:
    """Binance's error object."""
    return json.dumps({"code": code, "msg": message}, separators=(",", ":"), ensure_ascii=False).encode()


def illegal(name: str, legal: str) -> ApiError:
    """-1100: characters outside of a parameter's legal range."""
    return ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def missing(name: str) -> ApiError:
    """-1102: a mandatory parameter is not there."""
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def invalid(name: str) -> ApiError:
    """-1130: a value that is legal but makes no sense."""
    return ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")


def bad_combination() -> ApiError:
    """-1128: parameters that exclude each other."""
    return ApiError(-1128, "Combination of optional parameters invalid.")


class Params:
    """One request's parameters, checked against what its endpoint knows."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    @classmethod
    def parse(cls, query: str, known: Collection[str]) -> Params:
        """Split a query string. Raises ApiError for duplicate (-1101), empty (-1105) and unread (-1104) parameters."""
        values: dict[str, str] = {}
        pairs = [pair for pair in query.split("&") if pair]
        if pairs and not known:
            raise ApiError(-1101, f"Too many parameters; expected '0' and received '{len(pairs)}'.")
        for pair in pairs:
            name, _, value = pair.partition("=")
            name = unquote_plus(name)
            if name in values:
                raise ApiError(-1101, f"Duplicate values for parameter '{name}' detected.")
            values[name] = unquote_plus(value)
        read = sum(name in known for name in values)
        if read < len(values):
            raise ApiError(
                -1104, f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(values)}'."
            )
        for name, value in values.items():
            if not value:
                raise ApiError(-1105, f"Parameter '{name}' was empty.")
        return cls(values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def text(self, name: str) -> str | None:
        """The value as it was sent."""
        return self._values.get(name)

    def number(self, name: str) -> int | None:
        """A non-negative 64-bit integer. Raises ApiError -1100 or -1130."""
        value = self._values.get(name)
        if value is None:
            return None
        if not _NUMBER.fullmatch(value):
            raise illegal(name, NUMBER_RANGE)
        number = int(value)
        if number > INT64_MAX:
            raise invalid(name)
        return number

    def limit(self, default: int, most: int) -> int:
        """The `limit`; more than the endpoint gives means as much as it gives, 0 is refused (-1130)."""
        limit = self.number("limit")
        if limit is None:
            return default
        if limit == 0:
            raise invalid("limit")
        return min(limit, most)

    def time_us(self, name: str, *, end: bool = False) -> int | None:
        """A time in microseconds; milliseconds and microseconds are both accepted, distinguished by size.

        The `end` of an inclusive range in milliseconds is the last microsecond of that millisecond.
        """
        value = self.number(name)
        if value is None:
            return None
        return value if value >= _MICROSECONDS_FROM else value * 1000 + (999 if end else 0)

    def flag(self, name: str, *, default: bool) -> bool:
        """A boolean. Raises ApiError -1130."""
        value = self._values.get(name)
        if value is None:
            return default
        if value.lower() not in ("true", "false"):
            raise invalid(name)
        return value.lower() == "true"

    def choice(self, name: str, choices: Collection[str], code: int, message: str) -> str | None:
        """One of a few words. Raises ApiError with the given code and message."""
        value = self._values.get(name)
        if value is not None and value not in choices:
            raise ApiError(code, message)
        return value

    def symbol_status(self) -> str | None:
        """The `symbolStatus`. Raises ApiError -1122."""
        return self.choice("symbolStatus", STATUSES, -1122, "Invalid symbolStatus.")

    def symbol(self, ledger: Ledger) -> SymbolLedger:
        """The mandatory `symbol`.

        Raises ApiError -1102, -1100, -1121, or -1220 when its status is another one.
        """
        value = self._values.get("symbol")
        if value is None:
            raise missing("symbol")
        if not _SYMBOL.fullmatch(value):
            raise illegal("symbol", SYMBOL_RANGE)
        found = _listed(value, ledger)
        status = self.symbol_status()
        if status is not None and found.status != status:
            raise ApiError(-1220, "The symbol's status does not match the requested symbolStatus.")
        return found

    def symbols(self, ledger: Ledger) -> list[SymbolLedger]:
        """The `symbols`, a JSON array. Raises ApiError -1100, -1121, and -1151 when one is there twice."""
        try:
            names = json.loads(self._values["symbols"])
        except ValueError as error:
            raise illegal("symbols", SYMBOLS_RANGE) from error
        if not isinstance(names, list) or not names:
            raise illegal("symbols", SYMBOLS_RANGE)
        if not all(isinstance(name, str) and _SYMBOL.fullmatch(name) for name in names):
            raise illegal("symbols", SYMBOLS_RANGE)
        if len(set(names)) < len(names):
            raise ApiError(-1151, "Symbol is present multiple times in the list.")
        return [_listed(name, ledger) for name in names]

    def selection(self, ledger: Ledger) -> list[SymbolLedger]:
        """What `symbol`, `symbols` or neither select, filtered by `symbolStatus`. Raises ApiError, -1128 for both."""
        if "symbol" in self and "symbols" in self:
            raise bad_combination()
        if "symbol" in self:
            return [self.symbol(ledger)]
        status = self.symbol_status()
        found = self.symbols(ledger) if "symbols" in self else list(ledger.symbols.values())
        return [symbol for symbol in found if status is None or symbol.status == status]


def _listed(name: str, ledger: Ledger) -> SymbolLedger:
    found = ledger.symbols.get(name)
    if found is None:
        raise ApiError(-1121, "Invalid symbol.")
    return found
