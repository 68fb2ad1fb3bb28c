"""Which silence of a connection is a stall."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from ingest.service.stream_stalls import StreamStalls


@dataclass(eq=False)
class Connection:
    name: str = "bookTicker-g0a"
    frames: int = 0
    delivers: bool = True


@dataclass
class Feed:
    connections: list[Any] = field(default_factory=lambda: [Connection()])
    rotated: list[tuple[str, str | None]] = field(default_factory=list)

    def current(self) -> list[Any]:
        return self.connections

    def rotate(self, reason: str, connection: str | None = None) -> int:
        self.rotated.append((reason, connection))
        return 1


def play(frames: list[int]) -> tuple[Feed, int]:
    """Look once a second; ``frames`` come in each of these seconds."""
    feed, stalled = Feed(), []
    stalls = StreamStalls(lambda: [feed], stalled=lambda: stalled.append(1))
    for new in frames:
        stalls.look()
        feed.connections[0].frames += new
    stalls.look()
    return feed, len(stalled)


@pytest.mark.parametrize(
    ("frames", "stalled"),
    [
        ([100] * 120 + [0] * 6, 1),
        ([100] * 120 + [0] * 4, 0),
        ([100] * 120 + [0] * 4 + [1] + [0] * 4, 0),
        ([5] * 120 + [0] * 40, 0),
        ([5] * 120 + [0] * 70, 1),
        ([0] * 600, 0),
    ],
)
def test_a_connection_is_replaced_after_a_silence_in_which_hundreds_of_frames_were_due(
    frames: list[int], stalled: int
) -> None:
    feed, count = play(frames)
    assert count == stalled
    assert feed.rotated == [("stalled", "bookTicker-g0a")] * stalled


def test_a_successor_begins_anew_and_a_connection_that_does_not_deliver_is_left_alone() -> None:
    feed, stalled = Feed(), []
    stalls = StreamStalls(lambda: [feed], stalled=lambda: stalled.append(1))
    for _ in range(120):
        feed.connections[0].frames += 100
        stalls.look()
    feed.connections[0].delivers = False
    for _ in range(20):
        stalls.look()
    feed.connections = [Connection()]
    for _ in range(20):
        stalls.look()
    assert stalled == []
