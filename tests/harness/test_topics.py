"""A consumer that asks a broker too early asks again."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException

from tests.harness.topics import beginning

UNKNOWN = KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)


class Asked:
    """Answers one after the other, the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    def list_topics(self, topic: str, timeout: float) -> Any:
        del timeout
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        error, partitions = answer
        return SimpleNamespace(topics={topic: SimpleNamespace(error=error, partitions=dict.fromkeys(partitions))})


def test_it_is_asked_again_until_the_topic_is_known() -> None:
    consumer = Asked((UNKNOWN, ()), KafkaException(KafkaError(KafkaError._TRANSPORT)), (None, ()), (None, (0, 1)))
    found = beginning(cast(Consumer, consumer), "trades")
    assert [(one.topic, one.partition, one.offset) for one in found] == [("trades", 0, 0), ("trades", 1, 0)]


def test_what_stays_unknown_is_told() -> None:
    with pytest.raises(TimeoutError, match="trades is not known"):
        beginning(cast(Consumer, Asked((UNKNOWN, ()))), "trades", seconds=0.1)
