"""Going back: the open deployment is undone, or the other slot writes again by a roll-back of its own."""

from collections.abc import Sequence

from ingest_ops.agent.slots import SLOTS, SlotStatus
from ingest_ops.deployment.commands.common import Progress, new_id, said
from ingest_ops.deployment.control import ControlRefusal, ControlTrouble
from ingest_ops.deployment.journal import IdTaken, Leased, NoSuchDeployment, Record
from ingest_ops.deployment.plan import BadPlan, parse
from ingest_ops.deployment.settings import DeployerContext, actor, now
from ingest_ops.deployment.state_machine import State

LOOKED_BACK = 2000
"""Deployments of all shards in which the version that was live before is looked for."""
WRITES = "writes"


def undo(
    parts: DeployerContext,
    name: str | None,
    *,
    version: str | None,
    audit: bool,
    as_json: bool = False,
    by: str = "",
    not_before: float | None = None,
) -> Record:
    """Undo the open deployment, or open a roll-back of its own, and carry it out.

    ``not_before``: an older roll-back of that name is another one. Raises ``BadPlan`` where it is not clear what to go
    back to, ``IdTaken`` for a name that is used.
    """
    record = parts.journal.open_one()
    if name is not None and (done := _finished(parts, name, not_before)):
        return parts.deployer.finish(done.id)  # requested again, after it was done
    if record is None:
        record = _own(parts, name or new_id("roll-back", now()), version, audit=audit, by=by)
        return _carry_out(parts, record, as_json=as_json)
    return stop(parts, record, as_json=as_json, by=by)


def stop(parts: DeployerContext, record: Record, *, as_json: bool = False, by: str = "") -> Record:
    """Undo an open deployment; one that cannot be undone any more goes on to its end."""
    if parts.deployer.own(record).undoable:
        record = parts.deployer.cancel(record.id, by)
    return _carry_out(parts, record, as_json=as_json)


def take_back(parts: DeployerContext, name: str, done: Record, *, audit: bool, as_json: bool) -> Record:
    """Let the predecessor of a deployment write again, by a roll-back of that name; goes on with one that was begun.

    Raises ``BadPlan`` where something later is live or it is not clear what writes, ``AlreadyOpen`` where another
    deployment is open.
    """
    try:
        record = parts.journal.read(name)
    except NoSuchDeployment:
        if (later := _later(parts, done)) is not None:
            raise BadPlan(f"{done.id}: {later.id} has changed its shard since: nothing is taken back") from None
        record = _own(parts, name, done.facts.live_version, audit=audit, by="")
    return _carry_out(parts, record, as_json=as_json)


def _later(parts: DeployerContext, done: Record) -> Record | None:
    """What has changed, or may have changed, which slot writes in the shard since that deployment."""
    for one in parts.journal.latest(LOOKED_BACK):
        if one.id == done.id:
            return None
        changed = one.kind != "deploy" or one.state not in (State.ABORTED, State.ROLLED_BACK)
        if one.plan.shard == parts.shard and one.finished and changed:
            return one
    return done  # so long ago that it is not known


def _carry_out(parts: DeployerContext, record: Record, *, as_json: bool) -> Record:
    deployer, progress = parts.deployer, Progress()
    said(f"deployment {record.id}", as_json=as_json)
    while not record.finished:
        try:
            record = deployer.run(record.id, until=progress)
        except Leased:  # its deployer reads the request at its next look
            parts.sleep(0.2)
            record = parts.journal.read(record.id)
    return deployer.finish(record.id)


def _finished(parts: DeployerContext, name: str, not_before: float | None) -> Record | None:
    try:
        record = parts.journal.read(name)
    except NoSuchDeployment:
        return None
    if record.kind != "roll-back" or (not_before is not None and record.created < not_before):
        raise IdTaken(f"{name} is an earlier {record.kind}, in state {record.state}: choose another id")
    return record if record.finished else None


def proven(records: Sequence[Record], slot: str, shard: str = "") -> str:
    """The version that was last live in a slot of a shard, by the journal (the newest first); empty where none was.

    Not what ran there last: that may be a candidate that was taken back.
    """
    for record in records:
        facts = record.facts
        if record.plan.shard != shard:
            continue
        if record.state is State.DONE and facts.live == slot:
            return facts.live_version
        if record.state is State.ROLLED_BACK and facts.live == slot:
            return facts.live_version
        if record.state is State.DONE and facts.candidate == slot:
            return record.plan.version
    return ""


def _found(parts: DeployerContext, status: SlotStatus) -> str:
    """A short description of a slot; only its own answer makes it the writer."""
    if not status.running:
        return "is stopped"
    try:
        role = parts.control.status(status.control_url)
    except (ControlTrouble, ControlRefusal) as error:
        return f"does not report its role ({error})"
    return WRITES if role.writes else f"is {role.role}"


def _own(parts: DeployerContext, name: str, version: str | None, *, audit: bool, by: str) -> Record:
    statuses = {slot: parts.agent.status(slot) for slot in SLOTS}
    found = {slot: _found(parts, status) for slot, status in statuses.items()}
    said = ", ".join(f"{slot} {word}" for slot, word in found.items())
    writers = [slot for slot, word in found.items() if word == WRITES]
    if not any(status.running for status in statuses.values()):
        raise BadPlan(f"nothing is deployed that could be rolled back: {said}; start a slot first")
    if len(writers) != 1:
        raise BadPlan(f"it is not clear what to go back from: {said}; see `By hand` in docs/how_to/deploy.md")
    (writer,) = writers
    other = next(slot for slot in SLOTS if slot != writer)
    running = statuses[other].version if statuses[other].running else ""
    before = running or version or proven(parts.journal.latest(LOOKED_BACK), other, parts.shard)
    if not before:
        raise BadPlan(f"{said}; no version is known that was live in {other}: name the one to go back to")
    plan = parse(
        {
            "version": before,
            "audit": None if audit else False,
            "requested_by": (by or actor())[:128],
            "shard": parts.shard,
        }
    )
    return parts.deployer.open_roll_back(name, plan, live=other, live_version=before, candidate=writer)
