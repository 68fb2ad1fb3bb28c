"""Bytes from outside are decoded by ``ingest.decoding`` and ``core.avro``: direct uses elsewhere each have a reason."""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CODE = ("ingest", "plugins", "deploy", "dags")
NOT_JUDGED = "ingest/simulator/"
"""A tool of tests."""
DIRECT = frozenset(
    [
        "fastavro.parse_schema", "fastavro.reader", "fastavro.schemaless_reader", "json.JSONDecoder", "json.load",
        "json.loads", "msgspec.json.Decoder", "msgspec.json.decode",
    ]
)  # fmt: skip
TYPED = "msgspec's typed decoders of frames and answers, the hot path: they raise MsgspecError, UnicodeDecodeError and"
TYPED += " RecursionError alone, all of which this module catches; no value of theirs overflows, each number is bounded"
KEPT = "the decoder is kept, and given to decode_with"
OURS = "a file of this package"
ALONE = "shares no code with the service; catches every failure itself"
ALLOWED = {
    "ingest/decoding/__init__.py": (2, "here it is"),
    "ingest/decoding/avro.py": (2, "here it is"),
    "ingest/binance/messages.py": (10, TYPED),
    "ingest/binance/history.py": (5, TYPED),
    "ingest/binance/listings.py": (9, TYPED),
    "ingest/binance/aggregates.py": (1, TYPED),
    "ingest/binance/stream_messages.py": (3, TYPED),
    "ingest/binance/stream_history.py": (4, TYPED),
    "ingest/binance/server_time.py": (1, TYPED),
    "ingest/binance/refusals.py": (1, TYPED),
    "ingest/kafka/position_records.py": (8, KEPT),
    "ingest/core/child_protocol.py": (4, KEPT),
    "ingest/service/peer_link.py": (1, KEPT),
    "plugins/ingest_ops/index.py": (1, KEPT),
    "ingest/kafka/void_publisher.py": (2, OURS),
    "ingest/kafka/encoding.py": (1, "a schema that schema_check has tried"),
    "ingest/kafka/schema_check.py": (2, "tries a schema, and catches every failure itself"),
    "ingest/reader/schemas.py": (5, ALONE),
    "ingest/reader/voids.py": (1, ALONE),
    "deploy/airflow/audit_of_feed.py": (1, ALONE),
    "plugins/ingest_ops/soak/calibration.py": (1, OURS),
    "plugins/ingest_ops/soak/error_rates.py": (1, OURS),
    "plugins/ingest_ops/validation/report_json.py": (1, OURS),
    "plugins/ingest_ops/validation/day.py": (1, "reads what json has written, and catches every failure itself"),
    "plugins/ingest_ops/soak/record.py": (1, "reads what json has written, and catches every failure itself"),
}
"""File -> direct uses, and why."""


def direct_uses(source: str) -> list[int]:
    """Lines with a direct use: one of ``DIRECT``, its import by name, or ``.json()`` of an HTTP answer."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Attribute() if ast.unparse(node) in DIRECT:
                found.append(node.lineno)
            case ast.ImportFrom(module=str(module)) if any(f"{module}.{one.name}" in DIRECT for one in node.names):
                found.append(node.lineno)
            case ast.Call(func=ast.Attribute(attr="json"), args=[], keywords=[]):
                found.append(node.lineno)
            case _:
                pass
    return found


def test_a_direct_use_is_found() -> None:
    source = (
        "import json\nx = json.loads\nfrom json import loads\nanswer.json()\nmsgspec.json.Decoder(int)\njson.dumps(1)\n"
    )
    assert sorted(direct_uses(source)) == [2, 3, 4, 5]


def test_every_direct_use_has_a_reason() -> None:
    found: Counter[str] = Counter()
    for path in (path for folder in CODE for path in (ROOT / folder).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(NOT_JUDGED):
            found[name] += len(direct_uses(path.read_text(encoding="utf-8")))
    assert dict(+found) == {name: uses for name, (uses, _) in ALLOWED.items()}, (
        "use ingest.decoding, or say why not in ALLOWED"
    )
