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
