"""The judgement of one symbol: a clean stream passes, and every mutation moves exactly its own counter."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.audit.check_base import Totals
from ingest.audit.checks import SymbolCheck
from ingest.audit.content import identify
from ingest.audit.model import KINDS, LedgerSymbol, LedgerTrade, Violations, Void
from tests.harness.audit.books import SYMBOL, WRITTEN_US, Books, record, trade

FAULTS = [*KINDS]


@dataclass
class Case:
    """The books from ``start`` on, with holes; the topic follows them."""

    start: int
    trades: list[LedgerTrade]
    voids: list[Void]
    end: int
    stream: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        return [one.trade_id for one in self.trades]


@st.composite
def cases(draw: st.DrawFn, minimum: int = 3) -> Case:
    start = draw(st.integers(0, 2**40))
    due = start
    trades: list[LedgerTrade] = []
    voids: list[Void] = []
    for length, hole in draw(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=6)):
        if hole:
            voids.append(Void(due, due + hole - 1, "exchange_hole"))
            due += hole
        trades += [trade(due + n) for n in range(length)]
        due += length
    while len(trades) < minimum:
        trades.append(trade(due))
        due += 1
    if draw(st.booleans()):
        voids.append(Void(due, due + 2, "exchange_hole"))
        due += 3
    return Case(start, trades, voids, due - 1, [record(one) for one in trades])


def judge(
    case: Case,
    stream: list[dict[str, Any]] | None = None,
    *,
    voids: list[Void] | None = None,
    pinned: bool = True,
    truncated: bool = False,
    head: int | None = None,
    books: Books | None = None,
) -> tuple[Totals, Violations]:
    violations = Violations()
    books = books or Books(case.trades)
    check = SymbolCheck(SYMBOL, books, violations, first_id=case.start if pinned else None, truncated=truncated)
    for offset, one in enumerate(case.stream if stream is None else stream):
        found = identify(SYMBOL, one)
        assert found is not None
        check.take(0, offset, SYMBOL.encode(), found[1], one, WRITTEN_US)
    check.finish(case.voids if voids is None else voids, case.end, head, LedgerSymbol(case.end, case.start))
    return check.totals, violations


def faults(totals: Totals) -> dict[str, int]:
    return {kind: getattr(totals, kind) for kind in FAULTS if getattr(totals, kind)}


@given(cases())
def test_a_clean_stream_is_clean_and_counted(case: Case) -> None:
    totals, violations = judge(case)
    assert faults(totals) == {}
    assert violations.examples == []
    assert (totals.ledger, totals.committed) == (len(case.trades), len(case.trades))
    assert totals.voids == sum(void.last_id - void.first_id + 1 for void in case.voids)


@given(cases(), st.data())
def test_dropped_records_are_missing(case: Case, data: st.DataObject) -> None:
    dropped = data.draw(st.sets(st.sampled_from(case.ids), min_size=1))
    totals, violations = judge(case, [one for one in case.stream if one["source_sequence"] not in dropped])
    assert faults(totals) == {"missing": len(dropped)}
    assert totals.ledger == len(case.trades) == totals.committed + totals.missing
    assert {one.kind for one in violations.examples} == {"missing"}
    assert min(one.id or 0 for one in violations.examples) == min(dropped)


@given(cases(), st.data())
def test_repeated_records_are_duplicates(case: Case, data: st.DataObject) -> None:
    stream = list(case.stream)
    times = data.draw(st.integers(1, 5))
    for _ in range(times):
        source = data.draw(st.integers(0, len(stream) - 1))
        stream.insert(data.draw(st.integers(source + 1, len(stream))), stream[source])
    totals, _ = judge(case, stream)
    assert faults(totals) == {"duplicated": times}
    assert totals.committed == totals.ledger == len(case.trades)


@given(cases(), st.randoms(use_true_random=False), st.booleans())
def test_any_order_is_judged_as_by_the_naive_rule(case: Case, random: Any, pinned: bool) -> None:
    stream = list(case.stream)
    random.shuffle(stream)
    greatest, late = -1, 0
    for one in stream:
        late += one["source_sequence"] < greatest
        greatest = max(greatest, one["source_sequence"])
    totals, _ = judge(case, stream, pinned=pinned)
    assert faults(totals) == ({"reordered": late} if late else {})
    assert totals.committed == totals.ledger == len(case.trades)


ALTERATIONS: dict[str, Any] = {
    "message_id": "BINANCE-ETHUSDT-1",
    "trade_id": "BINANCE-99999999999999",
    "symbol": "ETHUSDT",
    "exchange": "KRAKEN",
    "asset_class": "equities",
    "timestamp": 1_600_000_000_000,
    "price": b"\x01",
    "quantity": b"\x00",
    "currency": "USDC",
    "side": "UNKNOWN",
    "trade_conditions": ["x"],
    "source_sequence": None,
    "platform_sequence": 1,
    "vendor_data": None,
}


@pytest.mark.parametrize("name", ALTERATIONS)
@given(case=cases(), data=st.data())
def test_an_altered_field_is_named_and_counted_once(name: str, case: Case, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(case.stream) - 1))
    stream = list(case.stream)
    stream[at] = {**stream[at], name: ALTERATIONS[name]}
    totals, violations = judge(case, stream)
    assert faults(totals) == {"altered": 1}
    assert [(one.kind, one.id, one.offset, one.field) for one in violations.examples] == [
        ("altered", case.ids[at], at, name)
    ]


@given(cases())
def test_what_the_exchange_does_not_have_is_unknown(case: Case) -> None:
    gone = case.ids[-1]
    totals, _ = judge(case, books=Books([one for one in case.trades if one.trade_id != gone]))
    assert faults(totals) == {"altered": 1, "unknown": 1}
    assert totals.ledger == len(case.trades) - 1


@given(cases())
def test_a_hole_without_a_void_is_unaccounted(case: Case) -> None:
    width = sum(void.last_id - void.first_id + 1 for void in case.voids)
    totals, _ = judge(case, voids=[])
    assert faults(totals) == ({"unaccounted": width} if width else {})
    assert totals.voids == 0


@given(cases(), st.data(), st.booleans())
def test_a_void_over_a_trade_is_false(case: Case, data: st.DataObject, dropped: bool) -> None:
    at = data.draw(st.sampled_from(case.ids))
    stream = [one for one in case.stream if not (dropped and one["source_sequence"] == at)]
    totals, _ = judge(case, stream, voids=[*case.voids, Void(at, at, "exchange_hole")])
    assert faults(totals) == ({"missing": 1, "false_void": 1} if dropped else {"false_void": 1})


@pytest.mark.parametrize(
    ("odd", "excused"), [("1.000000001", True), ("9" * 31 + ".00000000", True), ("1.5", False), ("1.50000000", False)]
)
def test_only_what_the_schema_cannot_hold_may_be_void_as_unrepresentable(odd: str, excused: bool) -> None:
    trades = [trade(10), trade(11, price=odd), trade(12)]
    case = Case(10, trades, [Void(11, 11, "unrepresentable")], 12)
    totals, _ = judge(case, [record(trades[0]), record(trades[2])])
    assert faults(totals) == ({} if excused else {"missing": 1, "false_void": 1})
    assert totals.ledger == (2 if excused else 3)


EXACT = [
    ("1.5", 150_000_000),
    ("100", 10**10),
    ("12345678901234567890.12345678", 1234567890123456789012345678),
    ("123456789012345678901234567890.12345678", 12345678901234567890123456789012345678),
    ("0.00000001", 1),
]


@pytest.mark.parametrize(("ledger", "written"), EXACT)
def test_prices_are_compared_exactly(ledger: str, written: int) -> None:
    trades = [trade(1), trade(2, price=ledger)]
    good = {**record(trades[0]), "source_sequence": 2, "message_id": f"BINANCE-{SYMBOL}-2", "trade_id": "BINANCE-2"}
    good |= {"timestamp": trades[1].time_us, "side": "BUY"}
    case = Case(1, trades, [], 2)
    for difference in (0, 1, -1):
        other = {**good, "price": (written + difference).to_bytes(16, "big", signed=True)}
        totals, _ = judge(case, [record(trades[0]), other])
        assert faults(totals) == ({"altered": 1} if difference else {})


def test_the_pair_of_assets_must_make_up_the_symbol_and_stay() -> None:
    trades = [trade(1), trade(2), trade(3)]
    wrong = {**record(trades[0]), "vendor_data": {"base_asset": "ETH", "quote_asset": "USDT"}}
    other = {**record(trades[2]), "vendor_data": {"base_asset": "BTCU", "quote_asset": "SDT"}, "currency": "SDT"}
    totals, violations = judge(Case(1, trades, [], 3), [wrong, record(trades[1]), other])
    assert faults(totals) == {"altered": 2}
    assert [one.field for one in violations.examples] == ["vendor_data", "vendor_data", "currency"]


def test_the_head_of_the_exchange_must_be_reached_if_asked_for() -> None:
    trades = [trade(n) for n in range(5, 12)]
    case = Case(5, trades, [], 8)
    stream = [record(one) for one in trades[:4]]
    assert faults(judge(case, stream)[0]) == {}
    assert faults(judge(case, stream, head=11)[0]) == {"missing": 3}


def test_what_retention_removed_is_told_apart_from_what_is_missing() -> None:
    trades = [trade(n) for n in range(5, 12)]
    case = Case(5, trades, [], 11)
    stream = [record(one) for one in trades[3:]]
    totals, _ = judge(case, stream, truncated=True)
    assert (faults(totals), totals.expired, totals.committed, totals.ledger) == ({}, 3, 4, 4)
    assert faults(judge(case, stream)[0]) == {"missing": 3}
    totals, _ = judge(case, [], truncated=True)
    assert (faults(totals), totals.expired, totals.committed) == ({}, 7, 0)


def test_a_record_before_the_position_contradicts_the_position() -> None:
    trades = [trade(n) for n in range(5, 9)]
    totals, _ = judge(Case(6, trades, [], 8), [record(one) for one in trades])
    assert faults(totals) == {"position": 1}
    assert totals.committed == 3


def test_a_second_partition_loses_the_order() -> None:
    trades = [trade(n) for n in range(3)]
    check = SymbolCheck(SYMBOL, Books(trades), Violations(), first_id=0)
    for one, partition in zip(trades, (4, 4, 5), strict=True):
        check.take(partition, 0, SYMBOL.encode(), one.trade_id, record(one), WRITTEN_US)
    check.finish([], 2, None, None)
    assert faults(check.totals) == {"scattered": 1}


def test_older_trades_of_the_exchange_are_not_missing() -> None:
    check = SymbolCheck(SYMBOL, Books([trade(n) for n in range(100, 110)]), Violations(), first_id=105)
    for n in range(105, 110):
        check.take(0, n, SYMBOL.encode(), n, record(trade(n)), WRITTEN_US)
    check.finish([], 109, None, LedgerSymbol(109, 90, [(93, 94), (104, 120)]))
    assert faults(check.totals) == {}
    assert check.totals.sent_before_first == 12


def test_the_quick_way_takes_the_usual_record() -> None:
    """Speed depends on it: only the first record needs the thorough look."""
    trades = [trade(n) for n in range(10)]
    check = SymbolCheck(SYMBOL, Books(trades), Violations(), first_id=0)
    check.take(0, 0, SYMBOL.encode(), 0, record(trades[0]), WRITTEN_US)
    assert all(check.accept(0, SYMBOL.encode(), record(one), WRITTEN_US) for one in trades[1:])
