"""One audit from the first record to the verdict.

Order makes it right while the writer goes on: the positions are read, then the topic, then the positions again. All
that the first positions claim must be in the topic, and the second ones must claim all that the topic has.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from confluent_kafka import Message

from ingest.audit.checks import SymbolCheck, Totals
from ingest.audit.content import Record, identify
from ingest.audit.cursor import Cursor, NoTrades, page_size
from ingest.audit.decode import Decoder, Unreadable
from ingest.audit.ledger import Ledger
from ingest.audit.model import Inconclusive, LedgerSymbol, Position, Violation, Violations
from ingest.audit.positions import Positions
from ingest.audit.topic import TopicReader

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
UNKNOWN = "?"
"""Stands for the symbol of a record of which not even that can be told."""


@dataclass
class Outcome:
    """What the audit found, as far as it came."""

    verdict: Verdict = "INCONCLUSIVE"
    reason: str = "the audit did not come to an end"
    totals: Totals = field(default_factory=Totals)
    symbols: dict[str, SymbolCheck] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    records: int = 0
    seconds: float = 0.0
    open_transactions: int = 0


class Audit:
    """Holds one topic against one ledger."""

    def __init__(
        self,
        trades: TopicReader,
        positions: TopicReader,
        ledger: Ledger,
        decoder: Decoder,
        *,
        symbols: Collection[str] = (),
        expect_to_head: bool = False,
        clock: Callable[[], float] = time.monotonic,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``symbols``: only these, and each of them must be there; none means all that the topics have.

        ``progress`` is told now and then how many records were audited.
        """
        self._progress = progress
        self._trades = trades
        self._position_reader = positions
        self._ledger = ledger
        self._decode = decoder.decode
        self._wanted = frozenset(symbols)
        self._expect_to_head = expect_to_head
        self._clock = clock
        self._violations = Violations()
        self._positions = Positions()
        self._listed: dict[str, LedgerSymbol] | None = None
        self._known: dict[str, LedgerSymbol | None] = {}
        self._checks: dict[str, SymbolCheck] = {}
        self._by_key: dict[bytes | None, SymbolCheck] = {}
        self._page = 0
        self._accounted: dict[str, int] = {}
        self._records = 0

    def run(self) -> Outcome:
        """Read everything and judge it. Never raises ``Inconclusive``: it is a verdict."""
        began = self._clock()
        outcome = Outcome()
        try:
            self._read()
            outcome.verdict, outcome.reason = self._judge()
        except Inconclusive as error:
            outcome.reason = str(error)
        for check in self._checks.values():
            outcome.totals.add(check.totals)
        if outcome.verdict == "INCONCLUSIVE" and outcome.totals.violations:
            outcome.verdict = "FAIL"  # what is proved to be wrong stays wrong, however little else could be read
            outcome.reason = f"{_wrong(outcome.totals)}; and the audit is not complete: {outcome.reason}"
        outcome.symbols = dict(sorted(self._checks.items()))
        outcome.positions = self._positions.positions
        outcome.violations = self._violations.examples
        outcome.records = self._records
        outcome.seconds = self._clock() - began
        outcome.open_transactions = self._trades.open_transactions
        return outcome

    def _read(self) -> None:
        self._listed = self._ledger.symbols()
        self._position_reader.start()
        self._trades.start()
        self._position_reader.drain(self._take_positions)
        self._accounted = {symbol: position.last_id for symbol, position in self._positions.positions.items()}
        self._page = page_size(len(self._wanted) or len(self._accounted) or len(self._listed or ()) or 100)
        self._trades.drain(self._take)
        self._position_reader.drain(self._take_positions)

    def _take_positions(self, messages: list[Message]) -> None:
        for message in messages:
            self._positions.take(message.partition() or 0, _raw(message.key()), _raw(message.value()))

    def _take(self, messages: list[Message]) -> None:
        by_key, decode = self._by_key, self._decode
        for message in messages:
            key, value, partition = _raw(message.key()), _raw(message.value()), message.partition() or 0
            try:
                record = decode(value or b"")
            except Unreadable as error:
                self._unreadable(message, key, str(error))
                continue
            check = by_key.get(key)
            if check is None or not check.accept(partition, key, record):
                self._look_closer(message, key, record)
        self._records += len(messages)
        self._progress(self._records)

    def _look_closer(self, message: Message, key: bytes | None, record: Record) -> None:
        found = identify(key.decode(errors="replace") if key is not None else None, record)
        if found is None:
            self._unreadable(message, key, "neither symbol nor trade id can be told")
        elif not self._wanted or found[0] in self._wanted:
            check = self._check(found[0], message.partition() or 0)
            check.take(message.partition() or 0, message.offset() or 0, key, found[1], record)

    def _unreadable(self, message: Message, key: bytes | None, why: str) -> None:
        symbol = key.decode(errors="replace") if key else UNKNOWN
        if not self._wanted or symbol in self._wanted or symbol == UNKNOWN:
            self._check(symbol, message.partition()).unreadable(message.partition() or 0, message.offset() or 0, why)

    def _check(self, symbol: str, partition: int | None) -> SymbolCheck:
        check = self._checks.get(symbol)
        if check is None:
            known = self._state(symbol)
            position = self._positions.positions.get(symbol)
            lows = self._trades.lows
            check = self._checks[symbol] = SymbolCheck(
                symbol,
                NoTrades() if known is None else Cursor(self._ledger, symbol, self._page),
                self._violations,
                first_id=None if position is None else position.first_id,
                truncated=any(lows.values()) if partition is None else lows[partition] > 0,
                assets=None if known is None else known.assets,
            )
            self._by_key[symbol.encode()] = check
        return check

    def _state(self, symbol: str) -> LedgerSymbol | None:
        """The ledger's state of the symbol when the audit began, or when the symbol turned up."""
        if symbol not in self._known:
            listed = (self._listed or {}).get(symbol)
            self._known[symbol] = listed or (None if symbol == UNKNOWN else self._ledger.symbol(symbol))
        return self._known[symbol]

    def _judge(self) -> tuple[Verdict, str]:
        for symbol in self._positions.positions:
            if not self._wanted or symbol in self._wanted:
                self._check(symbol, None)
        for symbol, what, expected, found in self._positions.faults:
            if not self._wanted or symbol in self._wanted or symbol == UNKNOWN:
                self._check(symbol, None).wrong_position(what, expected, found)
        for symbol, check in self._checks.items():
            known = self._state(symbol)
            head = known.last_id if known is not None and self._expect_to_head else None
            check.finish(self._positions.voids_of(symbol), self._accounted.get(symbol), head, known)
            self._positions.check(symbol, check)
        totals = Totals()
        for check in self._checks.values():
            totals.add(check.totals)
        if totals.violations:
            return "FAIL", _wrong(totals)
        absent = sorted(self._wanted - self._checks.keys())
        if absent:
            return "INCONCLUSIVE", f"neither the topic nor the positions have {', '.join(absent)}"
        if not totals.committed:
            return "INCONCLUSIVE", "the topic has no trades: nothing was audited"
        return "PASS", (
            f"{totals.committed} of {totals.ledger} trades of {len(self._checks)} symbols are in the topic exactly "
            f"once, in order and unaltered; {totals.voids} ids are void"
        )


def _wrong(totals: Totals) -> str:
    names = ("missing", "duplicated", "reordered", "altered", "false_void", "unaccounted", "scattered", "position")
    return ", ".join(f"{getattr(totals, name)} {name.replace('_', ' ')}" for name in names if getattr(totals, name))


def _raw(value: object) -> bytes | None:
    return value if isinstance(value, bytes) else None
