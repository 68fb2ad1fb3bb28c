"""What is tried once everything else has settled: faults with one right outcome each.

Each needs a calm world, so that it is certain what the writer has received: it is played after a scenario's end, and
the judge then looks at everything together.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from ingest.core.errors import Reject
from ingest.core.trade import Trade

if TYPE_CHECKING:
    from tests.campaigns.deterministic.exchange import Books
    from tests.campaigns.deterministic.node import Node
    from tests.campaigns.deterministic.scenario import Scenario

WILD_REQUESTS = 60
"""Requests for trades that one wrong id may cost in two minutes, by all instances together."""
FORGOTTEN_SECONDS = 9.0
"""Longer than a void takes to confirm; a trade that memory has lost, too, is waited for longer than this."""
NEW_SYMBOL = "DDDUSDT"

Epilogue = Callable[["Scenario", random.Random], None]


def _writer(one: "Scenario") -> "Node | None":
    return next((node for node in one.alive() if node.writing), None)


def _books(one: "Scenario", dice: random.Random) -> "Books":
    return one.exchange.books[dice.choice(sorted(one.exchange.books))]


def _trade(one: "Scenario", seconds: float, step: float = 1.0) -> None:
    """Go on trading at a low rate."""
    until = one.world.now + seconds
    while one.world.now < until:
        one.exchange.last()
        one.world.run(one.world.now + step)


def _expect_halt(one: "Scenario", symbol: str, reasons: tuple[str, ...]) -> None:
    node = _writer(one)
    if node is None:
        one.problems.append(f"{symbol}: no writer after the ids began again")
        return
    halted = node.pipeline.sequencer.sequences[symbol].halted
    if halted not in reasons:
        one.problems.append(f"{symbol}: ids began again and the symbol is {halted or 'not halted'}")


def ids_begin_again(one: "Scenario", dice: random.Random) -> None:
    """A symbol's ids go back by anything from one to two million, while it trades."""
    books = _books(one, dice)
    _trade(one, 2.0)
    one.settle()
    back = dice.choice((1, 2, 10, 63, 64, 65, 100, 5000, 999_999, 1_000_001, 2_000_000))
    one.exchange.begin_again(books, min(back, books.next_id))
    _trade(one, dice.choice((3.0, 70.0)), 0.5)
    _expect_halt(one, books.symbol, ("id_reset",))
    if dice.random() < 0.5:
        for node in one.alive():
            node.kill()
            one.restart(node.name)
        one.world.run(one.world.now + 20.0)
        _trade(one, 5.0)
        one.settle()
        _expect_halt(one, books.symbol, ("id_reset",))


def ids_begin_again_unseen(one: "Scenario", dice: random.Random) -> None:
    """The same while nothing runs: only the stored positions can tell."""
    books = _books(one, dice)
    _trade(one, 2.0)
    one.settle()
    names = [node.name for node in one.alive()]
    for node in one.alive():
        node.kill()
    one.exchange.begin_again(books, min(dice.choice((200, 5000, 900_000)), books.next_id))
    one.exchange.last()
    one.world.run(one.world.now + 1.0)
    for name in names:
        one.restart(name)
    one.world.run(one.world.now + 20.0)
    _trade(one, 5.0)
    one.settle()
    _expect_halt(one, books.symbol, ("id_reset",))


def _wild(books: "Books", dice: random.Random, time_us: int) -> Trade:
    known = books.next_id - 1
    trade_id = dice.choice((known + 30, known + 5000, known + 900_000, known + 10**9, known // 2, max(0, known - 300)))
    return Trade(books.symbol, min(trade_id, 2**63 - 1), "9.9", "9", time_us, buyer_is_maker=True)


def wild_id(one: "Scenario", dice: random.Random) -> None:
    """One message with a wrong id, good or damaged: nothing is lost for it, and history is not asked for ever."""
    books = _books(one, dice)
    _trade(one, 2.0)
    one.settle()
    one.exchange.page = 1000
    false = _wild(books, dice, one.world.time_ns() // 1000)
    before = one.exchange.pages
    if dice.random() < 0.5:
        one.exchange.tell([false])
    else:
        error = Reject("bad_decimal", "model", symbol=books.symbol, trade_id=false.trade_id)
        for node in one.alive():
            node.pipeline.on_rejected("g0a", b"{", error)
    _trade(one, 120.0)
    one.settle()
    asked = one.exchange.pages - before
    if asked > WILD_REQUESTS * len(one.alive()):
        one.problems.append(f"{books.symbol}: one wild id cost {asked} requests")
    writer = _writer(one)
    if writer is not None and writer.pipeline.sequencer.halted():
        one.problems.append(f"{books.symbol}: still halted two minutes after one wild id")


def false_first_trade(one: "Scenario", dice: random.Random) -> None:
    """A symbol without a position gets a trade first that never happened."""
    books = one.exchange.list_symbol(NEW_SYMBOL, dice.choice((1000, 10**6, 2**40)), 30)
    for node in one.alive():
        node.pipeline.add(NEW_SYMBOL, None)
    trade_id = dice.choice((3, books.next_id - 2, books.next_id + 10**7))
    known = books.trades.get(trade_id)
    now_us = one.world.time_ns() // 1000
    false = Trade(NEW_SYMBOL, trade_id, "9.9", "9", now_us, buyer_is_maker=True)
    one.exchange.tell([false if known is None else msgspec.structs.replace(known, price="9.9")])
    one.world.run(one.world.now + dice.choice((0.01, 0.5)))
    _trade(one, 60.0)


def history_forgets(one: "Scenario", dice: random.Random) -> None:
    """An id never existed, and history lacks those after it, too, which the streams have sent."""
    books = _books(one, dice)
    _trade(one, 2.0)
    one.settle()
    gap = dice.randint(1, 2)
    first = books.next_id
    books.next_id += gap
    books.hidden = (first, first + gap + dice.randint(1, 12))
    _trade(one, FORGOTTEN_SECONDS, 0.5)
    books.hidden = (0, -1)


EPILOGUES: tuple[Epilogue | None, ...] = (
    None,
    None,
    None,
    ids_begin_again,
    ids_begin_again_unseen,
    wild_id,
    false_first_trade,
    history_forgets,
)
