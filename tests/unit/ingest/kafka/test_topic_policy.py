"""Which policies of a topic are refused, and which are only reported."""

import pytest

from ingest.kafka.topic_policy import (
    DAY_MS,
    FOREVER_MS,
    MESSAGE_BYTES,
    Expected,
    Found,
    Topic,
    corrections,
    duration_ms,
    policies,
    problems,
)

TRADES, POSITIONS, LETTERS = Topic("t", "trades"), Topic("t.positions", "positions"), Topic("t.dlq", "dead letters")
VOIDS = Topic("t.voids", "voids")
ALL = (TRADES, POSITIONS, LETTERS, VOIDS)
EXPECTED = Expected(shards=1, retention_ms=2 * DAY_MS)


def found(topic: Topic, *, replicas: int = 3, partitions: int = 6, topic_id: str = "id", **configs: str) -> Found:
    wanted = policies(topic.role, replicas=replicas, retention_ms=7 * DAY_MS)
    return Found(
        topic_id, partitions, replicas, wanted | {key.replace("_", "."): value for key, value in configs.items()}
    )


def whole(**changed: Found) -> dict[str, Found]:
    names = {"trades": TRADES, "positions": POSITIONS, "letters": LETTERS, "voids": VOIDS}
    return {topic.name: changed.get(name) or found(topic) for name, topic in names.items()}


@pytest.mark.parametrize("replicas", [1, 2, 3, 5])
def test_what_is_created_is_accepted(replicas: int) -> None:
    assert problems(ALL, {topic.name: found(topic, replicas=replicas) for topic in ALL}, EXPECTED) == []


@pytest.mark.parametrize(
    ("changed", "policy", "refused"),
    [
        ({"trades": found(TRADES, cleanup_policy="compact")}, "cleanup.policy", True),
        ({"trades": found(TRADES, cleanup_policy="delete,compact")}, "cleanup.policy", True),
        ({"positions": found(POSITIONS, cleanup_policy="delete")}, "cleanup.policy", True),
        ({"positions": found(POSITIONS, cleanup_policy="compact, delete")}, "cleanup.policy", True),
        ({"letters": found(LETTERS, cleanup_policy="compact")}, "cleanup.policy", False),
        ({"trades": found(TRADES, unclean_leader_election_enable="true")}, "unclean.leader.election.enable", True),
        (
            {"positions": found(POSITIONS, unclean_leader_election_enable="true")},
            "unclean.leader.election.enable",
            True,
        ),
        ({"voids": found(VOIDS, cleanup_policy="delete")}, "cleanup.policy", False),
        ({"voids": found(VOIDS, min_insync_replicas="1")}, "min.insync.replicas", False),
        ({"letters": found(LETTERS, unclean_leader_election_enable="true")}, "unclean.leader.election.enable", False),
        ({"trades": found(TRADES, min_insync_replicas="1")}, "min.insync.replicas", True),
        ({"trades": found(TRADES, replicas=2, min_insync_replicas="3")}, "min.insync.replicas", True),
        ({"trades": found(TRADES, retention_ms="3600000")}, "retention.ms", True),
        ({"trades": found(TRADES, retention_ms="0")}, "retention.ms", True),
        ({"trades": found(TRADES, retention_bytes="1000000")}, "retention.bytes", False),
        ({"trades": found(TRADES, max_message_bytes="999999")}, "max.message.bytes", False),
        ({"positions": found(POSITIONS, max_message_bytes="100")}, "max.message.bytes", False),
        ({"positions": found(POSITIONS, partitions=0)}, "partitions", True),
        (
            {"trades": found(TRADES, message_timestamp_type="CreateTime", message_timestamp_after_max_ms="1000")},
            "message.timestamp.after.max.ms",
            False,
        ),
        ({"trades": Found("id", 6, 3, None)}, "unreadable", False),
    ],
)
def test_a_policy_that_loses_data_is_a_problem_with_a_remedy(
    changed: dict[str, Found], policy: str, refused: bool
) -> None:
    (problem,) = problems(ALL, whole(**changed), EXPECTED)
    assert (problem.policy, problem.refused) == (policy, refused)
    assert "`" in problem.text or "grant" in problem.text


@pytest.mark.parametrize("kept", [str(FOREVER_MS), str(2 * DAY_MS)])
def test_a_retention_that_suffices_is_none(kept: str) -> None:
    assert problems(ALL, whole(trades=found(TRADES, retention_ms=kept)), EXPECTED) == []


def test_missing_topics_are_named_with_what_to_do() -> None:
    missing = problems(ALL, {}, EXPECTED)
    assert [problem.topic for problem in missing] == [topic.name for topic in ALL]
    assert all("create the topics with `ingest topics`" in problem.text for problem in missing)
    assert [problem.topic for problem in missing if not problem.refused] == ["t.voids"], "older versions had none"


@pytest.mark.parametrize(("partitions", "refused"), [(6, False), (7, True), (5, True)])
def test_another_number_of_partitions_is_refused(partitions: int, refused: bool) -> None:
    expected = Expected(shards=1, retention_ms=0, partitions=6)
    result = problems([TRADES], {"t": found(TRADES, partitions=partitions)}, expected)
    assert [problem.policy for problem in result] == ["partitions"] * refused


def test_a_topic_that_was_created_again_is_reported() -> None:
    expected = Expected(shards=1, retention_ms=0, topic_ids={"t": "id", "t.positions": "another"})
    (problem,) = problems(ALL, whole(), expected)
    assert (problem.topic, problem.policy, problem.refused) == ("t.positions", "recreated", False)


def test_durations_of_the_command_line() -> None:
    assert [duration_ms(text) for text in ("30d", "12h", "90m", "forever")] == [30 * DAY_MS, DAY_MS // 2, 5_400_000, -1]
    for text in ("", "d", "7", "-7d", "0d", "1.5d", "9" * 30 + "d", "7w", "٣d", "nan"):
        with pytest.raises(ValueError, match="allowed is"):
            duration_ms(text)


def test_a_topic_of_another_stream_is_created_and_checked_like_that_of_the_trades() -> None:
    records = Topic("books", "records")
    assert policies("records", replicas=3, retention_ms=5) == policies("trades", replicas=3, retention_ms=5)
    assert [problem.policy for problem in problems((records,), {}, EXPECTED)] == ["missing"]
    compacted = problems((records,), {"books": found(records, cleanup_policy="compact")}, EXPECTED)
    assert [(problem.policy, problem.refused) for problem in compacted] == [("cleanup.policy", True)]
    short = problems((records,), {"books": found(records, retention_ms="1000")}, EXPECTED)
    assert [(problem.policy, problem.refused) for problem in short] == [("retention.ms", True)]
    assert problems((records,), {"books": found(records)}, EXPECTED) == []


def test_sizes_that_suffice_are_left_to_the_operator() -> None:
    for size, expected in (("2000000", None), ("1000012", None), ("500000", str(MESSAGE_BYTES))):
        changes = corrections(TRADES, found(TRADES, max_message_bytes=size), retention_ms=None)
        assert changes.get("max.message.bytes") == expected
