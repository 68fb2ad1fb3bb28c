"""A change of the number of shards on the real Kafka: writers wait, end or go on; killed runs are finished, undone."""

import argparse
import json
import queue
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from ingest.binance.symbols import shard_of
from ingest.core.batch import Batch, SymbolChanges
from ingest.core.errors import Fenced, Stop
from ingest.core.trade import Position, Void
from ingest.kafka import layout_guard, resharding, topics
from ingest.kafka.events import Committed, Failed, Recycled, Superseded, TookOver
from ingest.kafka.positions_reader import PositionsReader, read_layout
from ingest.kafka.reshard import KafkaReshardPort, run
from ingest.kafka.resharding import Resharding, TakenOver
from ingest.settings import Settings
from tests.integration.ingest.kafka.writing import DRAIN, Instance, Make, settings_for

pytestmark = pytest.mark.integration
SYMBOLS = ("BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT")


class Died(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


def reshard(settings: Settings, to: int | None, *, dies_at: str | None = None, dry: bool = False) -> int:
    """Run the command as its process does; ``dies_at``: a step whose beginning it does not survive."""
    if dies_at is None:
        options = argparse.Namespace(to=to, abort=to is None, dry_run=dry, json=True)
        return run(settings, options, shard_of)

    def step(name: str) -> None:
        if name.startswith(dies_at):
            raise Died

    with KafkaReshardPort(settings) as port:
        command = Resharding(
            port, topic=settings.positions_topic, configured=settings.service.shard_count, by="dies",
            shard_of=shard_of, time_ns=lambda: 10**18, on_step=step,
        )  # fmt: skip
        command._leave = lambda error: None  # type: ignore[method-assign]
        with pytest.raises(Died):
            command.run(to or 1)
        command.close()
    return -1


@pytest.fixture(autouse=True)
def two_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a run can die between two groups of fences."""
    monkeypatch.setattr(resharding, "FENCED_AT_ONCE", 2)


def positions(settings: Settings, shard: int) -> dict[str, Position]:
    reader = PositionsReader(settings.of_shard(shard))
    try:
        return reader.read().positions
    finally:
        reader.close()


@pytest.fixture
def blue(kafka: str, make: Make) -> Iterator[Instance]:
    """The writer of the only shard, with three trades of each symbol, a void and a command's symbol."""
    one = make(kafka, "blue")
    took = one.take_over()
    batch = Batch(
        records=[(symbol, number, b"%d" % number) for symbol in SYMBOLS for number in (1, 2, 3)],
        voids=[Void("BTCUSDT", 4, 5, "exchange_hole", {"replies": 3})],
        symbols=SymbolChanges(added=("ADAUSDT",)),
    )
    one.writer.write(took.session, batch)
    one.expect(Committed)
    yield one
    one.writer.close(DRAIN)


def expected(shards: int, shard: int) -> dict[str, Position]:
    ends = {symbol: Position(1, 5 if symbol == "BTCUSDT" else 3, 3) for symbol in SYMBOLS}
    return {symbol: position for symbol, position in ends.items() if shard_of(symbol, shards) == shard}


def require_shards(settings: Settings, shards: int) -> None:
    layout = read_layout(settings)
    assert layout is not None
    assert (layout.state, layout.shards) == ("stable", shards)
    for shard in range(layout.partitions):
        assert positions(settings, shard) == expected(shards, shard)


def test_positions_move_while_a_writer_runs_and_the_new_shards_go_on(
    kafka: str, make: Make, blue: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = blue.settings
    assert reshard(settings, 3, dry=True) == 0
    assert read_layout(settings) is None
    planned = json.loads(capsys.readouterr().out)
    assert (planned["from"], planned["to"], planned["positions"], planned["dry_run"]) == (1, 3, 6, True)
    assert reshard(settings, 3) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["from"], done["moved"], done["changed"]) == (1, planned["moved"], True)
    require_shards(settings, 3)
    ended = blue.expect_any(Failed, Superseded)
    if isinstance(ended, Superseded):  # as its follower would tell it
        blue.writer.take_over(None)
        ended = blue.expect(Failed)
    assert isinstance(ended, Failed)
    assert "K2_SHARD_COUNT=3" in str(ended.error)
    for shard in range(3):
        one = make(kafka, f"new{shard}", K2_SHARD_COUNT="3", K2_SHARD_INDEX=str(shard))
        took = one.take_over()
        assert took.state.positions == expected(3, shard)
        assert took.state.symbols.added == (("ADAUSDT",) if shard_of("ADAUSDT", 3) == shard else ())
        for symbol, position in took.state.positions.items():
            one.write(took.session, position.last_id + 1, symbol=symbol)
            one.expect(Committed)
    assert reshard(settings, 3) == 0, "it has so many already"


@pytest.mark.parametrize(
    "step",
    ["reading the positions", "adding", "fencing other", "committing the intent", "fencing shards 0",
     "fencing shards 2", "reading what came", "committing the move", "reading back"],
)  # fmt: skip
def test_a_run_that_was_killed_is_finished_by_the_next(blue: Instance, step: str) -> None:
    assert reshard(blue.settings, 3, dies_at=step) == -1
    assert reshard(blue.settings, 3) == 0
    require_shards(blue.settings, 3)


def test_a_change_that_is_taken_back_lets_the_writer_go_on(blue: Instance, capsys: pytest.CaptureFixture[str]) -> None:
    reshard(blue.settings, 3, dies_at="reading what came")
    assert reshard(blue.settings, None) == 0
    assert json.loads(capsys.readouterr().out)["taken_back"]["to"] == 3
    recycled = blue.expect(Recycled)
    blue.write(recycled.session, 4, symbol="ETHUSDT")
    blue.expect(Committed)
    assert reshard(blue.settings, None) == 0
    assert json.loads(capsys.readouterr().out)["taken_back"] is None


def test_writers_take_an_abandoned_change_back(blue: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout_guard, "ABANDONED_SECONDS", 2.0)
    reshard(blue.settings, 3, dies_at="committing the move")
    blue.expect(Recycled)
    require_shards(blue.settings, 1)


@pytest.mark.parametrize(
    ("step", "waits"), [("fencing shards 0", True), ("committing the move", True), ("reading back", False)]
)
def test_a_writer_that_begins_during_a_change_waits_for_its_end(
    kafka: str, make: Make, blue: Instance, step: str, *, waits: bool
) -> None:
    reshard(blue.settings, 3, dies_at=step)
    blue.writer.close(DRAIN)
    old = make(kafka, "old")
    new = make(kafka, "new", K2_SHARD_COUNT="3", K2_SHARD_INDEX="1")
    old.writer.take_over(None)
    new.writer.take_over(None)
    if waits:
        with pytest.raises(queue.Empty):
            new.events.get(timeout=1.0)
        assert old.events.empty()
        assert reshard(blue.settings, 3) == 0
    assert new.expect(TookOver).state.positions == expected(3, 1)
    assert "K2_SHARD_COUNT=3" in str(old.expect(Failed).error)


def test_the_later_of_two_runs_wins_and_the_other_says_so(blue: Instance) -> None:
    settings = blue.settings
    paused, go_on, outcome = threading.Event(), threading.Event(), list[BaseException]()

    def step(name: str) -> None:
        if name.startswith("committing the move"):
            paused.set()
            go_on.wait(60)

    def first() -> None:
        try:
            with KafkaReshardPort(settings) as port, Resharding(
                port, topic=settings.positions_topic, configured=1, by="first", shard_of=shard_of,
                time_ns=lambda: 10**18, on_step=step,
            ) as command:  # fmt: skip
                command.run(3)
        except Stop as error:
            outcome.append(error)

    thread = threading.Thread(target=first)
    thread.start()
    assert paused.wait(60)
    assert reshard(settings, 2) == 0
    go_on.set()
    thread.join(60)
    assert [type(error) for error in outcome] == [TakenOver]
    layout = read_layout(settings)
    assert layout is not None
    assert layout.shards == 2
    require_shards(settings, 2)


def test_partitions_added_later_have_no_layout_that_of_the_first_counts(kafka: str, make: Make, blue: Instance) -> None:
    assert reshard(blue.settings, 2) == 0
    with KafkaReshardPort(blue.settings) as port:
        port.add_partitions(4)
    stranger = make(kafka, "stranger", K2_SHARD_COUNT="4", K2_SHARD_INDEX="3")
    stranger.writer.take_over(None)
    assert "K2_SHARD_COUNT=2" in str(stranger.expect(Failed).error)


def test_a_partition_that_an_older_version_wrote_is_refused(blue: Instance) -> None:
    settings = blue.settings
    blue.writer.close(DRAIN)
    with KafkaReshardPort(settings) as port:
        producer = port.open(0)
        producer.init()
        old = b'{"generation":9,"instance":"old","deployment_id":null,"committed_at_us":1,"sequence":1,"v":1}'
        producer.transact(iter([(settings.positions_topic, b"writer", old, 0)]))
        producer.close()
    with pytest.raises(Stop, match="shards 0 were written last by a version"):
        reshard(settings, 3)
    assert read_layout(settings) is None, "refused before anything stops"


def test_many_shards_are_fenced_at_once(kafka: str) -> None:
    """One after the other would stop the writers for a minute where there are some hundred."""
    settings = settings_for(kafka, "blue", f"t-{uuid.uuid4().hex[:8]}")
    topics.create(settings, partitions=1, replication_factor=1)
    with KafkaReshardPort(settings) as port:
        port.add_partitions(24)
        alone, began = 0.0, time.monotonic()
        for shard in range(4):
            port.fence([shard])
        alone, began = time.monotonic() - began, time.monotonic()
        port.fence(range(4, 20))
        together = time.monotonic() - began
        assert together < 4 * alone, f"16 in {together:.2f} s, 4 one after the other in {alone:.2f} s"
        owner = port.open(5)
        owner.init()
        port.fence(range(4, 20))
        with pytest.raises(Fenced):
            owner.transact(iter([(settings.positions_topic, b"k", b"v", 5)]))
        owner.close()
