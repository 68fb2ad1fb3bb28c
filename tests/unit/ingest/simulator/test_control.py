"""Control messages: each reply and each error of the documentation, nested and flat."""

import json
from typing import Any

import pytest

from ingest.simulator.control import Control

VARIANTS = "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"
UNKNOWN = f"Invalid request: unknown variant `NOPE`, expected one of {VARIANTS} at line 1 column 24"
ID_TEXT = "Invalid request: request ID must be an unsigned integer"


def handle(control: Control, text: str | bytes) -> Any:
    return json.loads(control.handle(text if isinstance(text, bytes) else text.encode()).reply)


def test_the_five_requests() -> None:
    control = Control(("btcusdt@trade",), combined=False)
    answer = control.handle(b'{"method":"SUBSCRIBE","params":["ethusdt@trade","btcusdt@trade"],"id":1}')
    assert answer.reply == b'{"result":null,"id":1}'
    assert answer.added == ("ethusdt@trade",)
    listed = control.handle(b'{"method":"LIST_SUBSCRIPTIONS","id":3}').reply
    assert listed == b'{"result":["btcusdt@trade","ethusdt@trade"],"id":3}'
    answer = control.handle(b'{"method":"UNSUBSCRIBE","params":["ethusdt@trade","never@trade"],"id":312}')
    assert answer.reply == b'{"result":null,"id":312}'
    assert answer.removed == ("ethusdt@trade",)
    assert (
        control.handle(b'{"method":"SET_PROPERTY","params":["combined",true],"id":5}').reply
        == b'{"result":null,"id":5}'
    )
    assert control.combined
    assert control.handle(b'{"method":"GET_PROPERTY","params":["combined"],"id":2}').reply == b'{"result":true,"id":2}'


@pytest.mark.parametrize("request_id", [0, -1, 2**63 - 1, -(2**63), "a" * 36, "x9", None])
def test_ids_come_back(request_id: Any) -> None:
    message = json.dumps({"method": "LIST_SUBSCRIPTIONS", "id": request_id})
    assert handle(Control((), combined=True), message) == {"result": [], "id": request_id}


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        ('{"method":"GET_PROPERTY","params":["other"],"id":1}', 0, "Unknown property"),
        ('{"method":"SET_PROPERTY","params":["other",true],"id":1}', 0, "Unknown property"),
        ('{"method":"SET_PROPERTY","params":["combined","true"],"id":1}', 1, "Invalid value type: expected Boolean"),
        ('{"method":"SET_PROPERTY","params":["combined"],"id":1}', 1, "Invalid value type: expected Boolean"),
        ('{"method":"GET_PROPERTY","params":[7],"id":1}', 2, "Invalid request: property name must be a string"),
        ('{"method":"GET_PROPERTY","id":1}', 2, "Invalid request: property name must be a string"),
        ('{"method":"LIST_SUBSCRIPTIONS"}', 2, ID_TEXT),
        ('{"method":"LIST_SUBSCRIPTIONS","id":1.5}', 2, ID_TEXT),
        ('{"method":"LIST_SUBSCRIPTIONS","id":true}', 2, ID_TEXT),
        ('{"method":"LIST_SUBSCRIPTIONS","id":9223372036854775808}', 2, ID_TEXT),
        ('{"method":"LIST_SUBSCRIPTIONS","id":"' + "a" * 37 + '"}', 2, ID_TEXT),
        ('{"method":"NOPE","id":1}', 2, UNKNOWN),
        ('{"method":"LIST_SUBSCRIPTIONS","params":["x"],"id":1}', 2, "Invalid request: too many parameters"),
        ('{"method":"GET_PROPERTY","params":["combined",1],"id":1}', 2, "Invalid request: too many parameters"),
        ('{"id":1}', 2, "Invalid request: missing field `method` at line 1 column 8"),
        ('{"method":"SUBSCRIBE","params":["btcusdt"],"id":1}', 2, "Invalid request: invalid stream"),
        ('{"method":"SUBSCRIBE","params":[],"id":1}', 2, "Invalid request: invalid stream"),
        ('{"method":"SUBSCRIBE","params":[3],"id":1}', 2, "Invalid request: invalid stream"),
        ("hello", 3, "Invalid JSON: expected value at line 1 column 1"),
        ('{"method":\n oops}', 3, "Invalid JSON: expected value at line 2 column 2"),
        ("[" * 50_000, 3, "Invalid JSON: expected value at line 1 column 1"),
    ],
)  # fmt: skip
def test_errors(message: str, code: int, text: str) -> None:
    nested = handle(Control((), combined=False), message)
    assert nested["error"] == {"code": code, "msg": text}
    flat = handle(Control((), combined=False, error_shape="flat"), message)
    assert (flat["code"], flat["msg"]) == (code, text)
    assert nested.get("id") == flat.get("id")
    assert "result" not in nested


def test_bytes_that_are_no_text() -> None:
    assert handle(Control((), combined=False), b"\xff\xfe{}")["error"]["code"] == 3


def test_unknown_and_upper_case_streams_are_accepted_in_silence() -> None:
    control = Control((), combined=False)
    answer = control.handle(
        '{"method":"SUBSCRIBE","params":["nosuch@trade","BTCUSDT@trade","币安人生usdt@trade"],"id":1}'.encode()
    )
    assert answer.reply == b'{"result":null,"id":1}'
    assert len(control.streams) == 3


def test_one_stream_too_many_changes_nothing() -> None:
    control = Control(("a@trade", "b@trade"), combined=False, limit=3)
    answer = control.handle(b'{"method":"SUBSCRIBE","params":["c@trade","d@trade"],"id":1}')
    assert b"error" in answer.reply
    assert (answer.added, list(control.streams)) == ((), ["a@trade", "b@trade"])
    assert handle(control, '{"method":"SUBSCRIBE","params":["a@trade","c@trade"],"id":1}') == {"result": None, "id": 1}
