"""``ingest topics`` and the watch over topics on the real Kafka."""

import argparse
import time
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from ingest.core.errors import Stop
from ingest.kafka import topic_policy, topics
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.topic_policy import DAY_MS, policies
from ingest.kafka.topic_watch import TopicWatch
from ingest.metrics import Metrics
from ingest.settings import Settings
from tests.harness.kafka import KafkaBroker
from tests.integration.ingest.kafka.test_refusals import set_config
from tests.integration.ingest.kafka.writing import settings_for

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(kafka: str, topic: str) -> Settings:
    settings = settings_for(kafka, "blue", topic)
    topics.create(settings, partitions=2, replication_factor=1)
    return settings


def command(settings: Settings, *, retention: str | None = None, alter: bool = False) -> int:
    return topics.run(
        settings,
        argparse.Namespace(
            partitions=2,
            replication_factor=1,
            retention_ms=None if retention is None else topic_policy.duration_ms(retention),
            alter=alter,
            json=False,
        ),
    )


def test_every_policy_is_set_explicitly(settings: Settings) -> None:
    wanted = topic_policy.topics(settings)
    found = topics.TopicDescriber(settings).describe(wanted)
    for topic in wanted:
        configs = found[topic.name].configs
        assert configs is not None
        assert policies(topic.role, replicas=1, retention_ms=7 * DAY_MS).items() <= configs.items()


@pytest.mark.parametrize(
    ("suffix", "key", "value"),
    [
        ("", "cleanup.policy", "compact"),
        (".positions", "cleanup.policy", "delete"),
        ("", "unclean.leader.election.enable", "true"),
        ("", "min.insync.replicas", "2"),
        ("", "retention.ms", "3600000"),
    ],
)
def test_a_wrong_policy_is_refused_and_the_named_command_corrects_it(
    settings: Settings, kafka: str, suffix: str, key: str, value: str
) -> None:
    name = settings.kafka.topic + suffix
    set_config(kafka, name, key, value)
    refused = eventually_refused(settings)
    assert name in refused
    assert key in refused
    assert "`ingest topics --alter" in refused
    with pytest.raises(Stop):
        command(settings)
    assert command(settings, alter=True, retention="7d") == 0
    topics.verify_settled(settings)


def eventually_refused(settings: Settings) -> str:
    """A broker describes a change a moment after it was made."""
    deadline = time.monotonic() + 30.0
    while time.monotonic() < deadline:
        try:
            topics.verify(settings)
        except Stop as error:
            return str(error)
        time.sleep(0.05)
    raise AssertionError("nothing was refused")


def test_retention_is_as_asked(kafka: str, topic: str) -> None:
    settings = settings_for(kafka, "blue", topic)
    assert command(settings, retention="30d") == 0
    describer = topics.TopicDescriber(settings)
    found = describer.describe(topic_policy.topics(settings))[topic].configs
    assert found is not None
    assert found["retention.ms"] == str(30 * DAY_MS)


def test_asking_creates_no_topic(tmp_path: object, own_kafka_that_creates: KafkaBroker, topic: str) -> None:
    del tmp_path
    settings = settings_for(own_kafka_that_creates.bootstrap_servers, "blue", topic)
    with pytest.raises(Stop, match="ingest topics"):
        topics.verify(settings)
    listed = AdminClient({"bootstrap.servers": own_kafka_that_creates.bootstrap_servers}).list_topics(timeout=30).topics
    assert topic not in listed


@pytest.fixture
def own_kafka_that_creates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    properties = {"auto.create.topics.enable": "true"}
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), properties=properties) as broker:
        yield broker


class Watched:
    """A watch and what it says."""

    def __init__(self, settings: Settings) -> None:
        self.errors: list[Stop] = []
        self.metrics = Metrics(process=False)
        self.watch = TopicWatch(settings, self.metrics, self.errors.append, AuthBackoff(settings), interval=0.2)

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60.0
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def policy(self, topic: str, name: str) -> bool:
        labels = {"topic": topic, "problem": name}
        return self.metrics.registry.get_sample_value("ingest_topic_problems", labels) == 2


@pytest.fixture
def watched(settings: Settings) -> Iterator[Watched]:
    one = Watched(settings)
    one.watch.start()
    one.wait(lambda: bool(one.watch._expected.topic_ids))
    yield one
    one.watch.close()
    one.watch.join(30)


def test_a_policy_changed_while_running_is_reported_until_it_is_corrected(
    settings: Settings, kafka: str, topic: str, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    set_config(kafka, topic, "cleanup.policy", "compact")
    watched.wait(lambda: watched.policy(topic, "cleanup.policy"))
    assert f"topic {topic} has cleanup.policy=compact" in caplog.text
    assert list(watched.watch.problems) == [topic]
    topics.alter(settings, None)
    watched.wait(lambda: not watched.watch.problems)
    assert not watched.policy(topic, "cleanup.policy")
    assert not watched.errors


def test_a_topic_deleted_and_created_again_is_an_alarm(
    settings: Settings, kafka: str, topic: str, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([topic])[topic].result(30)
    watched.wait(lambda: watched.policy(topic, "missing"))
    assert "create the topics with `ingest topics`" in caplog.text
    topics.create(settings, partitions=2, replication_factor=1)
    watched.wait(lambda: watched.policy(topic, "recreated"))
    assert f"topic {topic} was deleted and created again" in caplog.text
    assert not watched.errors


def test_more_partitions_end_the_service(kafka: str, topic: str, watched: Watched) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(30)
    watched.wait(lambda: bool(watched.errors))
    assert f"topic {topic} has 3 partitions, its records were written to 2" in str(watched.errors[0])


def test_a_broker_without_the_topic_s_policies_is_refused(kafka: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    new = [
        NewTopic(topic + suffix, 1, 1, config={"cleanup.policy": "compact"}) for suffix in ("", ".positions", ".dlq")
    ]
    for future in admin.create_topics(new).values():
        future.result(30)
    watched = Watched(settings_for(kafka, "blue", topic))
    watched.watch.start()
    watched.wait(lambda: bool(watched.errors))
    watched.watch.join(30)
    assert "compaction keeps only the last trade of each symbol" in str(watched.errors[0])
