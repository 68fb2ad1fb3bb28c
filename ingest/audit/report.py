"""The outcome for machines (JSON) and for people (a table)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ingest.audit.check_base import Totals
from ingest.audit.checks import SymbolCheck
from ingest.audit.model import Violation
from ingest.audit.run import Outcome
from ingest.command.terminal import one_line

SCHEMA_VERSION = 1
CLEAN_ROWS = 40
"""Clean symbols that the table shows; the JSON has all of them."""
EXAMPLES = 20

_COLUMNS = ("ledger", "committed", "missing", "duplicated", "reordered", "altered", "voids")
_FAULTS = (
    "false_void", "unaccounted", "scattered", "position", "id_reset", "undeclared_break", "false_break", "snapshot",
    "crossed", "disagreement", "unjudged",
)  # fmt: skip


def as_json(outcome: Outcome) -> dict[str, Any]:
    """Plain data; every count is a number, also where nothing could be judged."""
    return {
        "schema_version": SCHEMA_VERSION,
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "totals": msgspec.to_builtins(outcome.totals),
        # What was written between these times; "from" is 0 if nothing was left out. Ids: first_id and last_id below.
        "covers": {"from": outcome.covers_from, "to": outcome.covers_to},
        "symbols": {symbol: _symbol(check, outcome) for symbol, check in outcome.symbols.items()},
        "violations": [_example(one) for one in outcome.violations],
        "records": outcome.records,
        "seconds": round(outcome.seconds, 3),
        "records_per_second": round(outcome.records / outcome.seconds) if outcome.seconds > 0 else 0,
        "open_transactions": outcome.open_transactions,
        "corrected_positions": outcome.corrected,
        "foreign_positions": {"records": outcome.foreign, "examples": outcome.foreign_examples},
    }


def _symbol(check: SymbolCheck, outcome: Outcome) -> dict[str, Any]:
    position = outcome.positions.get(check.symbol)
    return {
        "partition": check.partition,
        "first_id": check.first_id,
        "last_id": check.last_id,
        "position": None if position is None else msgspec.to_builtins(position),
        **msgspec.to_builtins(check.totals),
    }


def _example(violation: Violation) -> dict[str, Any]:
    data: dict[str, Any] = msgspec.to_builtins(violation)
    for name in ("expected", "found"):
        if not isinstance(data[name], str | int | None):
            data[name] = _short(data[name])
    return data


def write_json(outcome: Outcome, path: Path) -> None:
    """Write the report, a plain file whole or not at all. Raises ``OSError``."""
    text = json.dumps(as_json(outcome), indent=2) + "\n"
    if path.exists() and not path.is_file():  # a pipe or a device is written to, never replaced
        path.write_text(text, encoding="utf-8")
        return
    target = path.resolve()  # a link stays a link
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(target)


def as_text(outcome: Outcome) -> str:
    """A table, the first examples of what is wrong, and the verdict in the last line."""
    rows: list[tuple[str, ...]] = [("symbol", *_COLUMNS, "other faults")]
    faulty = [check for check in outcome.symbols.values() if check.totals.violations]
    clean = [check for check in outcome.symbols.values() if not check.totals.violations]
    rows += [_row(check.symbol, check.totals) for check in [*faulty, *clean[:CLEAN_ROWS]]]
    rows.append(_row("total", outcome.totals))
    lines = _table(rows)
    if len(clean) > CLEAN_ROWS:
        lines.insert(-1, f"... and {len(clean) - CLEAN_ROWS:,} symbols without a fault")
    if outcome.totals.sent_before_first:
        lines.append(f"{outcome.totals.sent_before_first:,} trades predate the recording; not judged")
    if outcome.totals.expired:
        lines.append(f"{outcome.totals.expired:,} ids are older than the part of the topic that was read; not judged")
    if outcome.totals.unjudged:
        lines.append(f"{outcome.totals.unjudged:,} records or ids are not within the ledger's history; not judged")
    if outcome.open_transactions:
        lines.append(f"{outcome.open_transactions} partitions end in an open transaction; its records are not judged")
    if outcome.corrected:
        lines.append(
            one_line(
                "positions that `ingest positions rebuild` has set back, rightly: "
                f"{'; '.join(outcome.corrected[:EXAMPLES])}"
            )
        )
    if outcome.foreign:
        lines.append(
            one_line(
                f"{outcome.foreign} records of the positions topic are none of this service's and are not judged: "
                f"{'; '.join(outcome.foreign_examples[:EXAMPLES])}"
            )
        )
    lines += [_sentence(one) for one in outcome.violations[:EXAMPLES]]
    if len(outcome.violations) > EXAMPLES:
        lines.append(f"... {len(outcome.violations) - EXAMPLES} more examples are in the JSON report")
    lines.append(f"{outcome.records:,} records in {outcome.seconds:.1f} s")
    lines.append(f"{outcome.verdict}: {one_line(outcome.reason)}")
    return "\n".join(lines) + "\n"


def _row(name: str, totals: Totals) -> tuple[str, ...]:
    others = [f"{getattr(totals, fault):,} {fault}" for fault in _FAULTS if getattr(totals, fault)]
    return one_line(name), *(f"{getattr(totals, column):,}" for column in _COLUMNS), ", ".join(others)


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) if at in (0, len(widths) - 1) else cell.rjust(w) for at, (cell, w) in
                  enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]  # fmt: skip


def _sentence(violation: Violation) -> str:
    place = "" if violation.offset is None else f" (partition {violation.partition}, offset {violation.offset})"
    name = violation.symbol if violation.id is None else f"{violation.symbol} {violation.id}"
    details = [
        f"{word} {_short(value)}"
        for word, value in (("expected", violation.expected), ("found", violation.found))
        if value is not None
    ]
    what = violation.kind if violation.field is None else f"{violation.kind} {violation.field}"
    return one_line(f"  {what}: {name}{place}" + (f": {', '.join(details)}" if details else ""))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 200 else text[:197] + "..."
