"""What the writer thread tells the event loop."""

import msgspec

from ingest.core.batch import Batch
from ingest.core.errors import IngestError
from ingest.kafka.position_check import Checked
from ingest.kafka.positions import ShardState


class TookOver(msgspec.Struct, frozen=True):
    """The predecessor is fenced, the positions are read, the own generation is committed: batches may come."""

    session: int
    """Number of this producer's incarnation; batches of an older one are ignored."""
    state: ShardState
    generation: int
    seconds: float
    """From the request to the committed generation."""
    gap_seconds: float | None = None
    """From the predecessor's last commit (broker time) to ours; None where there was none."""
    stages: dict[str, float] = {}
    """What took how long, in order, seconds: see ``metrics.TAKE_OVER_STAGES``."""
    checked: Checked = Checked()
    """What the newest records say about the positions."""


class Committed(msgspec.Struct, frozen=True):
    """A transaction is committed. ``batch`` is the very object that was handed over; None for a heartbeat."""

    session: int
    batch: Batch | None
    commit_seconds: float
    transaction_seconds: float
    last_ids: dict[str, int] = {}
    """Symbol -> how far it is accounted for now, of those that the batch touched."""
    trades: dict[str, int] = {}
    """Symbol -> how many trades the batch had of it."""
    transactions: int = 1
    """How many transactions the batch was split into."""

    def add_to(self, trades: dict[str, int], last_ids: dict[str, int]) -> None:
        """Sum up what the transactions of one batch have committed."""
        for symbol, count in self.trades.items():
            trades[symbol] = trades.get(symbol, 0) + count
        last_ids.update(self.last_ids)


class Recycled(msgspec.Struct, frozen=True):
    """The producer was destroyed and its successor initialised; what ``state`` lacks must be handed over again."""

    session: int
    state: ShardState
    reason: str


class FenceDetected(msgspec.Struct, frozen=True):
    """The broker has refused us for another producer's sake: nothing is written until it is known whose."""


class Superseded(msgspec.Struct, frozen=True):
    """A newer generation writes: stand by."""

    generation: int


class Defended(msgspec.Struct, frozen=True):
    """A record claimed a newer generation, but the transactional id is ours: this is the generation now."""

    generation: int


class LayoutRestored(msgspec.Struct, frozen=True):
    """A record contradicted the number of shards, but the transactional id is ours: the true layout is stored again."""


class Released(msgspec.Struct, frozen=True):
    """The producer is closed as asked; nothing is in flight."""


class Failed(msgspec.Struct, frozen=True):
    """It cannot go on: ``error`` says what a person must change."""

    error: IngestError


WriterEvent = (
    TookOver | Committed | Recycled | FenceDetected | Superseded | Defended | LayoutRestored | Released | Failed
)
