"""The report of a deployment: made from the journal and the trail alone, for failures too."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ingest.decoding import Undecodable, decode_json, decoding
from ingest_ops.common.files import read_file
from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.audit_trail import AuditTrail, BrokenTrail
from ingest_ops.deployment.deployment_state import DeploymentState
from ingest_ops.deployment.journal import Record
from ingest_ops.deployment.plan import Plan
from ingest_ops.deployment.report_gates import Previous, at, gates_of, previous
from ingest_ops.deployment.state_machine import State
from ingest_ops.render import (
    Code,
    Column,
    Details,
    Event,
    Fact,
    Facts,
    Lane,
    Page,
    Section,
    Table,
    Text,
    Timeline,
    envelope,
    write_report,
)
from ingest_ops.render.addresses import NOWHERE, Addresses
from ingest_ops.render.model import Block, Cell, Tone

SCHEMA_VERSION = 1
FOLDER = "deployments"
_VERDICTS = {State.DONE: Verdict.PASS, State.MANUAL: Verdict.FAIL, State.ABORTED: Verdict.FAIL}
_SUMMARIES = {
    State.DONE: "{version} is live in {candidate}.",
    State.ABORTED: "{version} did not go live: nothing was handed over. {before} {reason}",
    State.ROLLED_BACK: "{version} was taken back; {live} writes again. {reason}",
    State.MANUAL: "A person must look: {reason}",
}


def verdict_of(record: Record) -> Verdict | None:
    """PASS for what went live and for a roll-back that was requested; anything else FAIL; none while it is open."""
    if record.state is State.ROLLED_BACK:
        return Verdict.PASS if record.kind == "roll-back" else Verdict.FAIL
    return _VERDICTS.get(record.state)


def write(
    root: Path, record: Record, trail: AuditTrail, *, generated_at: float, addresses: Addresses = NOWHERE
) -> dict[str, Path]:
    """Write ``<root>/deployments/<id>.html``, ``.md`` and ``.json``; returns the paths."""
    try:
        lines, chain = trail.lines(), "unbroken"
    except BrokenTrail as error:
        lines, chain = [], f"BROKEN: {error}"
    before = previous(root / FOLDER, record)
    page = to_page(record, lines, chain, generated_at=generated_at, before=before, addresses=addresses)
    data = envelope(page, run_id=record.id, schema_version=SCHEMA_VERSION) | {
        "state": str(record.state),
        "window": {"start": _stamp(record.created), "end": _stamp(_end(record, lines)), "tz": "UTC"},
        "deployment_kind": record.kind,
        "plan": msgspec.to_builtins(record.plan),
        "facts": msgspec.to_builtins(record.facts),
        "trail": {"chain": chain, "lines": lines},
    }
    return write_report(root / FOLDER, record.id, data, page)


def _title(record: Record, lines: list[dict[str, Any]]) -> str:
    """For people: what, where, how long, by whom."""
    facts, plan = record.facts, record.plan
    minutes = (_end(record, lines) - record.created) / 60
    by = f", by {plan.requested_by.partition(' (')[0]}" if plan.requested_by else ""
    if record.kind != "deploy":
        return f"Roll-back to {facts.live_version or plan.version} in {facts.live or 'unknown'}, {minutes:.0f} min{by}"
    return f"{plan.version} → {facts.candidate or 'no slot yet'}, {minutes:.0f} min{by}"


def is_final(root: Path, record: Record) -> bool:
    """Whether the report of the deployment's last state has been written."""
    try:
        with decoding():
            state = decode_json(read_file(root / FOLDER / f"{record.id}.json"))["state"]
    except (OSError, Undecodable):
        return False
    return bool(state == str(record.state))


def evidence(record: Record) -> str:
    """What a person needs to approve: the link to the report, and the gates as a table in Markdown."""
    facts = record.facts
    lines = [
        f"[Report so far](/k2/reports/{FOLDER}/{record.id}.html): {record.plan.version} in {facts.candidate}, "
        f"{facts.live} ({facts.live_version or 'version unknown'}) writes.",
        "",
        "| gate | verdict | why |",
        "| --- | --- | --- |",
    ]
    for results in facts.results.values():
        lines += [f"| {one.gate} {one.title} | {one.verdict} | {one.reason.replace('|', '/')} |" for one in results]
    return "\n".join(lines)


