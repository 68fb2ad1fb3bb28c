"""The journal: where every deployment stands, in a database. SQLite and PostgreSQL.

A change names the revision that it was made from (compare-and-swap): of two deployers, or of one and its own zombie,
one succeeds and the other gets an error. A lease names the deployer, so that a second one does not begin. At most one
deployment is open at a time: the database's own constraint, not a look before the leap.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.schema import CreateTable

from ingest.decoding import decode_typed
from ingest_ops.deployment import deployment_state
from ingest_ops.deployment.deployment_state import DeploymentState
from ingest_ops.deployment.plan import Plan
from ingest_ops.deployment.state_machine import TERMINAL, State, cancellable

LEASE_SECONDS = 60.0
"""A holder that has not been heard of for this long is taken for dead."""

MOST_RECORDS = 100_000
"""Of all shards, read to find what is old."""

_metadata = sa.MetaData()
_table = sa.Table(
    "ingest_deployments",
    _metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("plan", sa.Text, nullable=False),
    sa.Column("facts", sa.Text, nullable=False),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("holder", sa.String(128), nullable=True),
    sa.Column("lease_until", sa.Float, nullable=False, default=0.0),
    # 1 while open, NULL when closed: unique over the open ones in every database.
    sa.Column("open", sa.Integer, nullable=True, unique=True),
)


class JournalError(Exception):
    """The journal refuses, or cannot be reached; the text says what to do."""


class Unreachable(JournalError):
    """The database does not answer, or is locked: ask again later."""


class Stale(JournalError):
    """It was changed since it was read: read and decide again."""


class Leased(JournalError):
    """Another deployer holds its lease."""


class AlreadyOpen(JournalError):
    """Another deployment is open."""


class IdTaken(JournalError):
    """The id belongs to another deployment: one of another plan, or an earlier one."""


class Damaged(JournalError):
    """A row is none that this version wrote."""


class OtherShard(JournalError):
    """The deployment is of another shard than this deployer works on."""


class NoSuchDeployment(JournalError):
    """There is none of that name."""


@dataclass(frozen=True)
class Record:
    """One deployment as read. ``kind`` is ``deploy`` or ``roll-back``."""

    id: str
    kind: str
    state: State
    revision: int
    plan: Plan
    facts: DeploymentState
    created: float
    updated: float
    holder: str | None
    lease_until: float

    @property
    def finished(self) -> bool:
        """Whether nothing happens by itself any more."""
        return self.state in TERMINAL

    @property
    def undoable(self) -> bool:
        """Whether a request to stop it undoes it: until the old slot is being stopped, or held before that."""
        return cancellable(self.state) or (self.state is State.RETIRE and bool(self.facts.held_by))


class Journal:
    """The table, and the few ways to change it. ``clock`` gives seconds since 1970."""

    def __init__(self, url: str, clock: Callable[[], float]) -> None:
        self._clock = clock
        options: dict[str, Any] = {"connect_args": {"timeout": 10}} if url.startswith("sqlite") else {}
        try:
            self._engine = sa.create_engine(url, pool_pre_ping=True, **options)
        except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError) as error:
            raise JournalError(f"no journal at {sa_url(url)}: {error}") from error
        self._url = sa_url(url)
        try:
            self._make_table()
        except Unreachable:
            self._make_table()  # the other of two at once had not finished: by now the table is seen

    def _make_table(self) -> None:
        """Create the table unless it is there.

        Of two at once PostgreSQL lets one create it and tells the other that its name is taken, by one of two errors.
        """
        with suppress(sa.exc.IntegrityError), self._connection() as connection:
            # Not create_all: it looks first, and of two that see no table the second would fail.
            connection.execute(CreateTable(_table, if_not_exists=True))

    @contextmanager
    def _connection(self) -> Iterator[sa.Connection]:
        """A transaction. What the database's driver raises becomes ``Unreachable``; a constraint's no stays itself."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except sa.exc.IntegrityError:
            raise
        except sa.exc.DBAPIError as error:
            raise Unreachable(f"the journal at {self._url} does not answer: {error.orig}") from error

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()

    def create(
        self,
        deployment_id: str,
        plan: Plan,
        *,
        kind: str = "deploy",
        state: State = State.PLAN,
        facts: DeploymentState | None = None,
        not_before: float | None = None,
    ) -> Record:
        """Open a deployment, or find it where the same one was opened already.

        ``not_before``: an older record of that id is another deployment. Raises ``AlreadyOpen``, ``IdTaken``.
        """
        now = self._clock()
        try:
            with self._connection() as connection:
                connection.execute(
                    _table.insert().values(
                        id=deployment_id,
                        kind=kind,
                        state=str(state),
                        revision=1,
                        plan=msgspec.json.encode(plan).decode(),
                        facts=deployment_state.encode((facts or DeploymentState()).with_(entered=now)),
                        created=now,
                        updated=now,
                        lease_until=0.0,
                        open=1,
                    )
                )
        except sa.exc.IntegrityError:
            try:
                return _same(self.read(deployment_id), kind, plan, not_before)
            except NoSuchDeployment:
                other = self.open_one()
                name = other.id if other is not None else "another one"
                raise AlreadyOpen(
                    f"{name} is open: wait for it, or undo it with `python -m ingest_ops roll-back`"
                ) from None
        return self.read(deployment_id)

    def read(self, deployment_id: str) -> Record:
        """Raises ``NoSuchDeployment``."""
        with self._connection() as connection:
            row = connection.execute(_table.select().where(_table.c.id == deployment_id)).mappings().first()
        if row is None:
            raise NoSuchDeployment(f"no deployment {deployment_id!r}")
        return _record(row)

    def open_one(self) -> Record | None:
        """The open deployment, if there is one."""
        with self._connection() as connection:
            row = connection.execute(_table.select().where(_table.c.open == 1)).mappings().first()
        return None if row is None else _record(row)

    def latest(self, limit: int = 20) -> list[Record]:
        """The last ones, the newest first."""
        query = _table.select().order_by(_table.c.created.desc()).limit(limit)
        with self._connection() as connection:
            return [_record(row) for row in connection.execute(query).mappings()]

    def forget(self, before: float, *, keep: int = 20) -> list[str]:
        """Remove what is closed and was changed last before then, but not the newest ``keep`` of a shard.

        The newest say what was live in each slot, which a roll-back asks for. Returns the ids.
        """
        shards: dict[str, list[str]] = {}
        for record in self.latest(MOST_RECORDS):
            shards.setdefault(record.plan.shard, []).append(record.id)
        kept = [name for names in shards.values() for name in names[:keep]]
        old = sa.and_(_table.c.open.is_(None), _table.c.updated < before, _table.c.id.not_in(kept))
        with self._connection() as connection:
            found = [str(row.id) for row in connection.execute(sa.select(_table.c.id).where(old))]
            connection.execute(_table.delete().where(_table.c.id.in_(found)))
        return found

    def lease(self, record: Record, holder: str, seconds: float = LEASE_SECONDS) -> Record:
        """Take or renew the lease. Raises ``Leased`` while another's runs. Does not change the revision."""
        now = self._clock()
        free = sa.or_(
            _table.c.holder.is_(None), _table.c.holder == holder, _table.c.lease_until < now
        )  # fmt: skip
        with self._connection() as connection:
            done = connection.execute(
                _table.update()
                .where(_table.c.id == record.id, free)
                .values(holder=holder, lease_until=now + seconds)
            )  # fmt: skip
        if done.rowcount != 1:
            raise Leased(f"{record.id} is being worked on by {self.read(record.id).holder}")
        return replace(record, holder=holder, lease_until=now + seconds)

    def release(self, record: Record, holder: str) -> None:
        """Give the lease back, if it is still ours."""
        with self._connection() as connection:
            connection.execute(
                _table.update()
                .where(_table.c.id == record.id, _table.c.holder == holder)
                .values(holder=None, lease_until=0.0)
            )  # fmt: skip

    def change(self, record: Record, *, state: State | None = None, facts: DeploymentState | None = None) -> Record:
        """Compare and swap: write if the revision is still the one read. Raises ``Stale``."""
        now = self._clock()
        new_state = record.state if state is None else state
        new_facts = record.facts if facts is None else facts
        with self._connection() as connection:
            done = connection.execute(
                _table.update()
                .where(_table.c.id == record.id, _table.c.revision == record.revision)
                .values(
                    state=str(new_state),
                    facts=deployment_state.encode(new_facts),
                    revision=record.revision + 1,
                    updated=now,
                    open=None if new_state in TERMINAL else 1,
                )
            )
        if done.rowcount != 1:
            raise Stale(f"{record.id} is no longer at revision {record.revision}")
        return replace(record, state=new_state, facts=new_facts, revision=record.revision + 1, updated=now)


