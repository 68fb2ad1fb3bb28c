"""The rows by the broker that they need, each played and audited: the runner and the suite call the same."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka.admin import AclBinding, ResourceType  # type: ignore[attr-defined]

from tests.campaigns.brokers import access, cluster, disk, edges
from tests.campaigns.brokers.cluster import ClusterFaults, Trio
from tests.campaigns.brokers.environment import BrokerEnvironment
from tests.campaigns.brokers.secure import SecureBroker, page_acls
from tests.campaigns.faults.rows import Played
from tests.harness.kafka import KafkaBroker

Row = tuple[int, str, str, Callable[[], Played]]
"""Number in the fault table, what is done, the criterion, and how it is played."""
Say = Callable[[int, str, str, Played], None]

COMMIT = "first commit within 5 s, at a consumer"
AGAIN = "not ready, and commits again within 35 s after the grant"


@contextmanager
def three_brokers(directory: Path) -> Iterator[tuple[BrokerEnvironment, ClusterFaults]]:
    """Three brokers, replication 3, and a service that writes to them."""
    with Trio(directory / "trio") as trio, BrokerEnvironment(
        directory, trio.bootstrap_servers, name="trio", replication_factor=3
    ) as site:  # fmt: skip
        site.begin()
        stage = ClusterFaults(trio, site)
        stage.whole()
        yield site, stage


@contextmanager
def secured(directory: Path) -> Iterator[tuple[BrokerEnvironment, SecureBroker, list[AclBinding], str]]:
    """A broker with TLS, SCRAM and ACLs as the page says, and a service with the page's settings."""
    canary = f"canary-{secrets.token_hex(8)}"
    with SecureBroker(directory / "secure", password=canary) as broker, BrokerEnvironment(
        directory, broker.bootstrap_servers, name="secure"
    ) as site:  # fmt: skip
        acls = page_acls(site.stack.topic)
        broker.set_password(canary)
        broker.allow(*acls)
        site.begin(broker.settings(directory / "password"))
        yield site, broker, acls, canary


@contextmanager
def tiny_disk(directory: Path) -> Iterator[tuple[BrokerEnvironment, KafkaBroker, Path]]:
    """A broker on a file system of its own, and a service that writes to it."""
    with ExitStack() as stack:
        small = stack.enter_context(disk.small_disk(directory / "disk"))
        broker = stack.enter_context(disk.tiny_broker(directory / "tiny", small))
        site = stack.enter_context(BrokerEnvironment(directory, broker.bootstrap_servers, name="tiny"))
        site.begin()
        yield site, broker, small


@contextmanager
def one_broker(directory: Path, name: str) -> Iterator[BrokerEnvironment]:
    """A broker as any other; a low bound of dead letters."""
    with KafkaBroker(directory / f"kafka-{name}", heap="384m") as broker, BrokerEnvironment(
        directory, broker.bootstrap_servers, name=name
    ) as site:  # fmt: skip
        site.begin({"K2_KAFKA_DEAD_LETTER_MAX_PER_MINUTE": str(edges.FLOOD)})
        yield site


def cluster_rows(stage: ClusterFaults, times: int) -> list[Row]:
    """Row 23."""
    trio, topic = stage.trio, stage.site.stack.topic
    killed: list[tuple[str, Callable[[], KafkaBroker]]] = [
        ("the leader of a trades partition", lambda: trio.leader(topic)),
        ("the coordinator of the transaction", lambda: trio.coordinator(stage.transactional_id)),
        ("the controller", trio.controller),
    ]
    return [
        *(
            (23, f"three brokers: {what} killed", COMMIT, lambda find=find: cluster.judge(
                cluster.killed(stage, find, times)
            ))
            for what, find in killed
        ),
        (23, "three brokers: a rolling restart", COMMIT, lambda: cluster.judge(cluster.rolled(stage, 1))),
        (
            23, "three brokers: killed right after a commit, away for 12 s", "no reader stands still",
            lambda: cluster.judge(cluster.hanging(stage, times)),
        ),
    ]  # fmt: skip


def access_rows(
    site: BrokerEnvironment, broker: SecureBroker, acls: list[AclBinding], canary: str, seconds: float
) -> list[Row]:
    """Rows 26 and 27."""
    topic = site.stack.topic
    resources = (
        ("the trades topic", ResourceType.TOPIC, topic),
        ("the positions topic", ResourceType.TOPIC, f"{topic}.positions"),
        ("the transactional id", ResourceType.TRANSACTIONAL_ID, f"k2-ingest-{topic}-0"),
    )
    return [
        (
            26, "SASL: the password is changed at the broker", "alarm, one attempt in 30 s, no secret to be read",
            lambda: access.rotated(site, broker, canary, seconds),
        ),
        *(
            (27, f"ACL: Write on {what} is withdrawn", AGAIN, lambda kind=kind, name=name: access.denied(
                site, broker, acls, kind, name
            ))
            for what, kind, name in resources
        ),
    ]  # fmt: skip


def edge_rows(site: BrokerEnvironment) -> list[Row]:
    """What any broker will do for: rows 25, 28, 29, 30, 35."""
    return [
        (25, "a dead letter that its topic refuses", "others flow", lambda: edges.too_large_letter(site)),
        (25, "a topic that takes less than a batch", "others flow", lambda: edges.small_batches(site)),
        (28, "a topic that does not exist", "it ends within 30 s and says why", lambda: edges.unknown_topic(site)),
        (29, "the registry is away", "warm: no stall; cold: it waits", lambda: edges.registry_away(site)),
        (30, "a schema that does not fit", "it ends, the other goes on", lambda: edges.incompatible(site)),
        (35, "a flood of dead letters", "bounded and counted, trades flow", lambda: edges.flood_of_letters(site)),
    ]


def play_all(site: BrokerEnvironment, rows: list[Row], say: Say) -> tuple[dict[str, Any], list[str]]:
    """Play rows one after the other on one site, then audit; returns the audit's totals and problems."""
    for number, title, criterion, play in rows:
        try:
            played = play()
        except (TimeoutError, OSError, ValueError) as error:
            played = Played(problems=[str(error).splitlines()[0]])
        say(number, title, criterion, played)
    return site.conclude()
