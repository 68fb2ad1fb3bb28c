"""Bytes on the wire: each layout to the letter, lengths of frames, and one rendering for all who want the same."""

import json
import zlib

import pytest

from ingest.simulator import frames
from ingest.simulator.frames import COMBINED, COMPRESSED, MICROSECONDS, Layout, Outgoing, compressed, fragmented, frame
from ingest.simulator.ledger import Ledger

T = 1_723_161_255_342_999


def outgoing(layout: Layout = "current") -> Outgoing:
    ledger = Ledger()
    symbol = ledger.add("BTCUSDT", "BTC", "USDT", 3735683259)
    trade_id = symbol.append(6_183_763_000_000, 2_000_000, T, True)
    return Outgoing(symbol, (trade_id, 6_183_763_000_000, 2_000_000, T, True), T + 1500, layout)


HEAD = '{"e":"trade","E":1723161255344,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000",'


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("current", HEAD + '"T":1723161255342,"m":true,"M":true}'),
        ("recorded", HEAD + '"T":1723161255342,"m":true,"M":true}'),
        ("orders", HEAD + '"b":7471366519,"a":7471366518,"T":1723161255342,"m":true,"M":true}'),
        ("no_m", HEAD + '"T":1723161255342,"m":true}'),
        (
            "extra",
            HEAD + '"T":1723161255342,"m":true,"M":true,"X":"MARKET","st":[1,{"k":null}],"Ω":1.5}',
        ),
        (
            "reversed",
            '{"M":true,"m":true,"T":1723161255342,"q":"0.02000000","p":"61837.63000000","t":3735683259,"s":"BTCUSDT",'
            '"E":1723161255344,"e":"trade"}',
        ),
    ],
)  # fmt: skip
def test_layouts_byte_by_byte(layout: Layout, text: str) -> None:
    assert outgoing(layout).message(0).decode() == text
    assert outgoing(layout).message(COMBINED).decode() == f'{{"stream":"btcusdt@trade","data":{text}}}'


def test_microseconds_in_every_time() -> None:
    event = json.loads(outgoing().message(MICROSECONDS))
    assert (event["T"], event["E"]) == (T, T + 1500)


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65_535, b"\x81\x7e\xff\xff"),
        (65_536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
def test_lengths_of_frames(size: int, head: bytes) -> None:
    assert frame(b"x" * size) == head + b"x" * size


def test_compressed_frames_stand_alone() -> None:
    data = compressed(b'{"e":"trade"}' * 5)
    assert data[0] == 0xC1
    assert zlib.decompressobj(wbits=-15).decompress(data[2:] + b"\x00\x00\xff\xff") == b'{"e":"trade"}' * 5


@pytest.mark.parametrize("payload", [b"", b"x", b"xy", b"0123456789"])
def test_fragments_begin_continue_and_end(payload: bytes) -> None:
    data, opcodes, text = fragmented(payload), [], b""
    while data:
        first, size = data[0], data[1]
        opcodes.append(first)
        text += data[2 : 2 + size]
        data = data[2 + size :]
    assert text == payload
    of_data = [opcode for opcode in opcodes if opcode != 0x8A]
    assert [opcode & 0x0F for opcode in of_data] == [1] + [0] * (len(of_data) - 1)
    assert [opcode >> 7 for opcode in of_data] == [0] * (len(of_data) - 1) + [1]


def test_a_trade_is_rendered_once_per_variant(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = []
    original = frames._trade
    monkeypatch.setattr(frames, "_trade", lambda *values: rendered.append(values) or original(*values))  # type: ignore[func-returns-value]
    trade = outgoing()
    for _ in range(3):
        for variant in (0, COMBINED, COMBINED | MICROSECONDS, COMPRESSED):
            assert trade.frame(variant) is trade.frame(variant)
    assert len(rendered) == 4
