"""What the protocol of the transactional writer needs of Kafka; the real client has it, and models of it in tests."""

from collections.abc import Iterator
from typing import Protocol

from ingest.core.trade import DeadLetter
from ingest.kafka.positions import ShardState
from ingest.kafka.producer import Message, Timing


class ProducerPort(Protocol):
    """One incarnation of the shard's producer, see ``producer.TransactionalProducer``."""

    def init(self) -> None:
        """End and fence the predecessor."""

    def transact(self, messages: Iterator[Message]) -> Timing:
        """One transaction."""

    def recycle_reason(self, timing: Timing) -> str | None:
        """Why it must be replaced after a commit, if it must."""

    def serve(self) -> None:
        """Let the client library work."""

    def close(self) -> None:
        """Destroy it."""


class LayoutCheck(Protocol):
    """What allows a writer to write, see ``layout_guard.LayoutGuard``."""

    def __call__(self, state: ShardState, *, own_generation: bool = False) -> None:
        """Return if the stored number of shards allows it. Raises ``Retry`` (wait, read once more) or ``Stop``.

        ``own_generation``: the latest generation in ``state`` is the writer's own.
        """


def any_layout(state: ShardState, *, own_generation: bool = False) -> None:
    """Allow every number of shards, where none is configured."""
    del state, own_generation


class BrokerPort(Protocol):
    """Where incarnations come from, and the positions."""

    def open(self) -> ProducerPort:
        """A new incarnation, not yet initialised."""

    def read_state(self) -> ShardState:
        """The positions, ``read_committed`` to the end of now."""

    def recorded_from(self, partition: int, before_ms: int) -> bool:
        """Whether a partition of the trades topic, from this one on, had a record before a time. Raises ``Retry``."""

    def unfinished(self) -> bool:
        """Whether a transaction stood open behind what the last ``read_state`` read."""

    def partitions(self) -> int | None:
        """How many partitions the trades topic has, None if that is not known. Raises ``Retry``."""

    def send_dead_letters(self, letters: list[DeadLetter]) -> None:
        """Send evidence, outside of the transactions."""

    def wait(self, seconds: float) -> bool:
        """Sleep; returns True at once when asked to stop."""
