"""Bytes of any content: a value, or ``Undecodable``."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from ingest.decoding import DESCRIBED, Undecodable, decode_json, decode_typed, decode_with, decoding

NESTED = b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
DECODERS: list[Callable[[bytes], Any]] = [
    decode_json,
    lambda data: decode_typed(data, dict[str, int]),
    lambda data: decode_with(msgspec.json.Decoder(dict[str, int]), data),
]


@pytest.mark.parametrize("decode", DECODERS, ids=["json", "typed", "with"])
@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff", b'{"a":', b'{"v":1e400}', b'{"v":NaN}', b'{"v":-Infinity}', NESTED, b'{"a":' * 20_000,
        b"9" * 5000, b'{"' + b"x" * 5000, b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
def test_whatever_the_bytes_are_there_is_one_exception(decode: Callable[[bytes], Any], data: bytes) -> None:
    with pytest.raises(Undecodable) as caught:
        decode(data)
    assert 0 < len(str(caught.value)) <= DESCRIBED


@pytest.mark.parametrize("decode", DECODERS, ids=["json", "typed", "with"])
def test_text_that_no_bytes_can_be_is_undecodable_and_what_is_no_text_is_a_mistake_of_ours(
    decode: Callable[[Any], Any],
) -> None:
    with pytest.raises(Undecodable):
        decode('{"a": "\ud800"}')
    for wrong in (None, 3, {"a": 1}, ["{}"]):
        with pytest.raises(TypeError):
            decode(wrong)


def test_a_fault_in_a_type_of_ours_is_no_bad_input() -> None:
    class Faulty(msgspec.Struct):
        a: int

        def __post_init__(self) -> None:
            raise LookupError("a bug")

    with pytest.raises(LookupError, match="a bug"):
        decode_typed(b'{"a":1}', Faulty)
    with pytest.raises(TypeError):
        decode_typed(b"{}", lambda: None)  # type: ignore[arg-type]


def test_what_is_well_formed_is_what_json_says() -> None:
    for text in ('{"a": [1, 2.5, -1e3, null, true, "\\u00fc"]}', "1", '"x"', "1.0", "[]"):
        assert decode_json(text) == decode_json(text.encode()) == json.loads(text)
    assert decode_typed(b'{"v":3}', dict[str, int]) == {"v": 3}


@pytest.mark.parametrize("value", [{}, [], None, {"v": float("inf")}, {"v": "many"}, {"v": []}])
def test_a_value_of_another_shape_is_undecodable_too(value: Any) -> None:
    with pytest.raises(Undecodable), decoding():
        int(value["v"])


def test_what_ends_the_process_passes() -> None:
    with pytest.raises(KeyboardInterrupt), decoding():
        raise KeyboardInterrupt
