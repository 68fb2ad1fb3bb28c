"""Logs that were truncated, detected by their ends and by the offsets of our own records."""

from collections.abc import Mapping

import pytest

from ingest.kafka.log_ends import Place, TruncatedLogs, WrittenOffsets
from ingest.kafka.topic_policy import Found, Problem, Topic

TRADES, LETTERS = Topic("t", "trades"), Topic("d", "dead letters")
PLACE = ("t", 1)


def found(topic_id: str = "id") -> dict[str, Found]:
    return {"t": Found(topic_id, 2, 1, None), "d": Found("letters", 1, 1, None)}


class Looks:
    """Looks at one topic, again and again."""

    def __init__(self) -> None:
        self.written = WrittenOffsets()
        self.logs = TruncatedLogs(self.written)
        self.described = 0

    def look(
        self,
        ends: Mapping[Place, int],
        *,
        topic_id: str = "id",
        now: str = "",
        known: Mapping[Place, int] | None = None,
    ) -> list[Problem]:
        """``now``: the topic's id when it is described once more; ``known``: what was written before the ends."""

        def again() -> dict[str, Found]:
            self.described += 1
            return found(now or topic_id)

        known = self.written.ends() if known is None else known
        return self.logs.look([TRADES, LETTERS], found(topic_id), ends, known, again)


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


def test_an_end_before_a_record_that_was_written_is_reported() -> None:
    looks = Looks()
    looks.look({PLACE: 5})
    looks.written.written("t", 1, 41)
    assert looks.look({PLACE: 42}) == []
    (problem,) = looks.look({PLACE: 41})
    assert "had reached offset 42 and was at 41" in problem.text


def test_a_log_that_has_grown_again_is_found_by_the_offsets_that_were_written_twice() -> None:
    looks = Looks()
    for offset in (98, 99, 100, 80, 81, 120):
        looks.written.written("t", 1, offset)
    (problem,) = looks.look({PLACE: 121})
    assert "partition 1 had reached offset 101 and was at 80 afterwards" in problem.text


def test_records_that_are_written_while_the_ends_are_read_are_no_loss() -> None:
    looks = Looks()
    looks.written.written("t", 1, 9)
    known = looks.written.ends()
    looks.written.written("t", 1, 30)  # acknowledged behind the question
    assert looks.look({PLACE: 10}, known=known) == []
    assert looks.look({PLACE: 31}) == []


@pytest.mark.parametrize("described", ["before", "meanwhile"])
def test_a_topic_that_was_created_again_begins_again(described: str) -> None:
    looks = Looks()
    looks.written.written("t", 1, 99)
    looks.look({PLACE: 100})
    looks.written.written("t", 1, 0)
    if described == "before":
        assert looks.look({}, topic_id="new") == []  # the ends could not be read
        assert looks.look({PLACE: 1}, topic_id="new") == []
    else:
        assert looks.look({PLACE: 1}, now="new") == []
    looks.written.written("t", 1, 1)
    assert looks.look({PLACE: 2}, topic_id="new") == []
    (problem,) = looks.look({PLACE: 1}, topic_id="new")
    assert "had reached offset 2 and was at 1" in problem.text


def test_evidence_is_no_lost_data() -> None:
    looks = Looks()
    looks.look({("d", 0): 5})
    assert [one.loses_data for one in looks.look({("d", 0): 4})] == [False]
