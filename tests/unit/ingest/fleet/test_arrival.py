"""Whether an instance may join: partitions, members of another feed, strangers, and an earlier start of itself."""

import pytest
from msgspec.structs import replace

from ingest.core.errors import Stop
from ingest.fleet.arrival import BROKER_SESSION_SECONDS, SAME_ID_SECONDS, Arrival, require_partitions
from ingest.fleet.members import Member, View
from ingest.settings import load

AUTO = {"K2_SHARD_INDEX": "auto", "K2_SHARD_COUNT": "6", "K2_FLEET_GROUP": "g"}
SETTINGS = load(AUTO)
SESSION = SETTINGS.service.fleet_session_timeout_seconds
OWN = Member("a", "host-a", 6, "f", "v", "n1")
OTHER = replace(OWN, instance="b", nonce="n2")
BEFORE = replace(OWN, nonce="n0", address="node-1", shards=4)
"""An earlier start, on another node and with other settings."""


def view(at: float, *members: Member, strangers: int = 0) -> View:
    return View(at, stable=True, members=members, strangers=strangers)


def test_a_group_of_others_that_record_the_same_is_joined() -> None:
    assert Arrival(SETTINGS, OWN).may_join(view(0.0))
    assert Arrival(SETTINGS, OWN).may_join(view(0.0, OTHER))


def test_partitions_must_be_enough_for_the_shards() -> None:
    require_partitions(SETTINGS, 6)
    with pytest.raises(Stop, match=r"has 5 partitions, .* K2_SHARD_COUNT=6 ingest topics"):
        require_partitions(SETTINGS, 5)


def test_another_feed_and_other_programs_are_refused_at_once() -> None:
    with pytest.raises(Stop, match="K2_SHARD_COUNT=4, this one 6"):
        Arrival(SETTINGS, OWN).may_join(view(0.0, replace(OTHER, shards=4)))
    with pytest.raises(Stop, match="group g has 2 members that are no instances of this service"):
        Arrival(SETTINGS, OWN).may_join(view(0.0, OTHER, strangers=2))


def test_an_earlier_start_is_waited_for_until_its_session_has_ended() -> None:
    arrival = Arrival(SETTINGS, OWN)
    assert not arrival.may_join(view(100.0, BEFORE, OTHER))
    assert not arrival.may_join(view(100.0 + SESSION, BEFORE, OTHER))
    assert arrival.may_join(view(101.0 + SESSION, OTHER))


@pytest.mark.parametrize(("protocol", "session"), [("classic", SESSION), ("consumer", BROKER_SESSION_SECONDS)])
def test_one_that_stays_longer_than_a_session_has_the_same_id_by_mistake(protocol: str, session: float) -> None:
    arrival = Arrival(load({**AUTO, "K2_FLEET_GROUP_PROTOCOL": protocol}), OWN)
    assert not arrival.may_join(view(100.0, BEFORE))
    assert not arrival.may_join(view(100.0 + session + SAME_ID_SECONDS, BEFORE))
    with pytest.raises(Stop, match="another member of the group g has K2_INSTANCE_ID=a, at node-1: give each"):
        arrival.may_join(view(100.1 + session + SAME_ID_SECONDS, BEFORE))


def test_a_session_begins_anew_at_the_coordinator_after_kafka_was_away() -> None:
    arrival, patience = Arrival(SETTINGS, OWN), SESSION + SAME_ID_SECONDS
    assert not arrival.may_join(view(100.0, BEFORE))
    arrival.interrupted()
    assert not arrival.may_join(view(130.0, BEFORE))
    assert not arrival.may_join(view(130.0 + patience, BEFORE))
    with pytest.raises(Stop, match="K2_INSTANCE_ID=a"):
        arrival.may_join(view(130.1 + patience, BEFORE))
