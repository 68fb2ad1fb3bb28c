"""What the event loop asks of the writer's thread."""

import msgspec

from ingest.core.batch import Batch
from ingest.kafka.position_records import LayoutRecord


class TakeOver(msgspec.Struct, frozen=True):
    """Become the writer."""

    deployment_id: str | None


class Write(msgspec.Struct, frozen=True):
    """Commit a batch, if this is still the session that it was made for."""

    session: int
    batch: Batch


class Defend(msgspec.Struct, frozen=True):
    """Find out whether a record that claims a newer generation is forged."""

    claimed: int


class RestoreLayout(msgspec.Struct, frozen=True):
    """Commit the true layout over a record that contradicts it."""

    layout: LayoutRecord


class Release(msgspec.Struct, frozen=True):
    """Stop writing."""


class Close(msgspec.Struct, frozen=True):
    """End the thread."""


Command = TakeOver | Write | Defend | RestoreLayout | Release | Close
