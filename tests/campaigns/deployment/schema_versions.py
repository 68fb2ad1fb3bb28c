"""Versions for the deployment drill whose schema of trades is another one."""

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import fastavro

from ingest.core.trade import Trade
from ingest.kafka import schemas
from ingest.kafka.encoding import TradeEncoder


def _another_schema(schema: dict[str, Any]) -> None:
    path = Path(tempfile.mkdtemp(prefix="k2-schema-")) / "trade.avsc"
    path.write_text(json.dumps(schema))
    schemas.SCHEMA_PATH = path


def drops_fields() -> None:
    """The next version of the schema, without the times of the delivery."""
    whole = json.loads(schemas.trade_schema())
    less = {**whole, "fields": [one for one in whole["fields"] if not one["name"].startswith(("event_", "receive_"))]}
    _another_schema(less)
    before, after = fastavro.parse_schema(whole), fastavro.parse_schema(less)
    original = TradeEncoder.encode

    def encode(self: TradeEncoder, trade: Trade, ingestion_us: int) -> bytes:
        value = original(self, trade, ingestion_us)
        out = io.BytesIO()
        out.write(value[:5])
        fastavro.schemaless_writer(out, after, fastavro.schemaless_reader(io.BytesIO(value[5:]), before, None))
        return out.getvalue()

    TradeEncoder.encode = encode  # type: ignore[method-assign]


def adds_field() -> None:
    """The next version of the schema: one more field, with a default."""
    schema = json.loads(schemas.trade_schema())
    schema["fields"].append({"name": "venue_note", "type": ["null", "string"], "default": None})
    _another_schema(schema)
    original = TradeEncoder.encode

    def encode(self: TradeEncoder, trade: Trade, ingestion_us: int) -> bytes:
        return original(self, trade, ingestion_us) + b"\x00"  # null

    TradeEncoder.encode = encode  # type: ignore[method-assign]
