"""One version for every shard of a fleet: shard by shard, the first as the canary; one that fails takes all back.

There is no state besides the journal's: each shard's deployment has the name of the whole with that of the shard
behind it. So the same command, repeated with the same id, goes on wherever it was interrupted.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, closing

import msgspec

from ingest.command import terminal
from ingest_ops.deployment.commands.common import LIVE, MANUAL, NOT_LIVE, Progress, said
from ingest_ops.deployment.commands.undoing import stop, take_back
from ingest_ops.deployment.fleet import Shard, of_shard
from ingest_ops.deployment.journal import Journal, NoSuchDeployment, Record
from ingest_ops.deployment.plan import BadPlan, Plan
from ingest_ops.deployment.settings import DeployerContext, DeploySettings, actor, now
from ingest_ops.deployment.state_machine import State

MOST_NAME = 40
"""Of the name of the whole: the journal's ids have 64 characters."""
LOOKED_BACK = 100
UNDONE = (State.ROLLED_BACK, State.ABORTED)

Connect = Callable[[Shard], AbstractContextManager[DeployerContext]]


class ShardOutcome(msgspec.Struct, kw_only=True):
    """How one shard's deployment stands; None: it was not begun, or not taken back."""

    shard: str
    deployed: Record | None = None
    undone: Record | None = None

    @property
    def state(self) -> State | None:
        """The last state."""
        last = self.undone or self.deployed
        return None if last is None else last.state


def deploy_one(parts: DeployerContext, name: str, plan: Plan, *, as_json: bool) -> Record:
    """Deploy to one pair of slots, or go on with it; returns at its end."""
    record = parts.deployer.open(name, plan)
    said(f"deployment {record.id}", as_json=as_json)
    if plan.approval:
        said(f"to decide: python -m ingest_ops decide {record.id} approve|reject", as_json=as_json)
    parts.deployer.run(record.id, until=Progress())
    return parts.deployer.finish(record.id)


class Rollout:
    """The deployments of all shards that belong together."""

    def __init__(
        self,
        settings: DeploySettings,
        name: str,
        shards: Sequence[Shard],
        *,
        as_json: bool = False,
        connect: Connect | None = None,
    ) -> None:
        """``name``: of the whole. Raises ``BadPlan`` if it is too long."""
        if len(name) > MOST_NAME:
            raise BadPlan(f"--id {name}: at most {MOST_NAME} characters where there are several shards")
        self._settings = settings
        self._name = name
        self._shards = shards
        self._as_json = as_json
        self._connect = connect or self._open

    @staticmethod
    def latest(settings: DeploySettings) -> str:
        """The name of the latest deployment of several shards. Raises ``BadPlan`` where there is none."""
        with closing(Journal(settings.journal_url, now)) as journal:
            for record in journal.latest(LOOKED_BACK):
                if record.plan.shard and record.kind == "deploy":
                    return record.id.removesuffix(f".{record.plan.shard}")
        raise BadPlan("the journal has no deployment of several shards: name one with --id, or a shard with --shard")

    def deploy(self, plan: Plan) -> list[ShardOutcome]:
        """Deploy to one shard after the other until one is not live; then take back those that are."""
        said(f"deployment {self._name} of {len(self._shards)} shards", as_json=self._as_json)
        for shard in self._shards:
            with self._connect(shard) as parts:
                said(f"shard {shard.name}", as_json=self._as_json)
                one = msgspec.structs.replace(plan, shard=shard.name)
                record = deploy_one(parts, self._id(shard), one, as_json=self._as_json)
                undone = _find(parts.journal, self._back(shard))
            if record.state is State.MANUAL:
                return self._outcomes()  # which instance writes there is not known: a person decides about the others
            if record.state is not State.DONE or undone is not None:
                break  # undone: by a roll-back, or by this command before it was interrupted
        else:
            return self._outcomes()
        return self.undo(audit=plan.audit is not False)

    def undo(self, *, audit: bool) -> list[ShardOutcome]:
        """Take it back wherever it is live or under way, the last shard first. Others are not touched."""
        for shard in reversed(self._shards):
            with self._connect(shard) as parts:
                record = _find(parts.journal, self._id(shard))
                if record is not None and not record.finished:
                    record = stop(parts, record, as_json=self._as_json)
                if record is not None and record.state is State.DONE:
                    said(f"shard {shard.name}: taking it back", as_json=self._as_json)
                    take_back(parts, self._back(shard), record, audit=audit, as_json=self._as_json)
        return self._outcomes()

    def say(self, outcomes: Sequence[ShardOutcome]) -> int:
        """Print how it ended; returns the exit code."""
        code = code_of(outcomes)
        if self._as_json:
            word = {LIVE: "DONE", NOT_LIVE: "NOT_LIVE", MANUAL: "MANUAL"}[code]
            data = {"id": self._name, "state": word, "shards": [_as_json(one) for one in outcomes]}
            terminal.write(json.dumps(data, indent=2) + "\n")
        else:
            terminal.write("".join(f"{_line(one)}\n" for one in outcomes))
        return code

    def _outcomes(self) -> list[ShardOutcome]:
        with closing(Journal(self._settings.journal_url, now)) as journal:
            return [
                ShardOutcome(
                    shard=shard.name,
                    deployed=_find(journal, self._id(shard)),
                    undone=_find(journal, self._back(shard)),
                )
                for shard in self._shards
            ]

    def _id(self, shard: Shard) -> str:
        return f"{self._name}.{shard.name}"

    def _back(self, shard: Shard) -> str:
        return f"{self._name}.{shard.name}.back"

    def _open(self, shard: Shard) -> AbstractContextManager[DeployerContext]:
        return DeployerContext(of_shard(self._settings, shard), actor(), shard.name)


def code_of(outcomes: Iterable[ShardOutcome]) -> int:
    """Exit code: live in every shard, in none, or a person must look."""
    states = [one.state for one in outcomes]
    if all(state is State.DONE for state in states):
        return LIVE
    return NOT_LIVE if all(state is None or state in UNDONE for state in states) else MANUAL


def _find(journal: Journal, name: str) -> Record | None:
    try:
        return journal.read(name)
    except NoSuchDeployment:
        return None


def _line(one: ShardOutcome) -> str:
    if one.deployed is None:
        return f"shard {one.shard}: not touched"
    reason = f": {one.deployed.facts.reason}" if one.deployed.facts.reason else ""
    back = "" if one.undone is None else f"; taken back: {one.undone.state}"
    return f"shard {one.shard}: {one.deployed.plan.version} {one.deployed.state}{reason}{back}"


def _as_json(one: ShardOutcome) -> dict[str, object]:
    found: dict[str, object] = {"shard": one.shard}
    for name, record in (("deployed", one.deployed), ("undone", one.undone)):
        found[name] = (
            None
            if record is None
            else {
                "id": record.id,
                "state": record.state,
                "version": record.plan.version,
                "reason": record.facts.reason,
            }
        )
    return found
