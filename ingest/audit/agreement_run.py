"""Reads the topics of all streams, one after the other, and judges whether they agree with each other."""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from confluent_kafka import Message

from ingest.audit.agreement import TAKEN, Agreement
from ingest.audit.decode import Decoder, Unreadable
from ingest.audit.model import Inconclusive, Violations
from ingest.audit.run import Outcome
from ingest.audit.topic import NoTopic, TopicReader


class AgreementAudit:
    """Compares topics with each other."""

    def __init__(
        self,
        topics: Mapping[str, tuple[TopicReader, Decoder]],
        *,
        symbols: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """``topics``: by the keys of ``agreement.TAKEN``; one that does not exist is left out and named."""
        self._topics = topics
        self._wanted = frozenset(symbols)
        self._clock = clock
        self._progress = progress
        self._violations = Violations()
        self._symbols: dict[str, Agreement] = {}
        self._absent: list[str] = []
        self._unreadable = 0
        self._records = 0

    def run(self) -> Outcome:
        """Read everything and judge it. Never raises ``Inconclusive``: it is a verdict."""
        began = self._clock()
        outcome = Outcome()
        try:
            for name in TAKEN:
                self._read(name)
            self._judge(outcome)
        except Inconclusive as error:
            outcome.reason = str(error)
        outcome.symbols = dict(sorted(self._symbols.items()))
        outcome.violations = self._violations.examples
        outcome.records = self._records
        outcome.seconds = self._clock() - began
        return outcome

    def _read(self, name: str) -> None:
        reader, decoder = self._topics[name]
        take = TAKEN[name]

        def taken(messages: list[Message]) -> None:
            for message in messages:
                self._take(take, decoder, message)
            self._records += len(messages)
            self._progress(self._records)

        try:
            reader.start()
        except NoTopic as error:
            self._absent.append(str(error))
            return
        reader.drain(taken)

    def _take(self, take: Callable[[Agreement, Any], None], decoder: Decoder, message: Message) -> None:
        value = message.value()
        try:
            record = decoder.decode(value if isinstance(value, bytes) else b"")
            symbol = str(record["symbol"])
            if self._wanted and symbol not in self._wanted:
                return
            held = self._symbols.get(symbol)
            if held is None:
                held = self._symbols[symbol] = Agreement(symbol, self._violations)
            take(held, record)
        except (Unreadable, KeyError, TypeError, ValueError):
            self._unreadable += 1

    def _judge(self, outcome: Outcome) -> None:
        for one in self._symbols.values():
            one.finish()
            outcome.totals.add(one.totals)
        totals = outcome.totals
        unequal = sum(one.unequal_quotes for one in self._symbols.values())
        compared = (
            f"{totals.committed:,} aggregates and bars compared with trades, {totals.snapshots:,} tops of books with "
            f"quotes, {unequal:,} of them unequal"
        )
        if totals.disagreement:
            outcome.verdict, outcome.reason = "FAIL", f"{totals.disagreement:,} disagreements; {compared}"
        elif self._unreadable or self._absent or not (totals.committed and totals.snapshots):
            parts = [*self._absent, *([f"{self._unreadable:,} records cannot be read"] if self._unreadable else [])]
            outcome.reason = "; ".join([*parts, compared])
        else:
            outcome.verdict, outcome.reason = "PASS", compared
