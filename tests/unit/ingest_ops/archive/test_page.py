from datetime import date, timedelta

from ingest_ops.archive.certificate import (
    Certificate,
    Comparison,
    Finding,
    LocatorFile,
    Previous,
    SymbolEntry,
    VoidEntry,
    day_root,
    worst,
)  # fmt: skip
from ingest_ops.archive.page import MOST_SYMBOLS, page
from ingest_ops.common.verdict import Verdict
from ingest_ops.render import Table, to_html, to_markdown

DAY = date(2026, 1, 15)


def entry(symbol: str, verdict: Verdict, *findings: Finding) -> SymbolEntry:
    return SymbolEntry(
        symbol=symbol, exchange="BINANCE", base_asset="A", quote_asset="B", first_id=1, last_id=9, trades=1234,
        quantity="1", quote_quantity="1", root="00", voids=[VoidEntry(3, 4, "exchange_hole")], start="earlier record",
        comparison=Comparison("x", "their_hole"), findings=list(findings), verdict=verdict,
    )  # fmt: skip


def certificate(number: int, *symbols: SymbolEntry) -> Certificate:
    return Certificate(
        table="market.trades", day=(DAY + timedelta(days=number)).isoformat(), sequence=1, origin="topic",
        verdict=worst([one.verdict for one in symbols]), root=day_root(list(symbols)), previous=Previous("x", "00"),
        trades=sum(one.trades for one in symbols), symbols=list(symbols), files=[], locator=LocatorFile("x", "00"),
        offsets={"0": (5, 9)},
    )  # fmt: skip


def test_the_worst_day_decides() -> None:
    good = certificate(0, entry("A", Verdict.PASS))
    bad = certificate(1, entry("A", Verdict.FAIL, Finding("missing", 5, 6, 2, "gone")), entry("B", Verdict.PASS))
    made = page([good, bad], [], generated_at="2026-01-20T00:00:00Z")
    assert (made.verdict, made.summary) == (Verdict.FAIL, "1 of 2 days are certified complete: 3,702 trades.")
    assert made.reasons == ["2026-01-16: FAIL"]
    text = to_markdown(made)
    assert "missing" in text
    assert "their hole" in text
    assert "FAIL" in to_html(made)


def test_a_day_without_a_certificate_is_no_pass() -> None:
    made = page([certificate(0, entry("A", Verdict.PASS))], ["2026-01-14"], generated_at="x")
    assert (made.verdict, made.reasons) == (Verdict.INCONCLUSIVE, ["2026-01-14: no certificate"])


def test_of_many_symbols_the_worst_are_shown() -> None:
    names = [f"C{number:03d}" for number in range(MOST_SYMBOLS + 20)]
    entries = [entry(name, Verdict.FAIL if name == "C079" else Verdict.PASS) for name in names]
    made = page([certificate(0, *entries)], [], generated_at="x")
    table = made.sections[0].blocks[0]
    assert isinstance(table, Table)
    assert len(table.rows) == MOST_SYMBOLS + 1
    assert "C079" in [row[0] for row in table.rows]
