"""One symbol's trades, every one it ever had, in columns.

Nothing here knows the client: tests compare the client's output with the ledger.
Prices and quantities are integers in units of 1e-8, times are epoch microseconds, the clock is the caller's.
A trade costs 25 bytes and its aggregate 8, so tens of millions fit; `SymbolLedger.trim` bounds the rest.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from typing import Any, Self

from ingest.simulator.operations import Journal
from ingest.simulator.segments import INT64_MAX, Aggregate, Columns, Row, Segment


class SymbolLedger:
    """One symbol's trades, in the order in which they happened.

    Besides its id every trade has a sequence number, counting from 0 in the order of `append`: ids jump and may
    even fall (`restart_at`), sequence numbers never do. Ranges of sequence numbers select what an endpoint may show.
    Times are expected to be non-decreasing; everything that looks up by time relies on it.
    """

    def __init__(
        self,
        symbol: str,
        base_asset: str,
        quote_asset: str,
        first_id: int,
        *,
        status: str = "TRADING",
        tick_size: str = "0.01000000",
        step_size: str = "0.00001000",
    ) -> None:
        if first_id < 0:
            raise ValueError(f"{symbol}: first_id must not be negative, got {first_id}")
        self.symbol = symbol
        self.base_asset = base_asset
        self.quote_asset = quote_asset
        self.status = status
        self.tick_size = tick_size
        self.step_size = step_size
        self.first_id = first_id
        self.former: list[tuple[int, int]] = []
        """First and last id of the trades before the symbol was listed again: the exchange no longer has them."""
        self.voids: list[tuple[int, int]] = []
        """First and last id (both inclusive) of the ranges that exist nowhere, ascending."""
        self.malformed_text: dict[int, tuple[str, str]] = {}
        """Price and quantity of the trades that the exchange itself writes in a way that is no proper decimal."""
        self.journal: Journal | None = None
        """Where every change is recorded, under ``number``."""
        self.number = 0
        self.last_us = 0
        """The time of the newest trade, 0 before the first."""
        self.sent_trades = 0
        """Trades ever appended, the forgotten ones included."""
        self._next_id = first_id
        self._next_agg = first_id // 2  # never equal to the trade id, so that mixing them up shows
        self._segments: list[Segment] = []  # as they happened
        self._by_id: list[Segment] = []
        self._closed: list[tuple[int, int]] = []  # id ranges of ended segments, kept when their rows are forgotten
        self._open: Segment | None = None
        self._ceiling = INT64_MAX  # first id that must not be given out: it is taken already
        self._held_from = 0  # sequence number of the oldest remembered trade
        self._latest: tuple[int, int, bool] | None = None

    @property
    def next_id(self) -> int:
        """The id of the next trade."""
        return self._next_id

    @property
    def last_id(self) -> int:
        """The highest id given out since the last restart, whether to a trade or to a void."""
        return self._next_id - 1

    @property
    def held(self) -> range:
        """Sequence numbers of the remembered trades."""
        return range(self._held_from, self.sent_trades)

    @property
    def floor_id(self) -> int:
        """The lowest id that is remembered; `next_id` when there is none."""
        for segment in self._by_id:
            if segment.lo < segment.end:
                return segment.first_id + segment.lo
        return self._next_id

    @property
    def forgotten(self) -> bool:
        """Whether the oldest trades are no longer remembered."""
        return self._held_from > 0

    def id_ranges(self) -> list[tuple[int, int]]:
        """First and last id of each run of trades, the forgotten ones included."""
        return [*self._closed, *([] if self._open is None else [(self._open.first_id, self._next_id - 1)])]

    def append(self, price: int, quantity: int, time_us: int, buyer_is_maker: bool) -> int:  # noqa: FBT001
        """Record one trade and return its id.

        Raises ValueError for numbers that are not positive 64-bit ones, and when the id is taken already.
        """
        if not (0 < price <= INT64_MAX and 0 < quantity <= INT64_MAX and 0 < time_us <= INT64_MAX):
            raise ValueError(
                f"{self.symbol}: price {price}, quantity {quantity} and time {time_us} must be positive and fit 64 bits"
            )
        trade_id = self._next_id
        if trade_id >= self._ceiling:
            raise ValueError(f"{self.symbol}: id {trade_id} is taken already; restart_at() an id that is free")
        segment = self._open
        if segment is None:
            segment = self._begin()
        key = (price, time_us, buyer_is_maker)
        if key != self._latest:
            self._latest = key
            self.last_us = time_us
            segment.agg_starts.append(trade_id - segment.first_id)
            self._next_agg += 1
        segment.prices.append(price)
        segment.quantities.append(quantity)
        segment.times.append(time_us)
        segment.makers.append(buyer_is_maker)
        self.sent_trades += 1
        self._next_id = trade_id + 1
        if self.journal is not None:
            self.journal.trade(self.number, price, quantity, time_us, buyer_is_maker)
        return trade_id

    def seal(self) -> None:
        """Complete the newest aggregate, because it has been sent: the next trade begins another one."""
        if self._latest is not None:
            self._latest = None
            if self.journal is not None:
                self.journal.seal(self.number)

    def void(self, count: int) -> tuple[int, int]:
        """Reserve `count` ids that exist nowhere; returns the first and the last of them."""
        if count < 1:
            raise ValueError(f"{self.symbol}: a void needs at least one id, got {count}")
        first, last = self._next_id, self._next_id + count - 1
        if last >= self._ceiling:
            raise ValueError(f"{self.symbol}: void {first}..{last} reaches id {self._ceiling}, which is taken already")
        self._close()
        self._next_id = last + 1
        insort(self.voids, (first, last))
        if self.journal is not None:
            self.journal.void(self.number, count)
        return first, last

    def restart_at(self, trade_id: int) -> None:
        """Continue with another id, up or down: the fault of a venue that resets or jumps its ids.

        What happened so far stays where it is. The skipped ids are not recorded as a void.
        Raises ValueError when the id is taken already.
        """
        if not 0 <= trade_id < INT64_MAX:
            raise ValueError(f"{self.symbol}: restart_at needs an id from 0 to 2**63 - 2, got {trade_id}")
        taken = self._taken()
        for first, last in taken:
            if first <= trade_id <= last:
                raise ValueError(f"{self.symbol}: id {trade_id} lies in {first}..{last}, which is taken already")
        self._close()
        self._ceiling = min((first for first, _ in taken if first > trade_id), default=INT64_MAX)
        self._next_id = trade_id
        if self.journal is not None:
            self.journal.restart(self.number, trade_id)

    def change_status(self, status: str) -> None:
        """Change the status that the exchange lists."""
        self.status = status
        if self.journal is not None:
            self.journal.change("status", symbol=self.symbol, status=status)

    def misspell(self, trade_id: int, price: str, quantity: str) -> None:
        """Write a trade's price and quantity with these texts from now on."""
        self.malformed_text[trade_id] = (price, quantity)
        if self.journal is not None:
            self.journal.change("misspell", number=self.number, id=trade_id, price=price, quantity=quantity)

    def is_free(self, trade_id: int) -> bool:
        """Whether an id was never given out."""
        return not any(first <= trade_id <= last for first, last in self._taken())

    def _taken(self) -> list[tuple[int, int]]:
        current = [] if self._open is None else [(self._open.first_id, self._next_id - 1)]
        return [*self._closed, *self.voids, *current]

    def get(self, trade_id: int) -> Row | None:
        """The trade with this id, or None when it never existed or is forgotten."""
        position = bisect_right(self._by_id, trade_id, key=_first_id) - 1
        if position < 0:
            return None
        segment = self._by_id[position]
        index = trade_id - segment.first_id
        return next(segment.rows(index, index + 1)) if segment.lo <= index < segment.end else None

    def rows(self, from_id: int, limit: int, *, within: range | None = None) -> list[Row]:
        """Up to `limit` trades with ids from `from_id` on, ascending; voids and forgotten ids are skipped.

        `within` limits the answer to these sequence numbers.
        """
        low, high = self._bounds(within)
        found: list[Row] = []
        position = max(0, bisect_right(self._by_id, from_id, key=_first_id) - 1)
        for segment in map(self._by_id.__getitem__, range(position, len(self._by_id))):
            start = max(segment.lo, from_id - segment.first_id, low - segment.seq)
            stop = min(segment.end, high - segment.seq, start + limit - len(found))
            if start < stop:
                found.extend(segment.rows(start, stop))
            if len(found) >= limit:
                break
        return found

    def newest(self, limit: int, *, within: range | None = None) -> list[Row]:
        """The last `limit` trades in the order in which they happened."""
        low, high = self._bounds(within)
        low = max(low, high - limit)
        found: list[Row] = []
        for segment, start, stop in self._spans(low, high):
            found.extend(segment.rows(start, stop))
        return found

    def columns(self, within: range) -> Iterator[Columns]:
        """The remembered trades among these sequence numbers, run by run, as they happened."""
        low, high = self._bounds(within)
        for segment, start, stop in self._spans(low, high):
            part = slice(start - segment.cut, stop - segment.cut)
            yield Columns(
                segment.first_id + start,
                segment.prices[part],
                segment.quantities[part],
                segment.times[part],
                segment.makers[part],
            )

    def sequence_at(self, time_us: int) -> int:
        """The sequence number of the first remembered trade at or after a time; `sent_trades` when there is none."""
        for segment in reversed(self._segments):
            if segment.lo < segment.end and segment.times[segment.lo - segment.cut] < time_us:
                return segment.seq + segment.index_at(time_us)
        return self._held_from

    def aggregates(
        self, limit: int, *, from_agg: int = 0, within: range | None = None, newest: bool = False
    ) -> list[Aggregate]:
        """Up to `limit` aggregates with ids from `from_agg` on that begin within these sequence numbers.

        The oldest of them, or with `newest` the last ones; always ascending. Ids of aggregates are contiguous and
        each begins after the last trade of the one before. One whose first trade is forgotten is forgotten.
        """
        low, high = self._bounds(within)
        found: list[Aggregate] = []
        segments = reversed(self._segments) if newest else iter(self._segments)
        for segment in segments:
            start, stop = segment.aggregates(low - segment.seq, high - segment.seq)
            start = max(start, from_agg - segment.first_agg)
            room = limit - len(found)
            if newest:
                start = max(start, stop - room)
                found.extend(segment.aggregate(position) for position in range(stop - 1, start - 1, -1))
            else:
                found.extend(segment.aggregate(position) for position in range(start, min(stop, start + room)))
            if len(found) >= limit:
                break
        if newest:
            found.reverse()
        return found

    def trim(self, keep: int) -> None:
        """Forget all but the newest `keep` trades; cheap enough to be called every second."""
        if keep < 0:
            raise ValueError(f"{self.symbol}: cannot keep {keep} trades")
        floor = max(self._held_from, self.sent_trades - keep)
        self._held_from = floor
        dropped = 0
        for segment in self._segments:
            if segment.seq >= floor:
                break
            lo = floor - segment.seq
            if lo >= segment.end and segment is not self._open:
                dropped += 1
                continue
            segment.forget(min(lo, segment.end))
            break
        if dropped:
            gone = set(map(id, self._segments[:dropped]))
            del self._segments[:dropped]
            self._by_id = [segment for segment in self._by_id if id(segment) not in gone]

    def state(self) -> dict[str, Any]:
        """Everything but the trades, as JSON takes it."""
        current = self._open
        return {
            "number": self.number,
            "symbol": self.symbol,
            "base_asset": self.base_asset,
            "quote_asset": self.quote_asset,
            "first_id": self.first_id,
            "status": self.status,
            "tick_size": self.tick_size,
            "step_size": self.step_size,
            "former": self.former,
            "voids": self.voids,
            "malformed_text": sorted(self.malformed_text.items()),
            "sent_trades": self.sent_trades,
            "last_us": self.last_us,
            "next_id": self._next_id,
            "next_agg": self._next_agg,
            "closed": self._closed,
            "open": None if current is None else (current.first_id, current.seq),
            "ceiling": self._ceiling,
            "latest": self._latest,
        }

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Self:
        """The ledger of a state, which has forgotten all of its trades."""
        made = cls(
            state["symbol"], state["base_asset"], state["quote_asset"], state["first_id"], status=state["status"],
            tick_size=state["tick_size"], step_size=state["step_size"],
        )  # fmt: skip
        made.number = state["number"]
        made.former = _pairs(state["former"])
        made.voids = _pairs(state["voids"])
        made.malformed_text = {trade_id: (price, quantity) for trade_id, (price, quantity) in state["malformed_text"]}
        made.sent_trades = made._held_from = state["sent_trades"]
        made.last_us = state["last_us"]
        made._next_id = state["next_id"]
        made._next_agg = state["next_agg"]
        made._closed = _pairs(state["closed"])
        made._ceiling = state["ceiling"]
        if state["open"] is not None:
            segment = Segment(state["open"][0], state["open"][1], state["next_agg"])
            segment.lo = segment.cut = made._next_id - segment.first_id
            made._segments, made._by_id, made._open = [segment], [segment], segment
        if state["latest"] is not None:
            price, time_us, maker = state["latest"]
            made._latest = (price, time_us, maker)
        return made

    def _begin(self) -> Segment:
        segment = Segment(self._next_id, self.sent_trades, self._next_agg)
        self._segments.append(segment)
        insort(self._by_id, segment, key=_first_id)
        self._open = segment
        self._latest = None
        return segment

    def _close(self) -> None:
        if self._open is not None:
            self._closed.append((self._open.first_id, self._next_id - 1))
            self._open = None

    def _bounds(self, within: range | None) -> tuple[int, int]:
        if within is None:
            return self._held_from, self.sent_trades
        return max(self._held_from, within.start), min(self.sent_trades, within.stop)

    def _spans(self, low: int, high: int) -> Iterator[tuple[Segment, int, int]]:
        position = max(0, bisect_right(self._segments, low, key=_sequence) - 1)
        for segment in map(self._segments.__getitem__, range(position, len(self._segments))):
            if segment.seq >= high:
                return
            start, stop = max(segment.lo, low - segment.seq), min(segment.end, high - segment.seq)
            if start < stop:
                yield segment, start, stop


def _first_id(segment: Segment) -> int:
    return segment.first_id


def _sequence(segment: Segment) -> int:
    return segment.seq


def _pairs(found: list[list[int]]) -> list[tuple[int, int]]:
    return [(first, last) for first, last in found]