def to_page(
    record: Record,
    lines: list[dict[str, Any]],
    chain: str,
    *,
    generated_at: float,
    before: Previous | None = None,
    addresses: Addresses = NOWHERE,
) -> Page:
    """The page. ``before``: the deployment before that went live, to compare with."""
    facts, plan = record.facts, record.plan
    reason = f"{facts.failed_in}: {facts.reason}" if facts.failed_in else facts.reason
    template = _SUMMARIES.get(record.state, "It is open, in state {state}{held}{left}.")
    summary = template.format(
        version=plan.version, candidate=facts.candidate, live=facts.live or "unknown", reason=reason,
        state=record.state, before=_before(facts), left=_time_left(record, generated_at),
        held=f", held by {facts.held_by}" if facts.held_by else "",
    ).strip()  # fmt: skip
    if record.kind == "roll-back" and record.state is State.ROLLED_BACK:
        summary = f"{facts.live} writes again in place of {facts.candidate}, {reason}."
    sections = [Section("Time line", _timeline(record, lines)), Section("Hand-over", [_figures(record, before)])]
    sections += [gates_of(state, results, facts, before) for state, results in facts.results.items()]
    if facts.shadow is not None:
        sections.append(_shadow(facts.shadow))
    sections.append(_audit(record))
    sections.append(
        Section("Trail", [Text(f"The chain of hashes is {chain}."), Details(f"{len(lines)} lines", [_trail(lines)])])
    )
    judged = [one for results in facts.results.values() for one in results]
    expected = sum(one.expected for one in judged)
    return Page(
        kind="deployment",
        title=_title(record, lines),
        verdict=verdict_of(record),
        summary=summary,
        coverage=[
            Fact("Gates judged", len(judged)),
            Fact(
                "Samples",
                f"{sum(min(one.found, one.expected) for one in judged)} of {expected}",
            ),
            Fact("Trail", f"{len(lines)} lines, {chain}"),
        ],
        reasons=[reason] if reason and record.state is not State.DONE else [],
        sections=sections,
        facts=[
            Fact("Id", record.id),
            Fact("Version", plan.version),
            Fact("Asked for by", plan.requested_by or "unknown"),
            Fact("Plan", Code(msgspec.json.encode(plan).decode())),
        ],
        generated_at=_stamp(generated_at),
        links=addresses.links(record.created, _end(record, lines), failed=verdict_of(record) is not Verdict.PASS),
    )


def _before(facts: DeploymentState) -> str:
    """Who wrote when it began, as far as that was looked at."""
    if not facts.live:
        return "Which slot writes could not be seen."
    return f"{facts.live} was the writer."


_LIMITS: dict[State, Callable[[Plan], float]] = {
    State.BUILD: lambda plan: plan.build_seconds,
    State.STANDBY: lambda plan: plan.standby_seconds,
    State.SHADOW: lambda plan: plan.watch_seconds,
    State.SHADOW_HELD: lambda plan: plan.hold_seconds,
    State.APPROVAL: lambda plan: plan.approval_seconds,
    State.HANDOVER: lambda plan: plan.handover_seconds,
    State.VALIDATE: lambda plan: plan.grace_seconds + plan.validate_seconds,
    State.VALIDATE_HELD: lambda plan: plan.hold_seconds,
}


def _time_left(record: Record, now: float) -> str:
    """How long the state may last from now on."""
    limit = _LIMITS.get(record.state)
    if limit is None:
        return ""
    left = max(0.0, record.facts.entered + limit(record.plan) - now)
    return f", for at most {left / 60:.0f} min more" if left >= 90 else f", for at most {left:.0f} s more"


