"""The group as the coordinator describes it, and what its errors mean."""

import threading
from concurrent.futures import Future
from types import SimpleNamespace as Stub
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupState, ConsumerGroupType, KafkaError, KafkaException
from msgspec.structs import replace

from ingest.core.errors import Retry, Stop
from ingest.fleet import group
from ingest.fleet.group import MOST_MEMBERS, Assignment, GroupMember, GroupViewer, consumer_config
from ingest.fleet.members import Member
from ingest.kafka.credential_backoff import AuthBackoff
from ingest.kafka.errors import AUTHENTICATION_SECONDS
from ingest.settings import load

SETTINGS = load({"K2_SHARD_INDEX": "auto", "K2_SHARD_COUNT": "6"})
OWN = Member("a", "host-a", 6, "0123456789ab", "0.2.0", "n1")
REFUSED = KafkaError(KafkaError._AUTHENTICATION, "wrong password")
OTHER = replace(OWN, instance="b", nonce="n2")


def described(
    *members: tuple[str, list[int]],
    state: ConsumerGroupState = ConsumerGroupState.STABLE,
    kind: ConsumerGroupType = ConsumerGroupType.CLASSIC,
) -> Stub:
    return Stub(
        state=state,
        type=kind,
        members=[
            Stub(client_id=name, assignment=Stub(topic_partitions=[Stub(partition=one) for one in shards]))
            for name, shards in members
        ],
    )


def viewer(answer: Any, monkeypatch: pytest.MonkeyPatch) -> GroupViewer:
    future: Future[Any] = Future()
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    elif answer is not None:
        future.set_result(answer)
    found = GroupViewer(SETTINGS)
    admin = Stub(
        describe_consumer_groups=lambda groups, request_timeout: dict.fromkeys(groups, future), poll=lambda _: None
    )
    monkeypatch.setattr(found, "_admin", admin)
    return found


def test_a_view_has_members_owners_and_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = described((OWN.client_id, [0, 2]), (OTHER.client_id, [1]), ("rdkafka", [3]))
    view = viewer(answer, monkeypatch).view()
    assert (view.members, view.strangers, view.stable) == ((OWN, OTHER), 1, True)
    assert view.owners == {0: OWN, 2: OWN, 1: OTHER}


@pytest.mark.parametrize(
    ("state", "kind", "stable"),
    [
        (ConsumerGroupState.PREPARING_REBALANCING, ConsumerGroupType.CLASSIC, False),
        (ConsumerGroupState.COMPLETING_REBALANCING, ConsumerGroupType.CLASSIC, False),
        (ConsumerGroupState.EMPTY, ConsumerGroupType.CLASSIC, True),
        (ConsumerGroupState.UNKNOWN, ConsumerGroupType.CONSUMER, True),
    ],
)
def test_owners_count_unless_the_classic_group_rebalances(
    state: ConsumerGroupState, kind: ConsumerGroupType, stable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert viewer(described(state=state, kind=kind), monkeypatch).view().stable is stable


def test_no_more_members_than_the_bound_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    many = [(replace(OWN, instance=f"i{number}").client_id, [number]) for number in range(MOST_MEMBERS + 5)]
    view = viewer(described(*many), monkeypatch).view()
    assert len(view.members) == len(view.owners) == MOST_MEMBERS


def test_a_group_that_does_not_exist_is_empty_and_another_failure_is_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = KafkaException(KafkaError(KafkaError.GROUP_ID_NOT_FOUND))
    assert viewer(missing, monkeypatch).view().members == ()
    monkeypatch.setattr(group, "REQUEST_SECONDS", 0.0)
    monkeypatch.setattr(group, "STEP_SECONDS", 0.01)
    for answer in (KafkaException(KafkaError(KafkaError.NOT_COORDINATOR)), None):
        with pytest.raises(Retry):
            viewer(answer, monkeypatch).view()


def test_a_viewer_with_refused_credentials_drops_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would try them three times a second; the account is locked for less."""
    monkeypatch.setattr(group, "STEP_SECONDS", 0.01)
    waiting = viewer(None, monkeypatch)
    waiting._errors.append(REFUSED)
    for refused in (waiting, viewer(KafkaException(REFUSED), monkeypatch)):
        with pytest.raises(Retry) as caught:
            refused.view()
        assert (caught.value.after, refused._admin) == (AUTHENTICATION_SECONDS, None)


def test_a_member_with_refused_credentials_leaves_and_joins_when_they_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One attempt, then none until the process's one attempt in half a minute was let in."""
    access, done = AuthBackoff(SETTINGS), threading.Event()
    joined: list[str] = []
    one = GroupMember(SETTINGS, OWN, access, on_error=lambda _: None)

    def wait(closing: threading.Event, disconnect: Any = None) -> None:
        joined.append("waited" if access._next is not None else "free")
        access._next = None

    class Client:
        def __init__(self, config: dict[str, Any]) -> None:
            joined.append("connected")
            self._tell = config["error_cb"]

        def subscribe(self, *_: Any, **__: Any) -> None: ...

        def poll(self, _: float) -> None:
            if joined.count("connected") == 1:
                self._tell(REFUSED)
            else:
                one.leave()
                done.set()

        def close(self) -> None:
            joined.append("closed")

    monkeypatch.setattr(access, "wait", wait)
    monkeypatch.setattr(group, "Consumer", Client)
    one.start()
    assert done.wait(10.0)
    one.join(10.0)
    assert joined == ["free", "connected", "closed", "waited", "connected", "closed"]


def member() -> GroupMember:
    return GroupMember(SETTINGS, OWN, AuthBackoff(SETTINGS), on_error=lambda _: None)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (KafkaError.INCONSISTENT_GROUP_PROTOCOL, "K2_FLEET_GROUP_PROTOCOL"),
        (KafkaError.UNSUPPORTED_VERSION, "K2_FLEET_GROUP_PROTOCOL=classic"),
    ],
)
def test_what_a_person_must_change_ends_it_with_the_setting(code: int, words: str) -> None:
    with pytest.raises(Stop, match=words):
        member()._judge(KafkaError(code))


def test_other_errors_are_left_to_the_library() -> None:
    member()._judge(KafkaError(KafkaError._TRANSPORT))
    member()._judge(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))


def test_each_assignment_has_a_number_of_its_own() -> None:
    assignment = Assignment()
    assert not assignment.answered
    assignment.add([])
    assert assignment.answered
    assignment.add([1, 2])
    assignment.remove([2, 5])
    assignment.add([2])
    assert assignment.shards() == {1: 2, 2: 3}


def test_the_broker_sets_the_times_of_the_newer_protocol() -> None:
    classic = consumer_config(SETTINGS, OWN)
    newer = load({"K2_SHARD_INDEX": "auto", "K2_FLEET_GROUP_PROTOCOL": "consumer"})
    assert (classic["session.timeout.ms"], classic["partition.assignment.strategy"]) == (6000, "cooperative-sticky")
    assert not {"session.timeout.ms", "heartbeat.interval.ms"} & consumer_config(newer, OWN).keys()
    assert classic["client.id"] == OWN.client_id
    assert classic["enable.auto.commit"] is False
