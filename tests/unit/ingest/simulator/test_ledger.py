"""The ledger against a dict: whatever happens to ids, rows come back as they went in."""

from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.simulator import segments as module
from ingest.simulator.ledger import INT64_MAX, Aggregate, Ledger, Row, SymbolLedger, decimal

FIRST = 1000


@dataclass
class Naive:
    """What the ledger must equal, written so that it cannot be wrong."""

    next_id: int = FIRST
    rows: dict[int, Row] = field(default_factory=dict)  # in the order in which they happened
    breaks: set[int] = field(default_factory=set)  # ids whose predecessor in time is not their predecessor in id
    held: int = 10**9
    voids: list[tuple[int, int]] = field(default_factory=list)

    def free(self, trade_id: int) -> bool:
        return trade_id not in self.rows and not any(first <= trade_id <= last for first, last in self.voids)

    def remembered(self) -> list[Row]:
        rows = list(self.rows.values())
        return rows[max(0, len(rows) - self.held) :]

    def trim(self, keep: int) -> None:
        self.held = min(self.held, keep)

    def append(self, row: Row) -> None:
        self.rows[row[0]] = row
        self.held += 1
        self.next_id = row[0] + 1

    def all_aggregates(self) -> list[Aggregate]:
        found: list[Aggregate] = []
        number = FIRST // 2
        before: Row | None = None
        for row in self.rows.values():
            same = before is not None and before[1::2] == row[1::2] and before[4] == row[4]
            if found and same and row[0] not in self.breaks:
                last = found[-1]
                found[-1] = last._replace(quantity=last.quantity + row[2], last_id=row[0])
            else:
                found.append(Aggregate(number, row[1], row[2], row[0], row[0], row[3], row[4]))
                number += 1
            before = row
        return found


operation = st.one_of(
    st.tuples(
        st.just("append"), st.integers(1, 3), st.integers(1, 9), st.integers(0, 1), st.booleans(), st.integers(1, 8)
    ),
    st.tuples(st.just("void"), st.integers(1, 5)),
    st.tuples(st.just("restart"), st.integers(FIRST - 200, FIRST + 200)),
    st.tuples(st.just("trim"), st.integers(0, 40)),
)


def play(operations: list[tuple]) -> tuple[SymbolLedger, Naive]:  # type: ignore[type-arg]
    real = SymbolLedger("BTCUSDT", "BTC", "USDT", FIRST)
    naive = Naive()
    now = 1
    for name, *arguments in operations:
        if name == "append":
            price, quantity, step, maker, repeat = arguments
            now += step
            for _ in range(repeat):
                if not naive.free(naive.next_id):
                    with pytest.raises(ValueError, match="taken already"):
                        real.append(price, quantity, now, maker)
                    break
                row = (naive.next_id, price, quantity, now, maker)
                assert real.append(price, quantity, now, maker) == row[0]
                naive.append(row)
        elif name == "void":
            (count,) = arguments
            span = (naive.next_id, naive.next_id + count - 1)
            if all(naive.free(trade_id) for trade_id in range(span[0], span[1] + 1)):
                assert real.void(count) == span
                naive.voids.append(span)
                naive.next_id = span[1] + 1
                naive.breaks.add(naive.next_id)
            else:
                with pytest.raises(ValueError, match="taken already"):
                    real.void(count)
        elif name == "restart":
            (target,) = arguments
            if naive.free(target):
                real.restart_at(target)
                naive.next_id = target
                naive.breaks.add(target)
            else:
                with pytest.raises(ValueError, match="taken already"):
                    real.restart_at(target)
        else:
            (keep,) = arguments
            real.trim(keep)
            naive.trim(keep)
    return real, naive


