"""Decodes values in the Confluent wire format with the schemas that wrote them."""

import io
import json
import urllib.error
import urllib.request
from typing import Any, Final

import fastavro

from ingest.command.masking import refused
from ingest.reader.records import ReaderError, RecordError

WIRE_FORMAT = 0
HEADER = 5
SCHEMA_NOT_FOUND = 40403
"""Confluent's code in the body of a 404."""
BODY_LIMIT = 1024 * 1024
"""Bytes of one answer of the registry."""
SCHEMAS_KEPT = 100
"""The oldest gives way: a record names any id."""
MALFORMED = (
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
    fastavro.schema.SchemaParseException, fastavro.schema.UnknownType,
)  # fmt: skip
"""What an answer of any shape makes our reading of it raise."""
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The environment's proxy variables are not used, as the service does not use them for the registry."""


class Decoder:
    """Fetches each schema once from a registry that speaks Confluent's API (Apicurio: below /apis/ccompat/v7)."""

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        if not url.startswith(("http://", "https://")):
            raise ReaderError(f"schema registry {refused(url)!r}: expected http://host:port or https://host:port")
        self._url = url.rstrip("/")
        self._timeout = timeout
        self._schemas: dict[int, Any] = {}

    def decode(self, value: bytes, where: str) -> tuple[str, dict[str, Any]]:
        """The name of a value's schema, without namespace, and the record. Raises ``ReaderError`` naming the place."""
        if len(value) < HEADER or value[0] != WIRE_FORMAT:
            raise RecordError(f"{where}: not a record in the Confluent wire format (first bytes {value[:5]!r})")
        schema = self._known(int.from_bytes(value[1:HEADER], "big"), where)
        body = io.BytesIO(value[HEADER:])
        try:
            record = fastavro.schemaless_reader(body, schema, None)
        except (*MALFORMED, EOFError, MemoryError) as error:
            raise RecordError(f"{where}: the value cannot be decoded with its schema: {error}") from error
        rest = len(value) - HEADER - body.tell()
        if rest:
            raise RecordError(f"{where}: {rest} bytes follow the record that the schema describes")
        if not isinstance(record, dict):
            raise RecordError(f"{where}: the schema is not that of a record")
        return str(schema["name"]).rpartition(".")[2], record

    def _known(self, number: int, where: str) -> Any:
        try:
            return self._schema(number)
        except RecordError as error:
            raise RecordError(f"{where}: {error}") from error

    def _schema(self, number: int) -> Any:
        if number not in self._schemas:
            schema = self._fetch(number)
            if len(self._schemas) >= SCHEMAS_KEPT:
                del self._schemas[next(iter(self._schemas))]
            self._schemas[number] = schema
        return self._schemas[number]

    def _fetch(self, number: int) -> Any:
        url = f"{self._url}/schemas/ids/{number}"
        try:
            with _DIRECT.open(url, timeout=self._timeout) as answer:
                body = answer.read(BODY_LIMIT + 1)
                if len(body) > BODY_LIMIT:
                    raise ValueError(f"an answer beyond {BODY_LIMIT} bytes")
                return fastavro.parse_schema(json.loads(json.loads(body)["schema"]))
        except urllib.error.HTTPError as error:
            if _unknown_schema(error):
                raise RecordError(f"the schema registry {self._url} has no schema {number}") from error
            raise ReaderError(
                f"schema registry {self._url}: HTTP {error.code} for schema {number}; Apicurio's address ends in "
                f"/apis/ccompat/v7"
            ) from error
        except OSError as error:
            reason = getattr(error, "reason", error)
            raise ReaderError(f"no answer from the schema registry {self._url}: {reason}") from error
        except MALFORMED as error:
            raise ReaderError(f"schema registry {self._url}: schema {number} is not Avro: {error}") from error


def _unknown_schema(error: urllib.error.HTTPError) -> bool:
    """Whether the registry itself says that it does not have a schema, not a server without its API. Closes it."""
    try:
        with error:
            return error.code == 404 and json.loads(error.read(BODY_LIMIT))["error_code"] == SCHEMA_NOT_FOUND
    except (*MALFORMED, OSError):
        return False
