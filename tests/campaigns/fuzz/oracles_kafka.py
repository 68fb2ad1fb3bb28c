"""What must hold whatever the registry answers and whatever a record in a topic contains."""

import asyncio
import io
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import fastavro

from ingest.audit import decode as audit_decode
from ingest.audit.model import Inconclusive
from ingest.audit.positions import Positions
from ingest.core.errors import Retry, Stop
from ingest.core.trade import Trade
from ingest.kafka.encoding import EARLIEST_US
from ingest.kafka.position_records import VERSION
from ingest.kafka.positions import ShardStateBuilder, stored_void
from ingest.kafka.schema_check import HEADER, SYMBOLS
from ingest.kafka.schemas import Registry, make_encoder, trade_schema
from ingest.metrics import Metrics
from ingest.reader.records import ReaderError
from ingest.reader.schemas import Decoder as ReaderDecoder
from ingest.settings import Settings
from tests.campaigns.fuzz.oracles import says, short

STATUSES = (200, 200, 200, 201, 204, 301, 400, 401, 403, 404, 405, 409, 422, 429, 500, 503)
_SETTINGS = Settings()
_METRICS = Metrics(process=False)
_SCHEMA = json.loads(trade_schema())


class _Answering(Registry):
    """The real registry's client, whose answers are up to the oracle."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(_SETTINGS)
        self._answer = status, body

    async def _request(self, method: str, url: str, body: bytes | None) -> tuple[int, bytes]:
        return self._answer


def check_registry(data: bytes) -> None:
    """A status (first byte) and a body: a schema that holds our records in full, or nothing is written."""
    status, body = STATUSES[data[0] % len(STATUSES)] if data else 200, data[1:]
    found = asyncio.run(_resolved(status, body))
    if found is not None:
        schema_id, text = found
        assert 0 <= schema_id < 2**31
        check_schema(text.encode("utf-8", "surrogatepass"))


async def _resolved(status: int, body: bytes) -> tuple[int, str] | None:
    async with _Answering(status, body) as registry:
        try:
            await registry.schema(1)
        except (Retry, Stop) as error:
            short(error, 2000)
        try:
            return await registry.resolve_schema()
        except (Retry, Stop) as error:
            short(error, 2000)
            return None


def check_schema(data: bytes) -> None:
    """The text of a schema: refused, or price, quantity, id and time are read back as they were."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        encoder = make_encoder(_SETTINGS, _METRICS, 7, text, SYMBOLS)
    except Stop as error:
        short(error, 4000)
        return
    trade = Trade("PROBE", 987_654_321, "61234.56789012", "0.00012345", EARLIEST_US + 77, buyer_is_maker=True)
    written = encoder.encode(trade, EARLIEST_US + 99)
    found: Any = fastavro.schemaless_reader(io.BytesIO(written[HEADER:]), fastavro.parse_schema(json.loads(text)), None)
    assert found["price"] == Decimal("61234.56789012")
    assert found["quantity"] == Decimal("0.00012345")
    assert found["source_sequence"] == 987_654_321
    assert found["trade_id"].endswith("987654321")


def check_positions(data: bytes) -> None:
    """Records of the positions topic (key, NUL, value; separated by line feeds), for writer and auditor."""
    builder, auditor = ShardStateBuilder(), Positions()
    for line in data.split(b"\n"):
        key, has_value, value = line.partition(b"\0")
        builder.apply(key, value if has_value else None)
        auditor.take(0, key, value if has_value else None)
        stored_void(key, value if has_value else None)
    state = builder.state()
    try:
        state.require_format()
    except Stop as error:
        says(error, f"reads format {VERSION}")
    try:
        auditor.require_format()
    except Inconclusive as error:
        says(error, "update it")
    assert 0 <= state.generation <= 2**53
    for symbol, one in state.positions.items():
        assert 0 < len(symbol) <= 64
        assert 0 <= one.first_id <= one.last_id + 1 <= 2**63
        assert 0 <= one.count <= one.last_id - one.first_id + 1
    assert len(state.symbols.added) <= 10_000
    assert all(len(one) < 3000 for one in builder.invalid)
    assert state.writer is None or 0 < len(state.writer.instance) <= 64
    builder.update()


def check_record(data: bytes) -> None:
    """A record of the trades topic, for the auditor and for readers, with the schema that the registry has."""
    decoder = audit_decode.Decoder(lambda _: json.loads(trade_schema()))
    try:
        found = decoder.decode(data)
    except audit_decode.Unreadable as error:
        short(error, 500)
    else:
        assert set(audit_decode.FIELDS) <= set(found)
    reader = _Reader("http://registry")
    try:
        name, record = reader.decode(data, "partition 0, offset 7")
        assert name == "TradeV2"
        assert isinstance(record, dict)
    except ReaderError as error:
        says(error, "offset 7")


class _Reader(ReaderDecoder):
    """The reader's decoder, with a registry that has one schema."""

    def _fetch(self, number: int) -> Any:
        return fastavro.parse_schema(_SCHEMA)


ORACLES: dict[str, Callable[[bytes], None]] = {
    "registry": check_registry,
    "schema": check_schema,
    "positions": check_positions,
    "record": check_record,
}
