"""What goes wrong with the other streams, and what must not interrupt them once all is well."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.campaigns.deterministic.client import PARTITIONS
from tests.campaigns.deterministic.market import STREAMS, Market
from tests.campaigns.deterministic.market_judge import TOPICS, kinds

if TYPE_CHECKING:
    from tests.campaigns.deterministic.market_lanes import Lanes
    from tests.campaigns.deterministic.scenario import Scenario

Fault = Callable[["Scenario"], None]
WILD_IDS = (-(10**8), -(2 * 10**6), 2 * 10**6, 10**9, 2**62)
"""By how much an id is wrong: more than is ever missing, or it would be taken for what is."""
OVERLAP_SECONDS = 0.9
"""Both connections are heard in this time."""


def _lanes(one: "Scenario") -> "Lanes | None":
    node = one.node()
    return None if node is None or node.stop.is_set() else node.lanes


def drop_stream(one: "Scenario") -> None:
    """A connection of a stream is lost; it is dialled again a moment later."""
    lanes = _lanes(one)
    if lanes is not None:
        stream = one.dice.choice(STREAMS)
        for name in list(lanes.links[stream])[:1]:
            lanes.hang_up(stream, name)


def overlap_stream(one: "Scenario") -> None:
    """A connection is replaced, make before break; the old one may end before the new one is known to listen."""
    lanes = _lanes(one)
    if lanes is not None:
        stream = one.dice.choice(STREAMS)
        old = list(lanes.links[stream])
        if len(old) == 1:
            lanes.dial(stream)
            one.world.after(
                one.dice.uniform(0.0, one.dice.choice((0.1, 1.0))), lanes.actor, lanes.leave, stream, old[0]
            )


def market_gaps(one: "Scenario") -> None:
    """Events are left out."""
    one.for_a_while(one.market, "gap", one.dice.choice((0.05, 0.3)))


def market_duplicates(one: "Scenario") -> None:
    """Events are sent twice."""
    one.for_a_while(one.market, "duplicate", 0.3)


def market_late(one: "Scenario") -> None:
    """Events arrive behind those that follow them."""
    one.for_a_while(one.market, "swap", 0.3)


def snapshots_stale(one: "Scenario") -> None:
    """REST has a book of before."""
    one.for_a_while(one.market, "stale", 0.6)


def snapshots_late(one: "Scenario") -> None:
    """A snapshot is long under way."""
    one.for_a_while(one.market, "ahead", 0.6)


def market_refuses(one: "Scenario") -> None:
    """REST refuses what is asked about the other streams."""
    one.for_a_while(one.market, "refuse", 0.5)


def schedule_wild_ids(one: "Scenario", market: Market, dice: random.Random) -> None:
    """Single events with a wrong id. Dice of their own: without them a seed is what it was before."""
    for _ in range(dice.randint(1, 4)):
        one.world.at(dice.uniform(1.0, 6.0), None, strike, one, market, dice)


def strike(one: "Scenario", market: Market, dice: random.Random) -> None:
    """The next event of a stream that has begun has a wrong id: the first one of all would state where it begins."""
    stream, symbol = dice.choice(STREAMS), dice.choice(sorted(market.books))
    records = (one.broker.read((TOPICS[stream], partition), 0)[0] for partition in range(PARTITIONS))
    if any(record.key == symbol.encode() for of in records for record in of):
        market.strikes[stream, symbol] = dice.choice(WILD_IDS)


MARKET_FAULTS: tuple[Fault, ...] = (
    drop_stream, drop_stream, drop_stream, overlap_stream, overlap_stream, market_gaps, market_duplicates, market_late,
    snapshots_stale, snapshots_late, market_refuses,
)  # fmt: skip


def calm(one: "Scenario", market: Market) -> None:
    """Rotations of every stream and a planned hand-over: no break, and no snapshot asked for."""
    one.schedule.append("calm")
    _trade(one, market, 1.0)  # what was interrupted before is declared by the next event
    one.settle()
    before = kinds(one.broker)
    for node in one.alive():
        if node.lanes is None:
            continue
        for stream in STREAMS:
            old = list(node.lanes.links[stream])
            if len(old) == 1:
                node.lanes.dial(stream)
                _trade(one, market, OVERLAP_SECONDS)
                node.lanes.leave(stream, old[0])
    _trade(one, market, 1.0)
    standby = next((node for node in one.alive() if not node.writing), None)
    if standby is not None:
        one.orders += 1
        standby.ask("promote", one.orders)
        _trade(one, market, 3.0)
    one.settle()
    after = kinds(one.broker)
    if after != before:
        one.problems.append(f"interrupted while all was well: {dict(after - before)}")


def _trade(one: "Scenario", market: Market, seconds: float) -> None:
    until = one.world.now + seconds
    while one.world.now < until:
        market.last()
        one.world.run(one.world.now + 0.3)
