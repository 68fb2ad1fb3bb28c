"""``ingest reshard`` from 4 to 6 to 3 shards while all of them are written, its process killed at every step."""

import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator

import pytest

from ingest.binance.symbols import shard_of
from ingest.core.batch import Batch
from ingest.core.trade import Position
from ingest.kafka import topics
from ingest.kafka.events import Committed, Failed, Superseded, TookOver
from ingest.kafka.positions_reader import PositionsReader, read_layout
from ingest.settings import Settings
from tests.integration.ingest.kafka.writing import DRAIN, Instance, read, settings_for

pytestmark = pytest.mark.integration
SYMBOLS = tuple(f"S{number}USDT" for number in range(24))
STEPS = (
    "reading the positions", "adding partitions", "fencing other runs", "committing the intent", "fencing shards",
    "reading what came meanwhile", "committing the move", "reading back",
)  # fmt: skip
"""As the command prints them, each before it is begun."""


KILLS_ITSELF = """
import os, signal, sys, threading
from ingest.kafka import reshard

class Steps(reshard.Steps):
    def __call__(self, step):
        super().__call__(step)
        if step.startswith({step!r}):
            threading.Timer({after}, os.kill, (os.getpid(), signal.SIGKILL)).start() if {after} else os.kill(
                os.getpid(), signal.SIGKILL)

reshard.Steps = Steps
sys.argv = ["ingest", "reshard", "--to", "{to}"]
from ingest.cli import main
sys.exit(main())
"""
"""From outside it would be a step or two farther on, when it is killed."""


def reshard(settings: Settings, to: int, step: str = "-", *, after: float = 0.0) -> bool:
    """Run the command; returns whether it was killed, ``after`` seconds in a step that begins with ``step``."""
    environment = {
        "K2_KAFKA_BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "K2_KAFKA_TOPIC": settings.kafka.topic,
        "K2_INSTANCE_ID": "command",
        "K2_SHARD_COUNT": "4",
    }
    program = KILLS_ITSELF.format(step=step, after=after, to=to)
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode in (0, -signal.SIGKILL), ended.stderr
    return ended.returncode != 0


class Shards:
    """A writer for each shard; what they have written is known."""

    def __init__(self, kafka: str) -> None:
        self.topic = f"t-{uuid.uuid4().hex[:8]}"
        self._kafka = kafka
        self._writers: dict[int, Instance] = {}
        self.shards = 4
        self.written = dict.fromkeys(SYMBOLS, 0)
        self.settings = settings_for(kafka, "blue", self.topic)
        topics.create(
            settings_for(kafka, "blue", self.topic, K2_SHARD_COUNT="4", K2_SHARD_INDEX="0"),
            partitions=2, replication_factor=1,
        )  # fmt: skip

    def start(self, shards: int) -> None:
        """A writer of each shard, in place of those before."""
        self.close()
        self.shards = shards
        for shard in range(shards):
            more = {"K2_SHARD_COUNT": str(shards), "K2_SHARD_INDEX": str(shard)}
            self._writers[shard] = Instance(settings_for(self._kafka, f"of{shards}-{shard}", self.topic, **more))
            self._writers[shard].writer.take_over(None)

    def write(self) -> None:
        """Two further trades of each symbol, in one transaction of its shard."""
        for shard, one in self._writers.items():
            took = one.expect(TookOver)
            records = []
            for symbol in SYMBOLS:
                if shard_of(symbol, self.shards) == shard:
                    position = took.state.positions.get(symbol, Position(1, 0, 0))
                    assert position.last_id == self.written[symbol]
                    self.written[symbol] += 2
                    records += [(symbol, last, b"%d" % last) for last in (position.next_id, position.next_id + 1)]
            if records:
                one.writer.write(took.session, Batch(records=records))
                one.expect(Committed)

    def ends(self) -> None:
        """Every writer of the old number ends."""
        for one in self._writers.values():
            ended: object = None
            while not isinstance(ended, Failed):
                ended = one.expect_any(Failed, Superseded)
                if isinstance(ended, Superseded):  # as its lease would
                    one.writer.take_over(None)
            assert "K2_SHARD_COUNT" in str(ended.error)

    def close(self) -> None:
        for one in self._writers.values():
            one.writer.close(DRAIN)
        self._writers.clear()

    def require(self, shards: int) -> None:
        """Each position is in the partition of its shard, and nowhere else; the records are there once."""
        layout = read_layout(self.settings)
        assert layout is not None
        assert (layout.state, layout.shards) == ("stable", shards)
        stored = {shard: positions(self.settings, shard) for shard in range(layout.partitions)}
        for symbol, last_id in self.written.items():
            holders = {shard: ends[symbol].last_id for shard, ends in stored.items() if symbol in ends}
            assert holders == {shard_of(symbol, shards): last_id}, symbol
        ids: dict[str, list[int]] = {}
        for key, value in read(self._kafka, self.topic):
            ids.setdefault((key or b"").decode(), []).append(int(value or b""))
        assert ids == {symbol: list(range(1, last_id + 1)) for symbol, last_id in self.written.items()}


def positions(settings: Settings, shard: int) -> dict[str, Position]:
    reader = PositionsReader(settings.of_shard(shard))
    try:
        return reader.read().positions
    finally:
        reader.close()


@pytest.fixture
def shards(kafka: str) -> Iterator[Shards]:
    one = Shards(kafka)
    yield one
    one.close()


def test_from_four_to_six_to_three_shards_killed_at_every_step(shards: Shards) -> None:
    shards.start(4)
    shards.write()
    for to, steps in ((6, STEPS), (3, tuple(step for step in STEPS[:-1] if step != "adding partitions"))):
        assert tuple(step for step in steps if reshard(shards.settings, to, step)) == steps
        if to == 3:  # and somewhere in a step: it may be a later one by then, or the end
            for number, step in enumerate(steps):
                reshard(shards.settings, to, step, after=0.004 * (1 + number % 3))
        assert not reshard(shards.settings, to)
        shards.ends()
        shards.require(to)
        shards.start(to)
        shards.write()
        shards.require(to)
