"""Avro by schemas from outside, with the one way to fail of its package. Imports fastavro: not at each start."""

from typing import Any, BinaryIO

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from ingest.decoding import FAILURES, undecodable

_FAILURES = (*FAILURES, SchemaParseException, UnknownType)


def parse_schema(schema: Any) -> Any:
    """A schema as ``read_record`` takes it. Raises ``Undecodable``."""
    try:
        return fastavro.parse_schema(schema)
    except _FAILURES as error:
        raise undecodable(error) from error


def read_record(data: BinaryIO, schema: Any) -> Any:
    """One value, from the present place on. Raises ``Undecodable``."""
    try:
        return fastavro.schemaless_reader(data, schema, None)
    except _FAILURES as error:
        raise undecodable(error) from error
