"""What is wrong with a symbol's day, and what is not known about it. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from ingest_ops.archive.certificate import Code, Comparison, Finding, SymbolEntry, VoidEntry, verdict_of
from ingest_ops.archive.rows import plain
from ingest_ops.archive.tally import Range, SymbolDay

DIFFERENCES: Final[tuple[Code, ...]] = ("only_theirs", "differing", "only_ours")
MOST_FINDINGS: Final = 100
"""Kept of each code; the counts of a certificate are complete."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What is the same in all rows of a symbol."""

    symbol: str
    exchange: str
    base_asset: str
    quote_asset: str


@dataclass(frozen=True, slots=True)
class Context:
    """What is known besides the rows."""

    voids: Sequence[VoidEntry] = ()
    previous_last_id: int | None = None
    """Where the certificate of the day before ends for this symbol."""
    start: str = ""
    end: str = ""
    start_detail: str = ""
    """Why the start is not shown."""
    end_detail: str = ""
    comparison: Comparison | None = None
    malformed: int = 0
    """Records whose other fields contradict symbol and id."""


def judge(identity: Identity, facts: SymbolDay, context: Context) -> SymbolEntry:
    """The entry of a symbol, with its findings and its verdict."""
    voids = [
        one for one in context.voids if any(_overlap((one.first_id, one.last_id), gap) for gap in _gaps(facts, context))
    ]
    findings = [*_ids(facts, context), *_ends(facts, context), *_compared(context.comparison)]
    findings += [
        Finding("void", one.first_id, one.last_id, one.last_id - one.first_id + 1, one.reason) for one in voids
    ]
    kept = list(_few(findings))
    return SymbolEntry(
        symbol=identity.symbol,
        exchange=identity.exchange,
        base_asset=identity.base_asset,
        quote_asset=identity.quote_asset,
        first_id=facts.first_id,
        last_id=facts.last_id,
        trades=facts.trades,
        quantity=plain(facts.quantity),
        quote_quantity=plain(facts.quote_quantity, 16),
        root=facts.root.hex(),
        voids=voids,
        elsewhere=facts.elsewhere,
        previous_last_id=context.previous_last_id if context.previous_last_id is not None else facts.before_id,
        start=context.start,
        end=context.end,
        comparison=context.comparison,
        findings=kept,
        verdict=verdict_of(kept),
    )


def _gaps(facts: SymbolDay, context: Context) -> list[Range]:
    """Ids without a row that belong to the day, between the day before and its first row included."""
    gaps = list(facts.gaps)
    last, first = context.previous_last_id, facts.first_id
    if first is not None and last is not None and facts.before_id is None and last + 1 < first:
        gaps.insert(0, (last + 1, first - 1))
    return gaps


def _ids(facts: SymbolDay, context: Context) -> Iterator[Finding]:
    covered = [(one.first_id, one.last_id) for one in context.voids]
    for gap in _gaps(facts, context):
        for first, last in uncovered(gap, covered):
            yield Finding("missing", first, last, last - first + 1, "no record and no void")
    if facts.first_id is not None and facts.last_id is not None:
        for void in covered:
            for first, last in uncovered(void, facts.gaps):
                low, high = max(first, facts.first_id), min(last, facts.last_id)
                if low <= high:
                    yield Finding("trade_in_void", low, high, high - low + 1, "a record with an id that is void")
    previous = context.previous_last_id
    if previous is not None and facts.first_id is not None and facts.first_id <= previous and not facts.elsewhere:
        yield Finding("joins_not", facts.first_id, previous, detail="the day before has these ids")
    if facts.duplicates:
        yield Finding("duplicate", facts.first_duplicate, facts.first_duplicate, facts.duplicates, "records")
    if context.malformed:
        yield Finding("malformed", count=context.malformed, detail="records whose fields contradict symbol and id")
    for first, last in facts.elsewhere:
        yield Finding("other_day", first, last, last - first + 1, "by their time these trades belong to another day")


def _ends(facts: SymbolDay, context: Context) -> Iterator[Finding]:
    if not context.start:
        detail = context.start_detail or "no record shows that earlier ids belong to the day before"
        yield Finding("start_not_shown", facts.first_id, facts.first_id, detail=detail)
    if not context.end:
        detail = context.end_detail or "nothing beyond midnight is committed"
        yield Finding("end_not_shown", facts.last_id, facts.last_id, detail=detail)


def _compared(comparison: Comparison | None) -> Iterator[Finding]:
    if comparison is None:
        return
    match comparison.result:
        case "absent":
            yield Finding("comparison_absent", detail=comparison.source)
        case "checksum":
            yield Finding("comparison_checksum", detail=comparison.source)
        case "unusable":
            yield Finding("comparison_unusable", detail=comparison.source)
        case "equal" | "differs" | "their_hole" | "not_compared":
            pass
    counts = {
        "only_theirs": comparison.only_theirs, "differing": comparison.differing, "only_ours": comparison.only_ours,
    }  # fmt: skip
    for code in DIFFERENCES:
        if counts[code]:
            ids = comparison.examples.get(code, [])
            first, last = (ids[0], ids[-1]) if ids else (None, None)
            yield Finding(code, first, last, counts[code], comparison.source)


def _few(findings: list[Finding]) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for one in findings:
        seen[one.code] = seen.get(one.code, 0) + 1
        if seen[one.code] <= MOST_FINDINGS:
            yield one


def _overlap(one: Range, other: Range) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def uncovered(whole: Range, cover: Sequence[Range]) -> Iterator[Range]:
    """The parts of a range that no other range covers."""
    due, last = whole
    for first, end in sorted(cover):
        if end < due or first > last:
            continue
        if first > due:
            yield due, first - 1
        due = max(due, end + 1)
    if due <= last:
        yield due, last