def _timeline(record: Record, lines: list[dict[str, Any]]) -> list[Block]:
    moves = [(line["at"], *line["what"].split(" -> "), line) for line in lines if " -> " in line["what"]]
    stages: list[Event] = []
    since = record.created
    for moment, before, _, line in moves:
        tone: Tone = "good" if line["data"]["event"] in ("done", "retry") else "bad"
        stages.append(Event(since, before, until=moment, tone=tone, detail=str(line["data"]["reason"])[:300]))
        since = moment
    others = [
        Event(line["at"], line["what"], detail=str(line["data"].get("reason", ""))[:300])
        for line in lines
        if " -> " not in line["what"]
    ]
    end = _end(record, lines)
    if end <= record.created:
        return [Text("Nothing has happened yet.")]
    return [Timeline(record.created, end, [Lane("Stages", stages), Lane("Notes", others)])]


def _end(record: Record, lines: list[dict[str, Any]]) -> float:
    """When something happened last, seconds since 1970."""
    return max([record.created, record.updated, *(float(line["at"]) for line in lines)])


def _figures(record: Record, before: Previous | None) -> Table:
    """The figures of the hand-over, beside those of the deployment before."""
    facts, old = record.facts, before.facts if before is not None else DeploymentState()
    rows: list[list[Cell]] = [
        ["Writer before", f"{facts.live} ({facts.live_version or 'version unknown'})", None],
        ["Candidate", f"{facts.candidate} ({record.plan.version})", old.candidate or None],
        ["Generation before, after", _generations(facts), None],
        ["Call of the hand-over, s", facts.handover_call_seconds, old.handover_call_seconds],
        ["Hand-over as the new writer measured it, s", facts.handover_seconds, old.handover_seconds],
        ["Visible gap: last commit before to first after, s", facts.gap_seconds, old.gap_seconds],
        ["Roll-back: from the decision until the predecessor writes, s", _roll_back(record), None],
        ["Visible gap of the roll-back, s", facts.roll_back_gap_seconds, None],
        ["Decision", facts.decided_by, None],
    ]
    title = f"{before.version}, {before.id}" if before is not None else "none before"
    return Table(["What", Column("This one", numeric=True), Column(f"Before ({title})", numeric=True)], rows)


def _generations(facts: DeploymentState) -> str | None:
    """None of a deployment that ended before the writer's generation was read."""
    if facts.generation is None:
        return None
    after = "no hand-over" if facts.new_generation is None else str(facts.new_generation)
    return f"{facts.generation} → {after}"


def _roll_back(record: Record) -> float | None:
    """Only after a hand-over was begun: an abort takes nothing back."""
    facts = record.facts
    return facts.roll_back_seconds if facts.handover_began is not None or record.kind != "deploy" else None


def _shadow(shadow: dict[str, Any]) -> Section:
    facts = [Fact(name.replace("_", " "), value) for name, value in shadow.items() if isinstance(value, int | float)]
    rows: list[list[Cell]] = [
        [f"{one['symbol']} {one['trade_id']}", name, Code(str(pair[0])), Code(str(pair[1]))]
        for one in shadow.get("mismatches", [])
        for name, pair in one["fields"].items()
    ]
    table = Table(["Trade", "Field", "Candidate", "Writer"], rows, caption="The first records that differ")
    return Section("Shadow", [Facts(facts), table])


def _audit(record: Record) -> Section:
    audit = record.facts.audit
    if audit is None:
        return Section("Audit", [Text("The auditor did not run: H2 was not judged.")])
    totals = audit["figures"].get("totals", {})
    facts = [Fact(name.replace("_", " "), value) for name, value in totals.items() if isinstance(value, int | float)]
    return Section("Audit", [Text(audit["reason"]), Facts(facts)], verdict=Verdict(audit["verdict"]))


def _trail(lines: list[dict[str, Any]]) -> Table:
    rows: list[list[Cell]] = [
        [line["n"], at(line["at"]), line["actor"], line["what"], str(line["data"].get("reason", ""))[:500],
         Code(line["hash"][:12])]
        for line in lines
    ]  # fmt: skip
    return Table(["Line", "When (UTC)", "Who", "What", "Why", "Hash"], rows)


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
