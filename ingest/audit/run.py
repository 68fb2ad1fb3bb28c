"""One audit from the first record to the verdict.

Order makes it right while the writer goes on: the positions are read, then the topic, then the positions again. All
that the first positions claim must be in the topic, and the second ones must claim all that the topic has.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from confluent_kafka import Message

from ingest.audit.check_base import Totals
from ingest.audit.checks import SymbolCheck
from ingest.audit.content import CLOCK_TOLERANCE_SECONDS, Content, Record, identify
from ingest.audit.cursor import Cursor, NoTrades, page_size
from ingest.audit.decode import FIELDS, Decoder, SchemaMissing, Unreadable
from ingest.audit.ledger import Ledger
from ingest.audit.model import KINDS, Inconclusive, LedgerSymbol, Position, Violation, Violations
from ingest.audit.positions import Positions
from ingest.audit.topic import NoTopic, TopicReader

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE"]
UNKNOWN = "?"
"""Stands for the symbol of a record whose symbol cannot be read."""


@dataclass(frozen=True)
class Audited:
    """A stream that can be audited: trades by default."""

    name: str = "trade"
    """As position keys have it."""
    noun: str = "trades"
    kind: str = "trades"
    """Of the topic ``market.crypto.<kind>.binance``."""
    fields: frozenset[str] = FIELDS
    """What its schema must have."""
    content: type[Content] = Content
    identify: Callable[[str | None, Record], tuple[str, int] | None] = identify
    check: Callable[..., Any] = SymbolCheck
    lookup: Callable[[Any, str, int], Any] = Cursor
    """What the check of a symbol compares with: made of the ledger, the symbol and the size of a page."""
    numbered: bool = True
    """Whether every number has a record or a void."""
    of_interval: str = ""
    """Of a topic that has bars of several intervals: the one that is judged."""

    def passed(self, totals: Totals, symbols: int) -> str:
        """What a PASS says."""
        if self.numbered:
            return (
                f"{totals.committed:,} of {totals.ledger:,} {self.noun} of {symbols} symbols are in the topic exactly "
                f"once, in order and unaltered; {totals.voids:,} ids are void"
            )
        return (
            f"{totals.committed:,} {self.noun} of {symbols} symbols are in the topic once and in order, "
            f"{totals.ledger:,} of them compared with the exchange's; {totals.breaks:,} declared breaks, "
            f"{totals.snapshots:,} comparisons of whole books"
        )


@dataclass
class Outcome:
    """What the audit found, as far as it came."""

    verdict: Verdict = "INCONCLUSIVE"
    reason: str = "the audit did not come to an end"
    totals: Totals = field(default_factory=Totals)
    symbols: dict[str, Any] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    records: int = 0
    seconds: float = 0.0
    open_transactions: int = 0
    corrected: list[str] = field(default_factory=list)
    """Positions that `ingest positions rebuild` has set back."""
    foreign: int = 0
    """Records of the positions topic that are none of this service's."""
    foreign_examples: list[str] = field(default_factory=list)
    covers_from: float = 0.0
    """When the oldest record that was judged was written, seconds since 1970; 0 if nothing was left out."""
    covers_to: float = 0.0
    """When reading began, seconds since 1970: all that was written before is judged; 0 if nothing was read."""


