"""Text frames cut out of a stream, however it is chopped; whatever else it holds is left alone."""

from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from ingest.binance.frame_scanner import LONGEST_HEADER, end_of_frame, extract_text_frames

LIMIT = 70_000


def wire(opcode: Opcode, payload: bytes, *, fin: bool = True, mask: bool = False) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=mask)


def read(data: bytes, limit: int = LIMIT) -> tuple[list[bytes], int]:
    payloads: list[bytes] = []
    return payloads, extract_text_frames(data, 0, limit, payloads)


sizes = st.one_of(st.integers(0, 130), st.sampled_from([125, 126, 127, 65_535]))
texts = st.lists(sizes.map(lambda size: bytes(range(256)) * (size // 256) + bytes(range(size % 256))), max_size=6)


@given(texts, st.integers(0, 200))
@example([b"x" * 125, b"x" * 126, b"x" * 65_535], 1)
def test_every_whole_frame_is_cut_and_an_unfinished_one_is_left(payloads: list[bytes], missing: int) -> None:
    data = b"".join(wire(Opcode.TEXT, payload) for payload in payloads)
    assert read(data) == (payloads, len(data))
    found, at = read(data[: max(0, len(data) - missing)])
    assert found == payloads[: len(found)]
    assert read(data[at:])[0] == payloads[len(found) :]


def test_what_is_no_plain_text_frame_is_not_touched() -> None:
    text = wire(Opcode.TEXT, b"abc")
    for other in (
        wire(Opcode.BINARY, b"abc"),
        wire(Opcode.TEXT, b"abc", fin=False),
        wire(Opcode.CONT, b"abc"),
        wire(Opcode.PING, b""),
        wire(Opcode.CLOSE, b""),
        wire(Opcode.TEXT, b"abc", mask=True),
        wire(Opcode.TEXT, b"x" * 65_536),
        b"\xc1" + text[1:],  # compressed
    ):
        assert read(text + other + text) == ([b"abc"], len(text))


def test_a_payload_beyond_the_limit_is_not_touched() -> None:
    assert read(wire(Opcode.TEXT, b"x" * 1000), limit=999) == ([], 0)
    assert read(wire(Opcode.TEXT, b"x" * 1000), limit=1000)[0] == [b"x" * 1000]


@given(
    st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT]),
    st.sampled_from([0, 1, 125, 126, 65_535, 65_536, 70_000]),
    st.booleans(),
)
def test_the_end_of_any_frame_is_known_as_soon_as_its_length_is(opcode: Opcode, size: int, mask: bool) -> None:
    data = b"__" + wire(opcode, b"x" * size, mask=mask)
    known = [end for end in (end_of_frame(data[:have], 2) for have in range(2, 2 + LONGEST_HEADER)) if end is not None]
    assert set(known) == {len(data)}
    assert end_of_frame(data, 2) == len(data)
    assert end_of_frame(data[:3], 2) is None