@given(st.lists(operation, max_size=40), st.integers(FIRST - 210, FIRST + 300), st.integers(0, 30), st.data())
def test_equals_a_dict(operations: list[tuple], from_id: int, limit: int, data: st.DataObject) -> None:  # type: ignore[type-arg]
    compact = module._COMPACT
    module._COMPACT = 3  # so that short histories reach the code that moves rows
    try:
        real, naive = play(operations)
    finally:
        module._COMPACT = compact
    held = naive.remembered()
    total = len(naive.rows)
    oldest = total - len(held)
    assert (real.next_id, real.last_id, real.sent_trades) == (naive.next_id, naive.next_id - 1, total)
    assert real.voids == sorted(naive.voids)
    assert real.held == range(oldest, total)
    assert real.floor_id == min((row[0] for row in held), default=naive.next_id)
    by_id = sorted(row for row in held if row[0] >= from_id)
    assert real.rows(from_id, limit) == by_id[:limit]
    assert real.newest(limit) == held[len(held) - min(limit, len(held)) :]
    for trade_id in range(FIRST - 210, FIRST + 300):
        assert real.get(trade_id) == next((row for row in held if row[0] == trade_id), None)

    low, high = sorted((data.draw(st.integers(0, total)), data.draw(st.integers(0, total))))
    within = range(low, high)
    inside = list(naive.rows.values())[max(low, oldest) : high]
    assert real.rows(from_id, limit, within=within) == sorted(row for row in inside if row[0] >= from_id)[:limit]
    assert real.newest(limit, within=within) == inside[len(inside) - min(limit, len(inside)) :]
    columns = [
        (run.first_id + index, price, quantity, time)
        for run in real.columns(within)
        for index, (price, quantity, time) in enumerate(zip(run.prices, run.quantities, run.times, strict=True))
    ]
    assert columns == [row[:4] for row in inside]
    last_time = next(reversed(naive.rows.values()))[3] if naive.rows else 1
    for time_us in range(last_time + 2):
        assert real.sequence_at(time_us) == oldest + sum(row[3] < time_us for row in held)


@given(st.lists(operation, max_size=40), st.integers(1, 20), st.integers(0, 60), st.data())
def test_aggregates_equal_a_plain_loop(operations: list[tuple], limit: int, skip: int, data: st.DataObject) -> None:  # type: ignore[type-arg]
    real, naive = play(operations)
    sequence = {trade_id: index for index, trade_id in enumerate(naive.rows)}
    everything = naive.all_aggregates()
    assert [after.agg_id - before.agg_id for before, after in pairwise(everything)] == [1] * max(0, len(everything) - 1)
    low, high = sorted((data.draw(st.integers(0, len(sequence))), data.draw(st.integers(0, len(sequence)))))
    low = max(low, real.held.start)
    start = FIRST // 2 + skip
    expected = [a for a in everything if a.agg_id >= start and low <= sequence[a.first_id] < high]
    assert real.aggregates(limit, from_agg=start, within=range(low, high)) == expected[:limit]
    assert real.aggregates(limit, from_agg=start, within=range(low, high), newest=True) == expected[-limit:]


def test_trimming_frees_memory_and_keeps_rows_right() -> None:
    real = SymbolLedger("BTCUSDT", "BTC", "USDT", FIRST)
    for index in range(50_000):
        real.append(100 + index % 7, 1 + index, 1 + index, index % 2 == 0)
        if index % 1000 == 0:
            real.trim(2000)
    real.trim(2000)
    assert real.floor_id == FIRST + 48_000
    assert len(real._segments[0].prices) <= 2 * 2000 + module._COMPACT
    assert real.rows(0, 1) == [(FIRST + 48_000, 100 + 48_000 % 7, 48_001, 48_001, True)]
    assert real.get(FIRST + 47_999) is None
    assert real.sent_trades == 50_000


@pytest.mark.parametrize("bad", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1), (INT64_MAX + 1, 1, 1), (1, 1, 2**63)])
def test_a_refused_trade_leaves_no_trace(bad: tuple[int, int, int]) -> None:
    real = SymbolLedger("BTCUSDT", "BTC", "USDT", FIRST)
    with pytest.raises(ValueError, match="64 bits"):
        real.append(*bad, True)
    assert (real.next_id, real.sent_trades, real.rows(0, 10)) == (FIRST, 0, [])


@given(st.integers(-(2**70), 2**70))
def test_decimal_is_exact(units: int) -> None:
    text = decimal(units)
    whole, fraction = text.lstrip("-").split(".")
    assert len(fraction) == 8
    assert str(int(whole)) == whole
    assert int(whole + fraction) * (-1 if text[0] == "-" else 1) == units


def test_decimal_examples() -> None:
    assert [decimal(n) for n in (0, 1, 100_000_000, 12_345_000_000, -5)] == [
        "0.00000000",
        "0.00000001",
        "1.00000000",
        "123.45000000",
        "-0.00000005",
    ]


def test_a_symbol_is_listed_once() -> None:
    ledger = Ledger()
    listed = ledger.add("BTCUSDT", "BTC", "USDT", 5, tick_size="0.10000000")
    assert ledger.symbols == {"BTCUSDT": listed}
    assert (listed.first_id, listed.floor_id, listed.tick_size, listed.status) == (5, 5, "0.10000000", "TRADING")
    with pytest.raises(ValueError, match="listed already"):
        ledger.add("BTCUSDT", "BTC", "USDT", 5)
