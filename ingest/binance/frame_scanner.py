"""Plain text frames cut straight out of what a server sends (RFC 6455, section 5.2). Pure.

A library needs about ten times as long for a frame, because it handles everything that a frame may be. Here is
only what every trade comes in: a whole, unmasked, uncompressed text frame of less than 64 KiB. Whatever begins
differently is not touched: the library gets it.
"""

from typing import Final

LONGEST_HEADER: Final = 14
_TEXT: Final = 0x81
"""Final fragment, no extension, opcode text."""
_LENGTH_16: Final = 126
_MASKED: Final = 0x80


def extract_text_frames(data: bytes, at: int, limit: int, payloads: list[bytes]) -> int:
    """Append the payloads of the text frames from ``at`` on; return where the first other or unfinished one begins.

    ``limit`` is the largest payload in bytes that may be taken.
    """
    last = len(data) - 1
    while at < last and data[at] == _TEXT:
        length = data[at + 1]
        begin = at + 2
        if length >= _LENGTH_16:
            if length != _LENGTH_16 or at + 3 > last:
                break
            length = data[begin] << 8 | data[at + 3]
            begin = at + 4
        end = begin + length
        if end > last + 1 or length > limit:
            break
        payloads.append(data[begin:end])
        at = end
    return at


def end_of_frame(data: bytes, at: int) -> int | None:
    """Where the frame that begins at ``at`` ends, whatever it is; may lie beyond ``data``. None: not known yet."""
    size = len(data)
    if at + 2 > size:
        return None
    masked, length = data[at + 1] & _MASKED, data[at + 1] & 0x7F
    begin = at + 2
    if length >= _LENGTH_16:
        width = 2 if length == _LENGTH_16 else 8
        if begin + width > size:
            return None
        length = int.from_bytes(data[begin : begin + width], "big")
        begin += width
    return begin + (4 if masked else 0) + length