def _same(record: Record, kind: str, plan: Plan, not_before: float | None) -> Record:
    """The record, if it is of this deployment. Raises ``IdTaken``."""
    when = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    known = f"{record.id} is a {record.kind} of {record.plan.version} from {when}, in state {record.state}"
    if record.kind != kind or msgspec.structs.replace(record.plan, requested_by="") != msgspec.structs.replace(
        plan, requested_by=""
    ):
        raise IdTaken(f"{known}, with another plan: choose another id")
    if not_before is not None and record.created < not_before:
        raise IdTaken(f"{known}: choose another id, or trigger a run with another run id")
    return record


def sa_url(url: str) -> str:
    """The address without its password, for messages."""
    try:
        return sa.engine.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "K2_DEPLOY_JOURNAL_URL"


def _record(row: Any) -> Record:
    """Raises ``Damaged``."""
    try:
        return Record(
            id=row["id"],
            kind=row["kind"],
            state=State(row["state"]),
            revision=row["revision"],
            plan=decode_typed(row["plan"], Plan),
            facts=deployment_state.decode(row["facts"]),
            created=row["created"],
            updated=row["updated"],
            holder=row["holder"],
            lease_until=row["lease_until"],
        )
    except ValueError as error:
        raise Damaged(
            f"the journal's row {str(row['id'])[:64]!r} cannot be read: {str(error)[:300]}; "
            "a newer version wrote it, or it was changed by hand"
        ) from error
