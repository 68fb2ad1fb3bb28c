"""Whether records survive a schema of the registry: every field of ``TradeV2`` in full, tried at its extremes."""

import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from ingest.core.errors import Reject, Stop
from ingest.core.trade import Trade
from ingest.kafka.encoding import EARLIEST_US, LATEST_US, PRECISION, SCALE, Encoder, record

SYMBOLS = {"PROBE": ("PROBE", "USDT"), "币安人生USDT": ("币安人生", "USDT")}
MOST_RECORD = 4096
"""Bytes of a record whose fields of ours are at their extremes: much more can only be defaults of further fields."""
HEADER = 5
"""Bytes before the Avro body: a zero and the schema id."""
MALFORMED = (ArithmeticError, AttributeError, EOFError, LookupError, TypeError, ValueError)
"""What a schema of any shape makes our reading of it, or fastavro's, raise."""
OPTIONAL = frozenset(("event_timestamp", "receive_timestamp"))
"""Fields that older versions of the schema do not have: a record without them loses no fact of the exchange."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LARGEST = f"{'9' * (PRECISION - SCALE)}.{'9' * SCALE}"
_SMALLEST = "0.00000001"


def extremes() -> Iterator[Trade]:
    """Trades at the bounds of every field."""
    for symbol in SYMBOLS:
        yield Trade(symbol, 0, _SMALLEST, _LARGEST, EARLIEST_US, buyer_is_maker=True, event_time_us=LATEST_US)
        yield Trade(symbol, 2**63 - 1, _LARGEST, _SMALLEST, LATEST_US, buyer_is_maker=False)
        yield Trade(symbol, 2**33, "1.10000000", "0.00000000", EARLIEST_US + 1, buyer_is_maker=True)


def check(name: str, schema: Any, ours: Any, make: Callable[[], Encoder]) -> None:
    """Raise ``Stop`` unless a record of ours, written with ``schema``, is read back as it was."""
    try:
        problem = next(_missing(schema, ours), None) or next(_lost(schema, make), None)
    except RecursionError:
        problem = "it is nested too deeply"
    except MALFORMED as error:
        problem = f"it is no schema: {type(error).__name__}: {str(error)[:200]}"
    if problem is not None:
        raise Stop(
            f"{name} cannot hold our records: {problem}; nothing is written. "
            "Register TradeV2, or a schema that has all of its fields"
        )


def _missing(schema: Any, ours: Any) -> Iterator[str]:
    """Fields that are absent or narrower than ours, and further ones that a record would lack."""
    if not (isinstance(schema, dict) and schema.get("type") == "record" and isinstance(schema.get("fields"), list)):
        yield "it is not a record"
        return
    names = [field.get("name") for field in schema["fields"] if isinstance(field, dict)]
    for name in {one for one in names if names.count(one) > 1}:
        yield f"field {str(name)[:64]} is there twice"
    theirs = {field.get("name"): field for field in schema["fields"] if isinstance(field, dict)}
    wanted = {field["name"]: field for field in ours["fields"]}
    for name, field in wanted.items():
        if name not in theirs and name in OPTIONAL:
            continue
        if name not in theirs:
            yield f"field {name} is missing"
        elif not _holds(theirs[name].get("type"), field["type"]):
            yield f"field {name} has type {json.dumps(theirs[name].get('type'))[:100]}"
    for name, field in theirs.items():
        if name not in wanted and "default" not in field:
            yield f"field {name} has no default"


def _holds(theirs: Any, ours: Any) -> bool:
    """Whether a type holds every value of ours, without a change."""
    if isinstance(ours, list):
        return isinstance(theirs, list) and all(any(_holds(their, our) for their in theirs) for our in ours)
    if isinstance(ours, str):
        return theirs == ours or (
            isinstance(theirs, dict) and theirs.get("type") == ours and "logicalType" not in theirs
        )
    if not isinstance(theirs, dict) or theirs.get("type") != ours["type"]:
        return False
    if theirs.get("logicalType") != ours.get("logicalType"):
        return False
    match ours["type"]:
        case "enum":
            symbols = theirs.get("symbols")
            return isinstance(symbols, list) and set(ours["symbols"]) <= set(map(str, symbols))
        case "array":
            return _holds(theirs.get("items"), ours["items"])
        case "map":
            return _holds(theirs.get("values"), ours["values"])
        case "bytes":
            return theirs.get("scale") == ours.get("scale") and _number(theirs) >= _number(ours)
        case _:
            return True


def _number(decimal: dict[str, Any]) -> int:
    precision = decimal.get("precision", 0)
    return precision if isinstance(precision, int) else 0


def _lost(schema: Any, make: Callable[[], Encoder]) -> Iterator[str]:
    """What differs after a record was written and read again."""
    import fastavro
    from fastavro.schema import SchemaParseException, UnknownType

    try:
        encoder, parsed = make(), fastavro.parse_schema(schema)
        encoder.received(LATEST_US)
        for trade in extremes():
            written = encoder.encode(trade, LATEST_US)
            if len(written) > MOST_RECORD:
                yield f"a record has {len(written)} bytes, at most {MOST_RECORD} are allowed: a default is too large"
                return
            found = fastavro.schemaless_reader(io.BytesIO(written[HEADER:]), parsed, None)
            expected = record(trade, *SYMBOLS[trade.symbol], LATEST_US, LATEST_US)
            if not isinstance(found, dict):
                yield "a record is read back as something else"
                return
            for name, value in expected.items():
                if name in OPTIONAL and name not in found:
                    continue
                back = _plain(found.get(name))
                if back != value:
                    yield f"field {name}: {value} is read back as {back}"
    except Reject as error:
        yield str(error)
    except (SchemaParseException, UnknownType, *MALFORMED) as error:
        yield f"{type(error).__name__}: {str(error)[:200]}"


def _plain(value: Any) -> Any:
    """A decoded value as ``record`` states it."""
    if isinstance(value, datetime):
        return (value - _EPOCH) // timedelta(microseconds=1)
    return value