class Audit:
    """Compares one topic with one ledger."""

    def __init__(
        self,
        trades: TopicReader,
        positions: TopicReader | None,
        ledger: Ledger,
        decoder: Decoder,
        *,
        symbols: Collection[str] = (),
        expect_to_head: bool = False,
        settle_seconds: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
        shards: int | None = None,
        clock_tolerance_seconds: float = CLOCK_TOLERANCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        progress: Callable[[int], None] = lambda _: None,
        stream: Audited | None = None,
    ) -> None:
        """``stream``: what the topic has, trades by default.

        ``symbols``: only these, and each of them must be there; none means all that the topics have.

        ``positions``: None to audit the trades alone, from each symbol's first record on. ``shards``: by default as
        ``Positions.number_of_shards`` has it. ``progress`` is called now and then with the number of records.
        """
        self._shards = shards
        self._tolerance = clock_tolerance_seconds
        self._now_us = now_us
        self._no_positions = ""
        """Why the positions could not be read, though they should be."""
        self._progress = progress
        self._trades = trades
        self._position_reader = positions
        self._ledger = ledger
        self._decode = decoder.decode
        self._wanted = frozenset(symbols)
        self._expect_to_head = expect_to_head
        self._settle_seconds = settle_seconds
        self._sleep = sleep
        self._clock = clock
        self._violations = Violations()
        self._stream = stream or Audited()
        self._positions = Positions(self._stream.name)
        self._listed: dict[str, LedgerSymbol] | None = None
        self._known: dict[str, LedgerSymbol | None] = {}
        self._checks: dict[str, Any] = {}
        self._by_key: dict[bytes | None, Any] = {}
        self._without_schema: dict[bytes | None, str] = {}
        """Key -> why nothing more is said about its records: the registry lacks the schema of one."""
        self._page = 0
        self._accounted: dict[str, int] = {}
        self._records = 0
        self._reading_since = 0.0

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
        outcome.corrected = self._positions.corrected
        outcome.foreign = self._positions.foreign
        outcome.foreign_examples = self._positions.foreign_examples
        outcome.covers_from = self._trades.covers_from
        outcome.covers_to = self._reading_since
        return outcome

    def _read(self) -> None:
        self._listed = self._ledger.symbols()
        self._start_positions()
        self._trades.start()
        self._reading_since = self._now_us() / 1e6
        self._drain_positions()
        self._accounted = {symbol: position.last_id for symbol, position in self._positions.positions.items()}
        self._page = page_size(len(self._wanted) or len(self._accounted) or len(self._listed or ()) or 100)
        self._trades.drain(self._take)
        self._drain_positions()
        if self._expect_to_head:
            self._read_to_head()

    def _read_to_head(self) -> None:
        """Fix the ledger's last ids, then read what the topic has gained by the time it must have them."""
        for symbol in sorted({*self._positions.positions, *self._checks, *self._wanted}):
            self._state(symbol)
        for _, check in self._judged():
            check.verify_head()
        self._sleep(self._settle_seconds)
        self._trades.drain(self._take)
        self._drain_positions()

    def _start_positions(self) -> None:
        if self._position_reader is None:
            return
        try:
            self._position_reader.start()
        except NoTopic as error:
            self._position_reader, self._no_positions = None, str(error)

    def _drain_positions(self) -> None:
        if self._position_reader is not None:
            self._position_reader.drain(self._take_positions)
            self._positions.require_format()

    def _take_positions(self, messages: list[Message]) -> None:
        for message in messages:
            self._positions.take(message.partition() or 0, _raw(message.key()), _raw(message.value()))

    def _take(self, messages: list[Message]) -> None:
        by_key, decode, now_us, interval = self._by_key, self._decode, self._now_us(), self._stream.of_interval
        for message in messages:
            key, value, partition = _raw(message.key()), _raw(message.value()), message.partition() or 0
            if self._without_schema and key in self._without_schema:
                self._skip(message, key)
                continue
            try:
                record = decode(value or b"")
            except SchemaMissing as error:
                self._skip(message, key, str(error))
                continue
            except Unreadable as error:
                self._unreadable(message, key, str(error))
                continue
            if interval and record.get("interval") != interval:
                continue
            check = by_key.get(key)
            written_us = min(now_us, message.timestamp()[1] * 1000 + 999)
            if check is None or not check.accept(partition, key, record, written_us):
                self._look_closer(message, key, record, written_us)
        self._records += len(messages)
        self._progress(self._records)

    def _look_closer(self, message: Message, key: bytes | None, record: Record, written_us: int) -> None:
        found = self._stream.identify(key.decode(errors="replace") if key is not None else None, record)
        if found is None:
            self._unreadable(message, key, "neither symbol nor trade id can be read")
        elif not self._wanted or found[0] in self._wanted:
            check = self._check(found[0], message.partition() or 0)
            check.take(message.partition() or 0, message.offset() or 0, key, found[1], record, written_us)

    def _skip(self, message: Message, key: bytes | None, why: str = "") -> None:
        """A record without its schema may be any id: neither it nor what follows under its key can be judged."""
        symbol = key.decode(errors="replace") if key else UNKNOWN
        if self._wanted and symbol not in self._wanted and symbol != UNKNOWN:
            return
        self._without_schema.setdefault(key, why)
        self._check(symbol, message.partition()).totals.unjudged += 1

    def _judged(self) -> Iterator[tuple[str, Any]]:
        """Symbols of which all records could be read."""
        skipped = {key.decode(errors="replace") if key else UNKNOWN for key in self._without_schema}
        return ((symbol, check) for symbol, check in self._checks.items() if symbol not in skipped)

    def _unreadable(self, message: Message, key: bytes | None, why: str) -> None:
        symbol = key.decode(errors="replace") if key else UNKNOWN
        if not self._wanted or symbol in self._wanted or symbol == UNKNOWN:
            self._check(symbol, message.partition()).unreadable(message.partition() or 0, message.offset() or 0, why)

    def _check(self, symbol: str, partition: int | None) -> Any:
        check = self._checks.get(symbol)
        if check is None:
            known = self._state(symbol)
            position = self._positions.positions.get(symbol)
            lows = self._trades.lows
            check = self._checks[symbol] = self._stream.check(
                symbol,
                self._lookup(symbol, known),
                self._violations,
                first_id=None if position is None else position.first_id,
                truncated=any(lows.values()) if partition is None else lows[partition] > 0,
                assets=None if known is None else known.assets,
                voids_known=self._position_reader is not None,
                clock_tolerance_seconds=self._tolerance,
                content=self._stream.content,
            )
            self._by_key[symbol.encode()] = check
        return check

    def _lookup(self, symbol: str, known: LedgerSymbol | None) -> Any:
        if known is None and self._stream.numbered:
            return NoTrades(complete=self._ledger.complete)
        return self._stream.lookup(self._ledger, symbol, self._page)

    def _state(self, symbol: str) -> LedgerSymbol | None:
        """The ledger's state of the symbol when the audit began, or when the symbol turned up."""
        if symbol not in self._known:
            listed = (self._listed or {}).get(symbol)
            self._known[symbol] = listed or (None if symbol == UNKNOWN else self._ledger.symbol(symbol))
        return self._known[symbol]

    def _number_of_shards(self) -> int | None:
        """None where it is not known. Raises ``Inconclusive`` if it was changed meanwhile."""
        partitions = 1 if self._position_reader is None else len(self._position_reader.lows)
        stored = self._positions.number_of_shards(partitions)
        return self._shards or stored

    def _judge(self) -> tuple[Verdict, str]:
        shards = self._number_of_shards()
        for symbol in self._positions.positions:
            if not self._wanted or symbol in self._wanted:
                self._check(symbol, None)
        for symbol, what, expected, found in self._positions.faults:
            if not self._wanted or symbol in self._wanted or symbol == UNKNOWN:
                self._check(symbol, None).wrong_position(what, expected, found)
        for symbol, check in list(self._judged()):
            known = self._state(symbol)
            head = known.last_id if known is not None and self._expect_to_head else None
            check.finish(self._positions.voids_of(symbol), self._accounted.get(symbol), head, known)
            if self._position_reader is not None:
                self._positions.check(symbol, check, shards, counted=self._stream.numbered)
        totals = Totals()
        for check in self._checks.values():
            totals.add(check.totals)
        if totals.violations:
            return "FAIL", _wrong(totals)
        unknown = "; ".join(self._unknown(totals, shards))
        if unknown:
            return "INCONCLUSIVE", unknown
        return "PASS", self._stream.passed(totals, len(self._checks))

    def _unknown(self, totals: Totals, shards: int | None) -> Iterator[str]:
        """Why the verdict cannot be PASS although nothing is wrong."""
        absent = sorted(self._wanted - self._checks.keys())
        if absent:
            yield f"neither the topic nor the positions have {', '.join(absent)}"
        elif not totals.committed:
            yield f"the topic has no {self._stream.noun}: nothing was audited"
        if self._no_positions:
            yield (
                f"{self._no_positions}: voids and what lies before each symbol's first record were not judged "
                "(--without-positions audits the trades alone)"
            )
        if shards is None and self._position_reader is not None:
            yield "the positions topic does not show its number of shards: pass --shards N (K2_SHARD_COUNT)"
        if self._without_schema:
            why = ", ".join(sorted(set(self._without_schema.values())))
            yield (
                f"{why}: records of {len(self._without_schema)} symbols cannot be read. Restore the registry, or "
                "register the schema under that id (mode IMPORT), and audit again"
            )
        unjudged = [check for _, check in self._judged() if check.totals.unjudged]
        if unjudged:
            number = sum(check.totals.unjudged for check in unjudged)
            yield (
                f"{number:,} records or ids of {_some(unjudged)} are not within the ledger's history: "
                "it begins later, ends earlier or does not list the symbol"
            )
        no_assets = [check for check in self._checks.values() if check.totals.committed and not check.assets_known]
        if no_assets:
            yield f"the ledger does not name base and quote asset of {_some(no_assets)}: the currency was not judged"


def _some(checks: Sequence[SymbolCheck]) -> str:
    names = sorted(check.symbol for check in checks)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more symbols" if len(names) > 5 else "")


def _wrong(totals: Totals) -> str:
    names = [kind for kind in KINDS if kind != "unknown"]
    return ", ".join(f"{getattr(totals, name):,} {name.replace('_', ' ')}" for name in names if getattr(totals, name))


def _raw(value: object) -> bytes | None:
    return value if isinstance(value, bytes) else None
