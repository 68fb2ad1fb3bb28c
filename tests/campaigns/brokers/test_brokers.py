"""One of each on the real processes: three brokers, a full disk, a wrong password, an ACL, sizes; audited."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AclOperation, ResourceType  # type: ignore[attr-defined]

from tests.campaigns.brokers import access, cluster, disk, edges
from tests.campaigns.brokers.cluster import java_hash
from tests.campaigns.brokers.rows import one_broker, secured, three_brokers, tiny_disk
from tests.campaigns.brokers.secure import page_acls, page_settings
from tests.campaigns.faults.rows import Played
from tests.harness.kafka import KafkaUnavailable

Test = Callable[[Path], None]
OTHERS = ("The topics", "The auditor", "Readers")


def real(test: Test) -> Test:
    """Marks a test that needs the real parts."""
    return pytest.mark.integration(pytest.mark.timeout(1200)(test))


@contextmanager
def available() -> Iterator[None]:
    """What is missing here is skipped; in CI it is a failure."""
    try:
        yield
    except (KafkaUnavailable, disk.DiskUnavailable) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def good(*played: Played) -> None:
    for one in played:
        assert one.problems == []
        assert one.recoveries


def clean(concluded: tuple[dict[str, Any], list[str]]) -> None:
    totals, problems = concluded
    assert problems == []
    assert totals["committed"] > 0


@pytest.mark.parametrize(("text", "value"), [("", 0), ("a", 97), ("hello", 99162322), ("polygenelubricants", -(2**31))])
def test_the_hash_that_places_a_coordinator_is_java_s(text: str, value: int) -> None:
    assert java_hash(text) == value


def test_the_page_on_security_can_be_read() -> None:
    assert page_settings()["K2_KAFKA_OPTION_SECURITY_PROTOCOL"] == "SASL_SSL"
    acls = page_acls("t")
    assert {one.name for one in acls} == {"t", "t.positions", "t.voids", "t.dlq", "k2-ingest-t-0", "k2-ingest-t-fleet"}
    assert {one.restype for one in acls} == {ResourceType.TOPIC, ResourceType.TRANSACTIONAL_ID, ResourceType.GROUP}
    read = [one.name for one in acls if one.operation == AclOperation.READ]
    assert read == ["t", "t.positions", "t.voids", "k2-ingest-t-0", "k2-ingest-t-fleet"]
    assert not any(one.operation == AclOperation.WRITE for who in OTHERS for one in page_acls("t", who))


@real
def test_the_leader_of_three_brokers_is_killed(tmp_path: Path) -> None:
    with available(), three_brokers(tmp_path) as (site, stage):
        good(cluster.killed(stage, lambda: stage.trio.leader(site.stack.topic), 1))
        clean(site.conclude())


@real
def test_a_full_disk_ends_the_broker_and_not_the_service(tmp_path: Path) -> None:
    with available(), tiny_disk(tmp_path) as (site, broker, small):
        good(disk.play(site, broker, small))
        clean(site.conclude())


@real
def test_a_wrong_password_and_a_missing_acl_are_waited_for(tmp_path: Path) -> None:
    with available(), secured(tmp_path) as (site, broker, acls, canary):
        good(access.denied(site, broker, acls, ResourceType.TOPIC, site.stack.topic))
        good(access.rotated(site, broker, canary, seconds=8.0))
        clean(site.conclude())


@real
def test_sizes_that_are_refused_hold_up_nobody(tmp_path: Path) -> None:
    with available(), one_broker(tmp_path, "sizes") as site:
        good(edges.too_large_letter(site), edges.flood_of_letters(site), edges.incompatible(site))
        clean(site.conclude())
