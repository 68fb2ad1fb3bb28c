"""Logs that were truncated, detected by their ends."""

from collections.abc import Mapping

import pytest

from ingest.kafka.log_ends import Place, TruncatedLogs
from ingest.kafka.topic_policy import Found, Problem, Topic

TRADES, LETTERS = Topic("t", "trades"), Topic("d", "dead letters")
PLACE = ("t", 1)


def found(topic_id: str = "id") -> dict[str, Found]:
    return {"t": Found(topic_id, 2, 1, None), "d": Found("letters", 1, 1, None)}


class Looks:
    """Looks at one topic, again and again."""

    def __init__(self) -> None:
        self.logs = TruncatedLogs()
        self.described = 0

    def look(self, ends: Mapping[Place, int], *, topic_id: str = "id", now: str = "") -> list[Problem]:
        """``now``: the topic's id when it is described once more."""

        def again() -> dict[str, Found]:
            self.described += 1
            return found(now or topic_id)

        return self.logs.look([TRADES, LETTERS], found(topic_id), ends, again)


def test_an_end_before_the_one_seen_earlier_is_reported_and_stays() -> None:
    looks = Looks()
    assert looks.look({PLACE: 100}) == []
    assert looks.look({PLACE: 100}) == []
    (problem,) = looks.look({PLACE: 80})
    assert (problem.topic, problem.policy, problem.refused, problem.loses_data) == ("t", "truncated", False, True)
    assert "partition 1 had reached offset 100 and was at 80 afterwards" in problem.text
    assert "`ingest audit` says what is missing" in problem.text
    assert looks.look({PLACE: 150}) == [problem]  # the records stay lost, however far the log grows
    assert looks.described == 1


def test_the_furthest_of_two_truncations_is_told() -> None:
    looks = Looks()
    for end in (100, 80, 150, 90, 200):
        looks.look({PLACE: end})
    (problem,) = looks.look({PLACE: 200})
    assert "had reached offset 150 and was at 80 afterwards" in problem.text


@pytest.mark.parametrize("described", ["before", "meanwhile"])
def test_a_topic_that_was_created_again_begins_again(described: str) -> None:
    looks = Looks()
    looks.look({PLACE: 100})
    if described == "before":
        assert looks.look({}, topic_id="new") == []  # the ends could not be read
        assert looks.look({PLACE: 1}, topic_id="new") == []
    else:
        assert looks.look({PLACE: 1}, now="new") == []
    assert looks.look({PLACE: 2}, topic_id="new") == []
    (problem,) = looks.look({PLACE: 1}, topic_id="new")
    assert "had reached offset 2 and was at 1" in problem.text


def test_evidence_is_no_lost_data() -> None:
    looks = Looks()
    looks.look({("d", 0): 5})
    assert [one.loses_data for one in looks.look({("d", 0): 4})] == [False]
