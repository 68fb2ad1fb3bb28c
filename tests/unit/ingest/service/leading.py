"""An instance with a scripted writer, on virtual time."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from ingest.core.batch import Batch
from ingest.core.role import Role
from ingest.core.trade import Position
from ingest.kafka.events import Committed, Released, Superseded, TookOver
from ingest.kafka.positions import LayoutRecord, ShardState, ShardStateUpdate, WriterRecord
from ingest.metrics import Metrics
from ingest.service.batch_dispatcher import BatchDispatcher
from ingest.service.handover import Handover
from ingest.service.leadership import WriterLeadership
from ingest.service.lease import Lease
from ingest.service.pipeline import Pipeline
from ingest.settings import load
from tests.harness.clock import run_virtual
from tests.unit.ingest.service.backfilling import PlainEncoder


class FakeWriter:
    """Remembers what it is told; ``answering`` decides what comes back."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.batches: list[tuple[int, Batch]] = []
        self.leadership: WriterLeadership
        self.take_over_answer: Callable[[], None] = lambda: None
        self.layouts: list[LayoutRecord] = []
        self.owns_id = False
        """Whether a claim of a newer generation is forged."""

    def take_over(self, deployment_id: str | None) -> None:
        self.told.append(f"take_over {deployment_id}")
        asyncio.get_running_loop().call_soon(self.take_over_answer)

    def write(self, session: int, batch: Batch) -> None:
        self.batches.append((session, batch))

    def defend(self, claimed: int) -> None:
        self.told.append(f"defend {claimed}")
        if not self.owns_id:
            asyncio.get_running_loop().call_soon(self.leadership.on_writer_event, Superseded(claimed))

    def restore_layout(self, layout: LayoutRecord) -> None:
        self.told.append("restore layout")
        self.layouts.append(layout)

    def release(self) -> None:
        self.told.append("release")
        asyncio.get_running_loop().call_later(0.1, self.leadership.on_writer_event, Released())

    def close(self, seconds: float) -> None:
        self.told.append("close")


def writer_record(instance: str, generation: int) -> WriterRecord:
    return WriterRecord(generation, instance, None, 1, 1)


class Case:
    """A leadership on a pipeline with one symbol."""

    def __init__(self, **environment: str) -> None:
        loop = asyncio.get_running_loop()
        self.settings = load({"K2_INSTANCE_ID": "blue", **environment})
        self.metrics = Metrics(process=False)
        self.pipeline = Pipeline(
            encoder=PlainEncoder(), metrics=self.metrics, max_trades=1000, batch_records=3, jump_limit=1000,
            dead_letter_max_bytes=100, monotonic=loop.time, time_ns=lambda: 10**18,
        )  # fmt: skip
        self.pipeline.sequencer.add("BTCUSDT")
        self.writer = FakeWriter()
        writer: Any = self.writer
        self.roles: list[Role] = []
        self.dispatcher = BatchDispatcher(self.settings, self.pipeline, writer, monotonic=loop.time)
        self.leadership = WriterLeadership(
            self.settings, self.metrics, self.pipeline, writer, self.dispatcher,
            monotonic=loop.time, time_ns=lambda: 10**18, on_role=self.roles.append,
        )  # fmt: skip
        self.writer.leadership = self.leadership
        self.lease = Lease(self.settings, self.leadership, loop.time)
        self.handover = Handover(self.leadership, drain_seconds=10.0)
        self.generation = 0
        self.position = Position(1, 9, 9)
        self.stored_layout: LayoutRecord | None = None
        self.writer.take_over_answer = self.took_over

    def took_over(self) -> None:
        self.generation += 1
        self.leadership.on_writer_event(
            TookOver(self.generation, self.state("blue"), self.generation, 0.01, None, {"fence": 0.002})
        )

    def state(self, instance: str | None = None) -> ShardState:
        record = writer_record(instance, self.generation) if instance else None
        return ShardState({"BTCUSDT": self.position}, self.generation, record, layout=self.stored_layout)

    def begin(self, instance: str | None = None) -> None:
        self.leadership.on_first_state(self.state(instance))
        self.leadership.begin()

    def heartbeat(self, instance: str, generation: int, last_id: int | None = None) -> None:
        positions = {} if last_id is None else {"BTCUSDT": Position(1, last_id, last_id)}
        self.leadership.on_state_update(ShardStateUpdate(positions, writer_record(instance, generation)))

    def commit(self) -> None:
        session, batch = self.writer.batches.pop(0)
        last_ids = {symbol: trade_id for symbol, trade_id, _ in batch.records}
        trades = Counter(symbol for symbol, _, _ in batch.records)
        self.leadership.on_writer_event(Committed(session, batch, 0.001, 0.002, last_ids, trades))

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


def case(scenario: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_virtual(scenario())

    run.__name__ = scenario.__name__
    return run


async def background(*work: Coroutine[Any, Any, None], seconds: float) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in work]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
