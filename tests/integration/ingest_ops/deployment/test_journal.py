import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from ingest_ops.deployment.journal import (
    AlreadyOpen,
    Damaged,
    IdTaken,
    Journal,
    JournalError,
    Leased,
    NoSuchDeployment,
    Stale,
    Unreachable,
)
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.state_machine import State
from tests.harness.postgres import Postgres, PostgresUnavailable

PLAN = parse({"version": "v2"})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    try:
        with Postgres() as running:
            yield running.url
    except PostgresUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each test with either database, and an empty table."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'journal.db'}"
    found: str = request.getfixturevalue("postgres")
    engine = sa.create_engine(found)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS ingest_deployments"))
    engine.dispose()
    return found


@pytest.fixture
def journal(url: str, clock: Clock) -> Iterator[Journal]:
    made = Journal(url, clock)
    yield made
    made.close()


def test_it_survives_its_process(url: str, journal: Journal, clock: Clock) -> None:
    record = journal.create("d1", PLAN)
    journal.change(record, state=State.BUILD, facts=record.facts.with_(live="blue"))
    other = Journal(url, clock)
    found = other.read("d1")
    other.close()
    assert (found.state, found.facts.live, found.plan) == (State.BUILD, "blue", PLAN)


def test_a_change_from_an_old_revision_is_refused_and_changes_nothing(journal: Journal) -> None:
    record = journal.create("d1", PLAN)
    journal.change(record, state=State.BUILD)
    with pytest.raises(Stale):
        journal.change(record, state=State.ABORTED)
    assert journal.read("d1").state is State.BUILD


def test_of_many_at_once_exactly_one_succeeds(journal: Journal) -> None:
    record = journal.create("d1", PLAN)
    start, won = threading.Barrier(8), []

    def change(number: int) -> None:
        start.wait()
        try:
            journal.change(record, facts=record.facts.with_(reason=f"{number}"))
        except Stale:
            return
        won.append(number)

    threads = [threading.Thread(target=change, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert journal.read("d1").facts.reason == f"{won[0]}"


def test_only_one_is_open_at_a_time(journal: Journal) -> None:
    first = journal.create("d1", PLAN)
    with pytest.raises(AlreadyOpen, match="d1 is open"):
        journal.create("d2", PLAN)
    journal.change(first, state=State.ABORTED)
    assert journal.create("d2", PLAN).id == "d2"
    assert journal.open_one() is not None
    assert [record.id for record in journal.latest()] == ["d1", "d2"] or len(journal.latest()) == 2


def test_opening_the_same_one_again_finds_it(journal: Journal) -> None:
    record = journal.change(journal.create("d1", PLAN), state=State.BUILD)
    assert journal.create("d1", PLAN) == record


@pytest.mark.parametrize("state", [State.BUILD, State.DONE])
def test_an_id_belongs_to_one_plan(journal: Journal, state: State) -> None:
    journal.change(journal.create("d1", PLAN), state=state)
    assert journal.create("d1", parse({"version": "v2", "requested_by": "another"})).state is state
    for other in (parse({"version": "v3"}), parse({"version": "v2", "min_rate": 1})):
        with pytest.raises(IdTaken, match="another plan"):
            journal.create("d1", other)
    with pytest.raises(IdTaken, match="another plan"):
        journal.create("d1", PLAN, kind="roll-back")


def test_an_older_record_of_an_id_is_another_deployment(journal: Journal, clock: Clock) -> None:
    record = journal.change(journal.create("d1", PLAN), state=State.DONE)
    assert journal.create("d1", PLAN, not_before=record.created).state is State.DONE
    with pytest.raises(IdTaken, match="in state DONE: choose another id"):
        journal.create("d1", PLAN, not_before=record.created + 1)


def test_the_lease_keeps_others_out_until_it_runs_out(journal: Journal, clock: Clock) -> None:
    record = journal.create("d1", PLAN)
    journal.lease(record, "a", 60)
    journal.lease(record, "a", 60)
    with pytest.raises(Leased, match="by a"):
        journal.lease(record, "b", 60)
    clock.now += 61
    assert journal.lease(record, "b", 60).holder == "b"
    with pytest.raises(Leased):
        journal.lease(record, "a", 60)
    journal.release(record, "a")  # not a's to give back
    with pytest.raises(Leased):
        journal.lease(record, "a", 60)
    journal.release(record, "b")
    assert journal.lease(record, "a", 60).holder == "a"


def test_an_unknown_name_is_said(journal: Journal) -> None:
    with pytest.raises(NoSuchDeployment, match="d9"):
        journal.read("d9")


@pytest.mark.parametrize(
    ("column", "text"), [("state", "LATER"), ("plan", "{}"), ("plan", "{{{"), ("facts", "[]"), ("facts", "[" * 100_000)]
)
def test_a_row_of_another_version_is_named(url: str, clock: Clock, journal: Journal, column: str, text: str) -> None:
    journal.create("d1", PLAN)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE ingest_deployments SET {column} = :text"), {"text": text})  # noqa: S608
    engine.dispose()
    for read in (lambda: journal.read("d1"), journal.open_one, journal.latest):
        with pytest.raises(Damaged, match="'d1' cannot be read"):
            read()


def test_many_that_find_no_table_make_one(url: str, clock: Clock) -> None:
    start, failed = threading.Barrier(4), []

    def begin() -> None:
        start.wait()
        try:
            Journal(url, clock).close()
        except JournalError as error:
            failed.append(error)

    threads = [threading.Thread(target=begin) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_a_database_that_is_not_there_is_said_without_its_password(clock: Clock) -> None:
    with pytest.raises(Unreachable, match="does not answer") as found:
        Journal("postgresql+psycopg2://k2:secret@127.0.0.1:9/none", clock)
    assert "secret" not in str(found.value)
    with pytest.raises(JournalError, match="no journal"):
        Journal("nosuch://x", clock)
