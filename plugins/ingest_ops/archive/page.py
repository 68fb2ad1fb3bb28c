"""The archive's page: a calendar of days and symbols with their verdicts, and the certificate of the last day."""

from collections.abc import Sequence

from ingest_ops.archive.certificate import Certificate, SymbolEntry, worst
from ingest_ops.common.verdict import Verdict
from ingest_ops.render import Block, Cell, Code, Column, Details, Fact, Facts, Judged, Page, Section, Table, Text

MOST_SYMBOLS = 60
"""Rows of the calendar; with more symbols the ones with the worst verdicts are shown."""
COMMAND = "python -m ingest_ops archive report"
RANK = {Verdict.FAIL: 0, Verdict.INCONCLUSIVE: 1, Verdict.PASS: 2}


def page(certificates: Sequence[Certificate], missing: Sequence[str], *, generated_at: str) -> Page:
    """The page of these days, the last of them in full. ``missing``: days between them without a certificate."""
    verdict = worst([*(one.verdict for one in certificates), *(Verdict.INCONCLUSIVE for _ in missing)])
    last = certificates[-1]
    trades = sum(one.trades for one in certificates)
    reasons = [f"{one.day}: {one.verdict}" for one in certificates if one.verdict != Verdict.PASS]
    reasons += [f"{day}: no certificate" for day in missing]
    passed = sum(one.verdict == Verdict.PASS for one in certificates)
    return Page(
        kind="archive",
        title=f"Archive {certificates[0].day} to {last.day}",
        verdict=verdict,
        summary=f"{passed} of {len(certificates) + len(missing)} days are certified complete: {trades:,} trades.",
        coverage=[
            Fact("Days", len(certificates)),
            Fact("Symbols", len(_symbols(certificates))),
            Fact("Trades", trades),
        ],
        reasons=reasons,
        sections=[_calendar(certificates), _day(last), _files(last)],
        facts=[Fact("Table", last.table), Fact("Made by", Code(COMMAND))],
        generated_at=generated_at,
    )


def _symbols(certificates: Sequence[Certificate]) -> list[str]:
    return sorted({entry.symbol for one in certificates for entry in one.symbols})


def _calendar(certificates: Sequence[Certificate]) -> Section:
    names = _symbols(certificates)
    found = {(one.day, entry.symbol): entry for one in certificates for entry in one.symbols}
    ranked = sorted(names, key=lambda name: min(RANK[found[one.day, name].verdict] for one in certificates
                                                if (one.day, name) in found))  # fmt: skip
    shown = sorted(ranked[:MOST_SYMBOLS])
    total: list[Judged | str] = [Judged(one.verdict, f"{one.trades:,}") for one in certificates]
    rows: list[list[Judged | str | None]] = [["all symbols", *total]]
    for name in shown:
        entries = (found.get((one.day, name)) for one in certificates)
        rows.append(
            [name, *(None if entry is None else Judged(entry.verdict, f"{entry.trades:,}") for entry in entries)]
        )
    caption = "Trades with the verdict of the symbol's day; a dash: not recorded."
    if len(names) > len(shown):
        caption += f" The {len(shown)} of {len(names)} symbols with the worst verdicts."
    columns: list[str | Column] = ["Symbol", *(Column(one.day, numeric=True) for one in certificates)]
    return Section("Calendar", [Table(columns, rows, caption=caption)])


def _day(one: Certificate) -> Section:
    facts = [
        Fact("Root", Code(one.root)),
        Fact("Day before", Code(one.previous.root) if one.previous else "none"),
        Fact("Certificate", Code(one.digest())),
        Fact("Number of this day's certificates", one.sequence),
        Fact("Origin", one.origin),
        Fact("Signed with", Code(one.signature.key) if one.signature else "not signed"),
    ]
    columns: list[str | Column] = [
        "Symbol", "Verdict", Column("First id", numeric=True), Column("Last id", numeric=True),
        Column("Trades", numeric=True), Column("Void ids", numeric=True), "Exchange's file", "Start", "End",
    ]  # fmt: skip
    rows = [
        [
            each.symbol, each.verdict, _id(each.first_id), _id(each.last_id), each.trades,
            sum(void.last_id - void.first_id + 1 for void in each.voids),
            each.comparison.result.replace("_", " ") if each.comparison else None, each.start or None, each.end or None,
        ]
        for each in one.symbols
    ]  # fmt: skip
    blocks: list[Block] = [Facts(facts), Table(columns, rows), Table(*_findings(one.symbols), caption="Findings")]
    return Section(f"Certificate of {one.day}", blocks, verdict=one.verdict, id="certificate")


def _id(number: int | None) -> str | None:
    return None if number is None else str(number)


def _findings(symbols: Sequence[SymbolEntry]) -> tuple[list[str | Column], list[list[str | int | None]]]:
    columns: list[str | Column] = ["Symbol", "Finding", "First id", "Last id", Column("Count", numeric=True), "Detail"]
    rows: list[list[str | int | None]] = [
        [each.symbol, one.code, _id(one.first_id), _id(one.last_id), one.count or None, one.detail]
        for each in symbols
        for one in each.findings
    ]
    return columns, rows


def _files(one: Certificate) -> Section:
    rows: list[list[Cell]] = [[file.path, file.trades, file.bytes, Code(file.sha256)] for file in one.files]
    table = Table(["File", Column("Trades", numeric=True), Column("Bytes", numeric=True), "SHA-256"], rows)
    offsets: list[list[Cell]] = [[partition, first, end] for partition, (first, end) in one.offsets.items()]
    read = Table(["Partition", Column("First offset", numeric=True), Column("End", numeric=True)], offsets)
    return Section("Files", [table, Details("Offsets read", [Text(f"Topic {one.topic or '-'}"), read])])
