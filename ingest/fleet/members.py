"""Who is in the fleet: what each member says of itself in its ``client.id``, and what the coordinator knows. Pure.

A member's data are as alive as its membership, need no topic and no ACL of their own, and an operator sees them in
``kafka-consumer-groups --describe --members``.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping

import msgspec

from ingest.settings import Settings

PREFIX = "k2-fleet"
_FIELD = re.compile(r"([a-z]+)=([A-Za-z0-9._+-]*)")
_PLAIN = re.compile(r"[^A-Za-z0-9._+-]")


class Member(msgspec.Struct, frozen=True):
    """One instance of the fleet."""

    instance: str
    address: str
    """The outgoing address whose limits it shares."""
    shards: int
    feed: str
    """A digest of what must be equal everywhere: symbols, streams, topic and ids."""
    version: str
    nonce: str
    """Of this start."""

    @property
    def client_id(self) -> str:
        """How it introduces itself to Kafka."""
        fields = ";".join(f"{name}={getattr(self, name)}" for name in self.__struct_fields__)
        return f"{PREFIX};{fields}"


def member_of(client_id: str) -> Member | None:
    """Read a ``client.id``; None where another program is in the group."""
    prefix, _, rest = client_id.partition(";")
    found = {match[1]: match[2] for part in rest.split(";") if (match := _FIELD.fullmatch(part))}
    if prefix != PREFIX or not set(Member.__struct_fields__) <= found.keys() or not found["shards"].isdecimal():
        return None
    texts = {name: found[name] for name in Member.__struct_fields__ if name != "shards"}
    return Member(shards=int(found["shards"][:6]), **texts)


def own_member(settings: Settings, *, host: str, version: str, nonce: str) -> Member:
    """What this instance says of itself."""
    service = settings.service
    return Member(
        instance=service.instance_id,
        address=service.fleet_address or _PLAIN.sub("-", host)[:253] or "unnamed",
        shards=service.shard_count,
        feed=feed_digest(settings),
        version=_PLAIN.sub("-", version)[:32],
        nonce=nonce,
    )


def feed_digest(settings: Settings) -> str:
    """Equal for instances that record the same symbols and streams into the same topics under the same ids."""
    binance, kafka = settings.binance, settings.kafka
    parts = (
        ",".join(sorted(binance.symbols)),
        ",".join(sorted(binance.streams)),
        str(binance.allow_non_ascii_symbols),
        kafka.topic,
        settings.positions_topic,
        kafka.transactional_id_prefix,
    )
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


class View(msgspec.Struct, frozen=True):
    """The group as its coordinator described it."""

    at: float
    """When it was asked, by the monotonic clock."""
    stable: bool
    """No rebalance is going on: ``owners`` is complete."""
    members: tuple[Member, ...] = ()
    owners: Mapping[int, Member] = {}
    """Shard -> the member that it is assigned to."""
    strangers: int = 0
    """Members of the group that are no instances of ours."""


def sharing(view: View, address: str) -> frozenset[str]:
    """The ids of the instances that share an address. One that was restarted has the same id."""
    return frozenset(one.instance for one in view.members if one.address == address)


def contradiction(own: Member, others: Iterable[Member], group: str) -> str | None:
    """Why this instance must not join: another one records something else under the same group. None if it may."""
    for other in others:
        if other.instance == own.instance:
            continue
        where = f"instance {other.instance} of the group {group}"
        if other.shards != own.shards:
            return (
                f"{where} has K2_SHARD_COUNT={other.shards}, this one {own.shards}: a fleet has one number of "
                "shards; set the same, or another K2_FLEET_GROUP and other topics for another fleet"
            )
        if other.feed != own.feed:
            return (
                f"{where} records other symbols, streams, topics or ids: K2_BINANCE_SYMBOLS, K2_BINANCE_STREAMS, "
                "K2_KAFKA_TOPIC, K2_KAFKA_POSITIONS_TOPIC and K2_KAFKA_TRANSACTIONAL_ID_PREFIX must be the same "
                "everywhere in a fleet. To change them, stop all instances first"
            )
    return None


def of_same_id(own: Member, members: Iterable[Member]) -> Member | None:
    """Another member with this instance's id: an earlier start of it whose session has not ended yet, or a mistake."""
    return next((one for one in members if one.instance == own.instance and one != own), None)


def same_id_problem(other: Member, group: str) -> str:
    """The error text for another member with the id of this instance that does not leave the group."""
    return (
        f"another member of the group {group} has K2_INSTANCE_ID={other.instance}, at {other.address}: "
        "give each instance its own"
    )


def other_versions(own: Member, members: Iterable[Member]) -> dict[str, str]:
    """Instance -> version, of those that run another version than this one."""
    return {one.instance: one.version for one in members if one.version != own.version}


def standby_of(shard: int, members: Iterable[Member], owner: Member | None) -> Member | None:
    """The member that keeps a standby warm for a shard: the same on every instance, and never the owner.

    Rendezvous hashing: when a member comes or goes, only shards that concern it change. An instance of another address
    than the owner's is preferred: what takes the owner away may take its address with it.
    """
    if owner is None:
        return None
    able = [one for one in members if one.instance != owner.instance]

    def rank(one: Member) -> tuple[bool, bytes]:
        digest = hashlib.sha256(f"{shard}:{one.instance}:{one.nonce}".encode()).digest()
        return one.address != owner.address, digest

    return max(able, key=rank, default=None)
