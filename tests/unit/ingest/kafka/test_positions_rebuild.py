"""What a rebuild says of a stored position, from what the records prove."""

import pytest

from ingest.core.trade import Position
from ingest.kafka.positions import ShardState
from ingest.kafka.positions_rebuild import Recorded, TopicContent, agrees, compare, writes
from ingest.settings import load

PROVEN = Position(100, 199, 100)


@pytest.mark.parametrize(
    ("stored", "voids", "trimmed", "same"),
    [
        (PROVEN, {}, False, True),
        (Position(100, 199, 99), {}, False, False),
        (Position(100, 199, 99), {}, True, False),
        (Position(101, 199, 99), {}, True, False),
        (Position(100, 198, 99), {}, True, False),
        (Position(90, 199, 110), {}, False, False),
        (Position(90, 199, 110), {}, True, True),
        (Position(90, 199, 103), {}, True, True),
        (Position(90, 199, 111), {}, True, False),
        (Position(90, 199, 99), {}, True, False),
        (Position(90, 199, 100), {90: 94, 95: 99}, False, True),
        (Position(90, 199, 101), {90: 94, 95: 99}, False, False),
        (Position(90, 199, 100), {90: 94}, False, False),
    ],
)
def test_a_position_agrees_with_the_records(stored: Position, voids: dict[int, int], trimmed: bool, same: bool) -> None:
    assert agrees(stored, PROVEN, voids, trimmed=trimmed) is same


def test_a_right_last_id_with_a_wrong_beginning_differs_and_is_replaced() -> None:
    content = TopicContent(load({}), lambda _: True)
    one = content.recorded.setdefault("A", {}).setdefault(0, Recorded(1))
    for trade_id in range(2, 11):
        one.add(trade_id)
    (finding,) = compare(ShardState({"A": Position(5, 10, 3)}, 1, None), content)
    assert (finding.outcome, finding.reason) == ("differs", "stored 3 trades from 5, recorded 10 from 1")
    assert writes([finding], replace=False) == {}
    assert writes([finding], replace=True) == {"A": Position(1, 10, 10)}
