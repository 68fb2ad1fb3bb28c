"""The voids in the positions topic: what strangers write beside them is skipped and counted."""

import pytest

from ingest.reader.voids import Voids


@pytest.mark.parametrize(
    "junk",
    [
        b"{}", b"[]", b"no", b"\xff", b'{"a":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"symbol":"A","first_id":1e400,"last_id":2}', b'{"symbol":"A","first_id":[],"last_id":2}',
    ],
)  # fmt: skip
def test_a_junk_void_is_skipped_and_counted(junk: bytes) -> None:
    voids = Voids("127.0.0.1:1", "topic", {}, timeout=1.0)
    for value in (junk, b'{"symbol":"A","first_id":3,"last_id":4,"reason":"operator"}'):
        voids._keep(value, "partition 0, offset 1")
    assert voids.junk == 1
    void = voids._covering("A", 4)
    assert void is not None
    assert (void.first_id, void.last_id) == (4, 4)
