"""``ingest positions show``: what a shard's partition of the positions topic holds."""

import json

import msgspec
from msgspec import UNSET

from ingest.command import terminal
from ingest.kafka.positions import LayoutRecord
from ingest.kafka.positions_reader import PositionsReader
from ingest.settings import Settings


def show(settings: Settings, *, as_json: bool) -> int:
    """Print what a shard's partition holds; returns the exit code. Raises ``Retry`` or ``Stop``."""
    reader = PositionsReader(settings, any_format=True)
    try:
        state = reader.read()
    finally:
        reader.close()
    if as_json:
        terminal.write(json.dumps(msgspec.to_builtins(state), indent=2) + "\n")
        return 0
    writer = state.writer.instance if state.writer is not None else "none"
    where = "" if state.writer_offset is None else f" (record `writer` at offset {state.writer_offset})"
    terminal.write(f"generation {state.generation}, last writer {writer}{where}, {state.invalid} invalid records\n")
    if state.spent:
        terminal.write(f"no writer can have generation {state.generation}: forged; the next take-over corrects it\n")
    if state.refusal:
        terminal.write(f"no start writes: {state.refusal}\n")
    if state.layout is not None:
        terminal.write(f"{_layout(state.layout)}\n")
    for symbol, position in sorted(state.positions.items()):
        terminal.write(f"{symbol:20} {position.first_id} to {position.last_id}, {position.count} trades\n")
    return 0


def _layout(layout: LayoutRecord) -> str:
    text = f"{layout.shards} shards (layout {layout.version}, by {layout.by})"
    return text if layout.to is UNSET else f"{text}, being changed to {layout.to}"
