"""What instances say of themselves, who contradicts whom, and who keeps a standby."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingest.fleet.duties import Duties
from ingest.fleet.members import (
    Member,
    View,
    contradiction,
    member_of,
    of_same_id,
    other_versions,
    own_member,
    sharing,
    standby_of,
)
from ingest.settings import load

OWN = Member("a", "host-a", 6, "0123456789ab", "0.2.0", "n1")
OTHER = replace(OWN, instance="b", address="host-b", nonce="n2")
WORD = st.text("abcxyzABC019._-", min_size=1, max_size=20)


@given(st.builds(Member, WORD, WORD, st.integers(1, 1000), WORD, WORD, WORD))
def test_a_member_is_read_back_from_its_client_id(member: Member) -> None:
    assert member_of(member.client_id) == member


@pytest.mark.parametrize(
    "text", ["", "rdkafka", "k2-fleet", "k2-fleet;instance=a", "k2-ingest-a-fleet", OWN.client_id.replace("=6", "=x")]
)
def test_another_program_is_no_member(text: str) -> None:
    assert member_of(text) is None


def member(**environment: str) -> Member:
    settings = load({"K2_SHARD_INDEX": "auto", "K2_SHARD_COUNT": "6", **environment})
    return own_member(settings, host=socket.gethostname(), version="0.2.0 beta", nonce="n")


def test_the_address_is_the_host_unless_it_is_named() -> None:
    assert member(K2_FLEET_ADDRESS="nat-1").address == "nat-1"
    assert member_of(member().client_id) == member()


def test_the_feed_is_equal_whatever_the_order_and_differs_with_each_part() -> None:
    feed = member(K2_BINANCE_SYMBOLS="BTCUSDT,ETHUSDT").feed
    assert member(K2_BINANCE_SYMBOLS="ETHUSDT,BTCUSDT").feed == feed
    others = (
        {"K2_BINANCE_SYMBOLS": "BTCUSDT"},
        {"K2_BINANCE_STREAMS": "trade,depth"},
        {"K2_KAFKA_TOPIC": "other"},
        {"K2_KAFKA_POSITIONS_TOPIC": "other"},
        {"K2_KAFKA_TRANSACTIONAL_ID_PREFIX": "other"},
    )
    assert len({feed, *(member(**{"K2_BINANCE_SYMBOLS": "BTCUSDT,ETHUSDT", **one}).feed for one in others)}) == 6


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (replace(OTHER, shards=4), "K2_SHARD_COUNT=4, this one 6"),
        (replace(OTHER, feed="x"), "records other symbols"),
    ],
)
def test_a_contradiction_names_the_instance_and_what_to_do(other: Member, words: str) -> None:
    problem = contradiction(OWN, [OWN, other], "g")
    assert problem is not None
    assert words in problem
    assert f"instance {other.instance} of the group g" in problem


def test_an_earlier_start_of_this_instance_and_other_versions_may_be_there() -> None:
    before = replace(OWN, nonce="n0", version="0.1.0", shards=4)
    assert contradiction(OWN, [before, OTHER], "g") is None
    assert of_same_id(OWN, [OWN, before, OTHER]) == before
    assert of_same_id(OWN, [OWN, OTHER]) is None
    assert other_versions(OWN, [OWN, before, OTHER]) == {"a": "0.1.0"}


def test_an_address_is_shared_by_those_that_name_it() -> None:
    view = View(0.0, stable=True, members=(OWN, OTHER, replace(OTHER, instance="c", address="host-a")))
    assert sharing(view, "host-a") == {"a", "c"}


MEMBERS = st.lists(
    st.builds(
        Member, st.sampled_from("abcdefgh"), st.sampled_from(["x", "y"]), st.just(6), st.just("f"), st.just("v"), WORD
    ),
    min_size=1,
    max_size=8,
    unique_by=lambda one: one.instance,
)


@given(MEMBERS, st.integers(0, 20), st.randoms())
def test_every_instance_chooses_the_same_standby_and_never_the_owner(
    members: list[Member], shard: int, random: object
) -> None:
    owner = members[0]
    chosen = standby_of(shard, members, owner)
    assert chosen == standby_of(shard, list(reversed(members)), owner)
    assert chosen is None or chosen.instance != owner.instance
    assert (chosen is None) == (len(members) == 1)
    if chosen is not None and any(one.address != owner.address for one in members):
        assert chosen.address != owner.address


@given(MEMBERS, st.integers(0, 20))
def test_a_member_that_goes_moves_only_its_own_standbys(members: list[Member], shard: int) -> None:
    owner, chosen = members[0], standby_of(shard, members, members[0])
    for gone in members[1:]:
        rest = [one for one in members if one != gone]
        same_kind = any(one.address != owner.address for one in rest) == any(
            one.address != owner.address for one in members
        )
        if gone != chosen and same_kind:
            assert standby_of(shard, rest, owner) == chosen


def view(*members: Member, stable: bool = True, **owners: Member) -> View:
    return View(0.0, stable, members, {int(name[1:]): owner for name, owner in owners.items()})


def test_a_duty_outlives_the_owner_until_there_is_another_one() -> None:
    duties = Duties(OWN, frozenset({0, 1}), standbys=1)
    duties.observe(view(OWN, OTHER, s0=OTHER, s1=OWN))
    assert (duties.standby(0), duties.standby(1)) == (True, False)
    assert not duties.owner_gone(0)
    duties.observe(view(OWN, stable=False))
    assert duties.standby(0)
    assert duties.owner_gone(0)
    duties.observe(view(OWN, s0=OWN, s1=OWN))
    assert not duties.standby(0)
    assert not duties.owner_gone(0)


def test_a_restarted_owner_is_another_member() -> None:
    duties = Duties(OWN, frozenset({0}), standbys=1)
    duties.observe(view(OWN, OTHER, s0=OTHER))
    duties.observe(view(OWN, replace(OTHER, nonce="n3"), stable=False))
    assert duties.owner_gone(0)


def test_without_standbys_there_are_no_duties() -> None:
    duties = Duties(OWN, frozenset({0}), standbys=0)
    duties.observe(view(OWN, OTHER, s0=OTHER))
    assert not duties.standby(0)
    assert duties.owner(0) == OTHER


def test_owners_named_while_the_group_rebalances_do_not_count() -> None:
    duties = Duties(OWN, frozenset({0}), standbys=1)
    duties.observe(view(OWN, OTHER, s0=OTHER))
    duties.observe(view(OWN, OTHER, s0=OWN, stable=False))
    assert duties.owner(0) == OTHER
    assert duties.standby(0)
