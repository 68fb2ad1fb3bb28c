"""What a reader asks a registry for, and what it makes of any answer."""

import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from ingest.kafka.schemas import trade_schema
from ingest.reader import ReaderError, RecordError
from ingest.reader.schemas import BODY_LIMIT, SCHEMAS_KEPT, Decoder

ANSWERS = {
    "list": b"[]",
    "number": b'{"schema": 7}',
    "no schema": b'{"schema": "{{{"}',
    "nested": b"[" * 100_000,
    "unknown type": json.dumps({"schema": json.dumps("nothing-like-it")}).encode(),
    "odd record": json.dumps({"schema": json.dumps({"type": "record", "fields": [[]]})}).encode(),
    "endless": b'{"schema": "' + b"x" * (BODY_LIMIT + 1) + b'"}',
}


SCHEMA = json.dumps({"type": "record", "name": "TradeV2", "fields": [{"name": "a", "type": "string"}]})


class Registry(http.server.BaseHTTPRequestHandler):
    asked = 0
    answer = b""
    status = 200

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.answer)))
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[tuple[str, type[Registry]]]:
    class Own(Registry):
        pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", Own
        server.shutdown()
        thread.join()


def value(schema_id: int) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big") + b"junk"


@pytest.mark.parametrize("name", ANSWERS)
def test_any_answer_is_an_error_that_names_the_registry(name: str, registry: tuple[str, type[Registry]]) -> None:
    url, handler = registry
    handler.answer = ANSWERS[name]
    with pytest.raises(ReaderError, match="schema 7 is not Avro"):
        Decoder(url).decode(value(7), "here")


def test_schemas_are_bounded_in_number(registry: tuple[str, type[Registry]]) -> None:
    url, handler = registry
    handler.answer = json.dumps({"schema": trade_schema()}).encode()
    decoder = Decoder(url)
    for number in range(SCHEMAS_KEPT + 20):
        with pytest.raises(ReaderError, match="cannot be decoded"):
            decoder.decode(value(number), "here")
    assert len(decoder._schemas) == SCHEMAS_KEPT
    asked = handler.asked
    with pytest.raises(ReaderError):
        decoder.decode(value(SCHEMAS_KEPT + 19), "here")
    assert handler.asked == asked, "the newest is still known"


def test_bytes_behind_the_record_are_an_error(registry: tuple[str, type[Registry]]) -> None:
    url, handler = registry
    handler.answer = json.dumps({"schema": SCHEMA}).encode()
    record = b"\0\0\0\0\7\x04ab"
    assert Decoder(url).decode(record, "here") == ("TradeV2", {"a": "ab"})
    with pytest.raises(RecordError, match=r"^here: 2 bytes follow the record that the schema describes$"):
        Decoder(url).decode(record + b"zz", "here")


def test_a_schema_that_the_registry_does_not_have_is_the_record_s_fault(registry: tuple[str, type[Registry]]) -> None:
    url, handler = registry
    handler.status, handler.answer = 404, b'{"error_code":40403,"message":"Schema 7 not found"}'
    with pytest.raises(RecordError, match=f"^here: the schema registry {url} has no schema 7$"):
        Decoder(url).decode(value(7), "here")


@pytest.mark.parametrize(
    ("status", "answer"),
    [(404, b"<html>no such page</html>"), (404, b'{"error_code":404}'), (404, b"[]"), (503, b"{}")],
)
def test_a_server_that_fails_is_not_the_record_s_fault(
    status: int, answer: bytes, registry: tuple[str, type[Registry]]
) -> None:
    url, handler = registry
    handler.status, handler.answer = status, answer
    with pytest.raises(ReaderError, match=f"HTTP {status} for schema 7") as raised:
        Decoder(url).decode(value(7), "here")
    assert not isinstance(raised.value, RecordError)
