"""The audit of every stream against the real simulator: flawless records pass, and each planted fault is found."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from ingest.audit.http import Transport
from ingest.audit.run import Audit, Outcome
from ingest.audit.streams import STREAMS, rest_ledger, simulator_ledger
from ingest.simulator.app import Simulator
from tests.harness.audit import market
from tests.harness.audit.books import SYMBOL
from tests.harness.audit.feeds import Records, Topic
from tests.unit.ingest.simulator.client import connected, receive
from tests.unit.ingest.simulator.conftest import running

Fields = dict[str, Any]
Change = Callable[[list[Fields]], None]
WIRE = {"depth": "depth@100ms"}
SECOND_US = 1_000_000


@dataclass
class Recorded:
    """What a flawless writer has recorded, and the exchange that it is compared with."""

    exchange: Simulator
    stream: str
    records: list[Fields] = field(default_factory=list)

    async def audited(self, records: list[Fields] | None = None, *, rest: bool = False) -> Outcome:
        """Audit these records, by default the flawless ones."""
        store = Records()
        taken = self.records if records is None else records
        now_us = self.exchange.clock.now_us()
        topic = Topic([store.entry(one, at, written_us=now_us) for at, one in enumerate(taken)])
        if rest:
            ledger = rest_ledger(str(self.exchange.ready["rest_url"]), self.stream, Transport(), 10**6)
        else:
            ledger = simulator_ledger(str(self.exchange.ready["admin_url"]), self.stream, Transport())
        audit = Audit(
            cast("Any", topic), None, ledger, cast("Any", store), stream=STREAMS[self.stream],
            expect_to_head=not self.stream.startswith("kline"),  # a bar is closed every second, traded or not

            now_us=lambda: now_us,
        )  # fmt: skip
        return await asyncio.to_thread(audit.run)


@asynccontextmanager
async def recorded(stream: str, *, snapshots: bool = True) -> AsyncIterator[Recorded]:
    """Record a stream until the exchange stops trading, with a snapshot in the beginning and one in the middle."""
    wire = WIRE.get(stream, stream)
    path = f"/ws/{SYMBOL.lower()}@{wire}?timeUnit=MICROSECOND"
    async with running(rate=1500, symbols=SYMBOL, book_orders=6) as exchange, connected(exchange, path) as connection:
        found = Recorded(exchange, stream)
        exchange.driver.start()
        events: list[Any] = []
        wanted = {"kline_1s": 12, "blockTrade": 4, "depth": 14}.get(stream, 200)
        bodies = []
        while len(events) < wanted:
            events += await receive(connection)
            if stream == "depth" and snapshots and len(events) in (2, 8):
                bodies.append((len(events), rest(exchange, "depth", f"symbol={SYMBOL}&limit=1000")))
        exchange.driver.stop()
        ledger = exchange.derived.sources
        reached: Callable[[], int] = {
            "aggTrade": lambda: exchange.ledger.symbols[SYMBOL].aggregates(1, newest=True)[0].agg_id,
            "blockTrade": lambda: ledger.blocks(exchange.ledger.symbols[SYMBOL]).next_id - 1,
            "bookTicker": lambda: ledger.books.of(exchange.ledger.symbols[SYMBOL]).last_quote_id,
            "depth": lambda: ledger.books.of(exchange.ledger.symbols[SYMBOL]).update_id,
        }.get(stream, lambda: 0)
        while stream != "kline_1s" and events[-1][{"aggTrade": "a", "blockTrade": "t"}.get(stream, "u")] < reached():
            events += await receive(connection)
        found.records = made(stream, events, bodies, exchange.clock.now_us())
        yield found


def made(stream: str, events: list[Any], bodies: list[tuple[int, Any]], now_us: int) -> list[Fields]:
    """The records of a flawless writer."""
    match stream:
        case "aggTrade":
            return [market.aggregate(one) for one in events]
        case "blockTrade":
            return [market.block(one) for one in events]
        case "bookTicker":
            return [market.quote(one, now_us) for one in events]
        case "depth":
            found = [market.update(one) for one in events]
            for body in (body for _, body in bodies):
                after = next(at for at, one in enumerate(found) if one["final_update_id"] > body["lastUpdateId"])
                found.insert(after, market.snapshot(body, now_us))
            return found
        case _:
            return [market.bar(one, SECOND_US) for one in events if one["k"]["x"]]


def rest(exchange: Simulator, path: str, query: str) -> Any:
    answer = exchange.exchange.rest.handle("GET", f"/api/v3/{path}", query, {}, "::1")
    assert answer is not None
    return json.loads(answer.body)


def middle(records: list[Fields], kind: str = "") -> int:
    """The place of a record in the middle, of a kind."""
    places = [at for at, one in enumerate(records) if not kind or one["kind"] == kind]
    return places[len(places) // 2]


def drop(kind: str = "") -> Change:
    return lambda records: records.__delitem__(middle(records, kind))


def again(kind: str = "") -> Change:
    def change(records: list[Fields]) -> None:
        at = middle(records, kind)
        records.insert(at, records[at])

    return change


def late(kind: str = "") -> Change:
    def change(records: list[Fields]) -> None:
        at = middle(records, kind)
        records.insert(at + 2, records.pop(at))

    return change


def altered(name: str, value: Any, kind: str = "") -> Change:
    def change(records: list[Fields]) -> None:
        at = middle(records, kind)
        records[at] = records[at] | {name: value(records[at][name]) if callable(value) else value}

    return change


def more(value: bytes) -> bytes:
    return market.amount(f"{(int.from_bytes(value, 'big', signed=True) + 1) / 10**8:.8f}")


def lost_deletions(records: list[Fields]) -> None:
    for at, one in enumerate(records):
        if one["kind"] == "UPDATE":
            sides = {name: [lvl for lvl in one[name] if lvl["quantity"] != b"\0"] for name in ("bids", "asks")}
            records[at] = one | sides


def wrong_snapshot(records: list[Fields]) -> None:
    at = middle(records, "SNAPSHOT")
    bids = [dict(level) for level in records[at]["bids"]]
    bids[3]["quantity"] = more(bids[3]["quantity"])
    records[at] = records[at] | {"bids": bids}


def gap_without_break(records: list[Fields]) -> None:
    at = middle(records, "UPDATE")
    del records[at : at + 2]


def break_at(
    records: list[Fields], *, last: int = 0, first: int = 0, missing: bool = True, at: int | None = None
) -> None:
    """Replace an update in the middle by a BREAK that names it, shifted by so many ids."""
    at = middle(records, "UPDATE") if at is None else at
    one = records[at]
    if missing:
        records[at] = market.book_break(one["first_update_id"] - 1 + last, one["final_update_id"] + 1 + first, 10**15)
    else:
        records.insert(at, market.book_break(one["first_update_id"] - 1, one["final_update_id"] + 1, 10**15))
    records[at]["ingestion_timestamp"] = one["ingestion_timestamp"]


FAULTS: dict[str, list[tuple[str, Change, str]]] = {
    "aggTrade": [
        ("dropped", drop(), "missing"),
        ("twice", again(), "duplicated"),
        ("late", late(), "reordered"),
        ("price", altered("price", more), "altered"),
        ("quantity", altered("quantity", more), "altered"),
        ("range", altered("last_trade_id", lambda one: one + 1), "altered"),
        ("side", altered("side", lambda one: "BUY" if one == "SELL" else "SELL"), "altered"),
        ("time", altered("timestamp", lambda one: one + 1), "altered"),
        ("identity", altered("message_id", lambda one: one.replace("agg-", "")), "altered"),
    ],
    "blockTrade": [
        ("dropped", drop(), "missing"),
        ("twice", again(), "duplicated"),
        ("condition", altered("trade_conditions", []), "altered"),
        ("identity", altered("trade_id", lambda one: one.replace("block-", "")), "altered"),
        ("quantity", altered("quantity", more), "altered"),
    ],
    "kline_1s": [
        ("dropped", drop(), "missing"),
        ("twice", again(), "duplicated"),
        ("corrected", altered("volume", more), "altered"),
        ("close", altered("close", more), "altered"),
        ("trades", altered("trade_count", lambda one: one + 1), "altered"),
        ("first trade", altered("first_trade_id", 1), "altered"),
        ("opening", altered("open_timestamp", lambda one: one + 1), "altered"),
        ("closing", altered("close_timestamp", lambda one: one + 1), "altered"),
    ],
    "bookTicker": [
        ("dropped", drop(), "undeclared_break"),
        ("twice", again(), "duplicated"),
        ("late", late(), "reordered"),
        ("price", altered("bid_price", more), "altered"),
        ("quantity", altered("ask_quantity", more), "altered"),
        ("crossed", altered("ask_price", market.amount("0.00000001")), "crossed"),
        ("unknown kind", altered("kind", "SNAPSHOT"), "altered"),
    ],
    "depth": [
        ("dropped", drop("UPDATE"), "undeclared_break"),
        ("two dropped", gap_without_break, "undeclared_break"),
        ("twice", again("UPDATE"), "duplicated"),
        ("late", late("UPDATE"), "undeclared_break"),
        ("one side", altered("bids", [], "UPDATE"), "altered"),
        ("lost deletions", lost_deletions, "altered"),
        ("reversed range", altered("first_update_id", lambda one: one + 10**6, "UPDATE"), "altered"),
        ("wrong snapshot", wrong_snapshot, "snapshot"),
        ("crossed", altered("asks", market.levels([("0.00000001", "1")]), "UPDATE"), "crossed"),
        ("break one id early", lambda records: break_at(records, last=-1), "false_break"),
        ("break one id late", lambda records: break_at(records, first=1), "false_break"),
        ("break too short", lambda records: break_at(records, first=-2), "undeclared_break"),
        ("break of what is there", lambda records: break_at(records, missing=False), "false_break"),
        ("negative quantity", altered("asks", [{"price": b"\1", "quantity": b"\xff"}], "UPDATE"), "altered"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("stream", FAULTS)
async def test_flawless_records_pass_and_every_planted_fault_is_found(stream: str) -> None:
    async with recorded(stream) as found:
        outcome = await found.audited()
        assert outcome.verdict == "PASS", (outcome.reason, outcome.violations[:3])
        assert outcome.totals.committed == len([one for one in found.records if one.get("kind") != "SNAPSHOT"])
        for name, change, kind in FAULTS[stream]:
            records = list(found.records)
            change(records)
            struck = await found.audited(records)
            assert (struck.verdict, name) == ("FAIL", name), struck.reason
            assert getattr(struck.totals, kind), (name, struck.reason)


async def test_a_declared_break_and_the_snapshot_after_it_pass() -> None:
    async with recorded("depth") as found:
        records = list(found.records)
        break_at(records, at=len(records) - 2)
        outcome = await found.audited(records)
        assert outcome.verdict == "INCONCLUSIVE"  # the book is not in sync at the end
        body = rest(found.exchange, "depth", f"symbol={SYMBOL}&limit=1000")
        records.append(market.snapshot(body, found.exchange.clock.now_us()))
        outcome = await found.audited(records)
        assert (outcome.verdict, outcome.totals.breaks) == ("PASS", 1), outcome.reason


async def test_a_declared_break_of_quotes_passes_and_one_with_wrong_bounds_does_not() -> None:
    async with recorded("bookTicker") as found:
        records = list(found.records)
        at = middle(records)
        gone = records[at : at + 3]
        last, first = records[at - 1]["source_sequence"], records[at + 3]["source_sequence"]
        declared = market.quote_break(last, first, gone[0]["ingestion_timestamp"])
        records[at : at + 3] = [declared]
        outcome = await found.audited(records)
        assert (outcome.verdict, outcome.totals.breaks) == ("PASS", 1), outcome.reason
        for wrong in (
            market.quote_break(last - 1, first, gone[0]["ingestion_timestamp"]),
            market.quote_break(last, first - 1, gone[0]["ingestion_timestamp"]),
        ):
            records[at] = wrong
            outcome = await found.audited(records)
            assert outcome.totals.false_break, outcome.reason


async def test_a_book_without_a_snapshot_is_not_judged() -> None:
    async with recorded("depth", snapshots=False) as found:
        outcome = await found.audited()
        assert outcome.verdict == "INCONCLUSIVE"
        assert not outcome.totals.violations


@pytest.mark.parametrize("stream", ["aggTrade", "blockTrade", "kline_1s"])
async def test_the_history_of_the_exchange_is_truth_as_well(stream: str) -> None:
    async with recorded(stream) as found:
        outcome = await found.audited(rest=True)
        assert outcome.verdict == "PASS", (outcome.reason, outcome.violations[:3])
        for name, change, kind in FAULTS[stream][:2]:
            records = list(found.records)
            change(records)
            struck = await found.audited(records, rest=True)
            assert (struck.verdict, name) == ("FAIL", name)
            assert getattr(struck.totals, kind)


async def test_a_snapshot_of_the_exchange_proves_the_book_at_the_head() -> None:
    async with recorded("depth") as found:
        outcome = await found.audited(rest=True)
        assert (outcome.verdict, outcome.totals.ledger) == ("PASS", 0), outcome.reason
        assert outcome.totals.snapshots >= 2  # the one in the middle, and that of the exchange
        records = list(found.records)
        lost_deletions(records)
        struck = await found.audited(records, rest=True)
        assert struck.totals.snapshot, struck.reason
