"""The rights of the compose stack's users are those that the page on securing Kafka states."""

import re

import pytest
from confluent_kafka.admin import AclBinding, AclOperation, ResourcePatternType, ResourceType  # type: ignore[attr-defined]

from deploy.kafka.access import USERS, bindings
from tests.harness.kafka import ROOT

TOPIC = "market.crypto.trades.binance"
ROW = re.compile(r"^\| (topic|group|transactional id) `([^`]+)`[^|]*\| ([A-Za-z, ]+?)(?: \([^|]*)? \|$", re.MULTILINE)
PARTS = {
    "writer": ("The service", "The topics", "Changing the number of shards"),
    "auditor": ("The auditor",),
    "reader": ("Readers",),
}
BEYOND_THE_PAGE = {"reader": {("group", "", "read"), ("group", "", "describe")}}
"""The one user of all readers may read in every group: the service keeps no offsets in one."""


def stated(user: str) -> set[tuple[str, str, str]]:
    """Kind, name without shard, operation: as the page has them."""
    page = (ROOT / "docs/how_to/secure_kafka.md").read_text()
    found = set()
    for part in PARTS[user]:
        text = page.partition(f"\n### {part}\n")[2].partition("\n##")[0]
        for kind, name, operations in ROW.findall(text):
            for operation in operations.split(","):
                found.add((kind, name.rstrip("*").replace("<shard>", ""), operation.strip().lower()))
    assert found
    return found


def granted(user: str) -> set[tuple[str, str, str]]:
    """The same of the script."""

    def plain(one: AclBinding) -> tuple[str, str, str]:
        kind = ResourceType(one.restype).name.lower().replace("_", " ")
        return kind, one.name.rstrip("*"), AclOperation(one.operation).name.lower().replace("_", "")

    return {plain(one) for one in bindings(user, [TOPIC])}


def covered(right: tuple[str, str, str], rights: set[tuple[str, str, str]]) -> bool:
    """Whether rights of a prefix or of the name itself contain it."""
    kind, name, operation = right
    return any(kind == k and operation == o and name.startswith(n) for k, n, o in rights)


@pytest.mark.parametrize("user", USERS)
def test_each_user_has_the_rights_of_its_table_and_no_other(user: str) -> None:
    assert all(covered(right, granted(user)) for right in stated(user))
    extra = {right for right in granted(user) if not covered(right, stated(user))}
    assert extra == BEYOND_THE_PAGE.get(user, set())


def test_no_reader_may_write_or_alter() -> None:
    for user in ("reader", "auditor"):
        assert {AclOperation(one.operation).name for one in bindings(user, [TOPIC, "other"])} <= {"READ", "DESCRIBE"}


def test_only_the_writer_s_own_ids_and_topics_are_prefixes() -> None:
    for user in USERS:
        for one in bindings(user, [TOPIC]):
            if one.resource_pattern_type is ResourcePatternType.PREFIXED:
                assert user == "writer"
                assert TOPIC in one.name
            assert one.restype in (ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID)
