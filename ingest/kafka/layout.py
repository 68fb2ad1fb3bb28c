"""The layout: how many shards the positions topic has, and what an instance does where its own number is another.

Every partition of the positions topic holds the same ``layout`` record, so that each instance sees it in the partition
that it reads anyway. ``resharding`` changes it (decision 22). Pure.
"""

from msgspec import UNSET

from ingest.core.errors import Retry, Stop
from ingest.kafka.position_records import LayoutRecord

ABANDONED_SECONDS = 60.0
"""A change of the number of shards that a waiting writer has seen for so long is taken back: its command has ended."""


class Changing(Retry):
    """The number of shards is being changed: wait. ``layout`` is the record that says so."""

    def __init__(self, layout: LayoutRecord) -> None:
        super().__init__(
            f"the number of shards is being changed from {layout.shards} to {layout.to} by {layout.by}: waiting; if "
            f"that command has ended, `ingest reshard --to {layout.to}` finishes the change, `ingest reshard --abort` "
            "takes it back"
        )
        self.layout = layout


def require_layout(layout: LayoutRecord | None, shards: int) -> None:
    """Return if a writer of one of ``shards`` shards may write.

    Raises ``Changing`` while the number is changed from or to ``shards``, ``Stop`` if the stored one is another.
    """
    if layout is None or (layout.state == "stable" and layout.shards == shards):
        return
    if layout.state == "changing" and shards in (layout.shards, layout.to):
        raise Changing(layout)
    raise Stop(other_number(layout, shards))


def other_number(layout: LayoutRecord, shards: int) -> str:
    """What to say where the stored number of shards is not that of the settings."""
    stored = layout.shards if layout.to is UNSET else layout.to
    return (
        f"the positions topic has {stored} shards, but K2_SHARD_COUNT is {shards}: start this instance with "
        f"K2_SHARD_COUNT={stored}, or change the topic with `ingest reshard --to {shards}`"
    )


def configured(shards: int) -> LayoutRecord:
    """The layout of the settings: in force where none was ever stored."""
    return LayoutRecord(0, "stable", shards, "settings", 0, shards)


def changing(present: LayoutRecord, to: int, *, by: str, now_us: int, partitions: int) -> LayoutRecord:
    """The record that begins a change."""
    return LayoutRecord(present.version + 1, "changing", present.shards, by, now_us, partitions, to)


def stable(present: LayoutRecord, shards: int, *, by: str, now_us: int) -> LayoutRecord:
    """The record that ends a change, with its number or the one before."""
    return LayoutRecord(present.version + 1, "stable", shards, by, now_us, present.partitions)
