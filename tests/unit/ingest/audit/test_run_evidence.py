"""What the ledger cannot show is INCONCLUSIVE; what it shows is judged, with or without positions."""

import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from ingest.audit.decode import SchemaMissing
from ingest.audit.ledger import RestLedger, SimulatorLedger
from ingest.audit.report import as_text
from tests.harness.audit.books import SYMBOL, trade
from tests.harness.audit.feeds import Entry, Records, audit, position, void
from tests.harness.audit.ledger_server import LedgerServer

TRADES = [trade(n) for n in range(1000, 1200)]
HOUR_US = 3_600_000_000


@pytest.fixture
def server() -> Iterator[LedgerServer]:
    with LedgerServer({SYMBOL: list(TRADES)}, page=50) as running:
        yield running


@pytest.fixture
def rest(server: LedgerServer) -> RestLedger:
    ledger = RestLedger(server.url, sleep=lambda _: None)
    ledger.lag_seconds = 0.0
    return ledger


def test_a_complete_history_passes(rest: RestLedger) -> None:
    outcome = audit(rest, TRADES)
    assert (outcome.verdict, outcome.totals.committed, outcome.totals.unjudged) == ("PASS", 200, 0)


@pytest.mark.parametrize("kept", [1, 20, 199])
def test_a_history_that_begins_later_than_the_topic_is_no_evidence(
    server: LedgerServer, rest: RestLedger, kept: int
) -> None:
    server.kept = kept
    outcome = audit(rest, TRADES)
    assert (outcome.verdict, outcome.totals.unjudged, outcome.totals.altered) == ("INCONCLUSIVE", 200 - kept, 0)
    assert "begins later" in outcome.reason
    server.kept = None
    assert audit(RestLedger(server.url), TRADES).verdict == "PASS"


@pytest.mark.parametrize("lag", [1, 2, 150])
def test_a_history_that_is_late_is_no_evidence(server: LedgerServer, rest: RestLedger, lag: int) -> None:
    server.lag = lag
    outcome = audit(rest, TRADES)
    assert (outcome.verdict, outcome.totals.unjudged, outcome.totals.altered) == ("INCONCLUSIVE", lag, 0)


def test_a_symbol_that_the_exchange_no_longer_lists_is_not_judged(server: LedgerServer, rest: RestLedger) -> None:
    server.books = {"ETHUSDT": [trade(1)]}
    outcome = audit(rest, TRADES)
    assert (outcome.verdict, outcome.totals.unjudged, outcome.totals.unknown) == ("INCONCLUSIVE", 200, 0)


def test_what_the_simulator_has_forgotten_is_not_judged(server: LedgerServer) -> None:
    server.books[SYMBOL], server.forgotten = TRADES[15:30], True
    outcome = audit(SimulatorLedger(server.url), TRADES[:30])
    assert (outcome.verdict, outcome.totals.unjudged, outcome.totals.unknown) == ("INCONCLUSIVE", 15, 0)
    server.forgotten = False
    assert audit(SimulatorLedger(server.url), TRADES[:30]).totals.unknown == 15


def test_trades_from_before_a_new_listing_are_not_judged_and_the_new_ones_are_an_id_reset(
    server: LedgerServer,
) -> None:
    server.books[SYMBOL] = [replace(trade(5000 + n), trade_id=1 + n) for n in range(30)]
    server.former = [(1000, 1199)]
    outcome = audit(SimulatorLedger(server.url), TRADES[:20])
    assert (outcome.verdict, outcome.totals.unjudged, outcome.totals.id_reset) == ("FAIL", 20, 30)


def test_a_symbol_that_the_simulator_never_had_is_unknown(server: LedgerServer) -> None:
    server.books = {"ETHUSDT": [trade(1)]}
    outcome = audit(SimulatorLedger(server.url), TRADES)
    assert (outcome.verdict, outcome.totals.unknown) == ("FAIL", 200)


@pytest.mark.parametrize("holes", [1, 2])
def test_a_hole_in_a_reply_or_two_is_no_evidence(server: LedgerServer, rest: RestLedger, holes: int) -> None:
    server.holes = holes
    outcome = audit(rest, TRADES)
    assert outcome.verdict == "PASS", outcome.reason


def test_a_void_over_a_trade_is_false_although_one_reply_lacks_it(server: LedgerServer, rest: RestLedger) -> None:
    lost = range(1070, 1130)
    kept = [one for one in TRADES if one.trade_id not in lost]
    claims = [position(SYMBOL, 1000, 1199, len(kept)), void(SYMBOL, lost[0], lost[-1])]
    for holes in (0, 1):
        server.holes = holes
        outcome = audit(rest, kept, positions=claims)
        assert (outcome.verdict, outcome.totals.missing, outcome.totals.false_void) == ("FAIL", 60, 60)


def test_an_invented_trade_is_unknown_although_history_may_have_holes(rest: RestLedger, server: LedgerServer) -> None:
    server.books[SYMBOL] = [one for one in TRADES if one.trade_id != 1100]
    outcome = audit(rest, TRADES)
    assert (outcome.verdict, outcome.totals.unknown, outcome.totals.altered) == ("FAIL", 1, 1)


def test_a_void_before_the_history_cannot_be_judged(server: LedgerServer, rest: RestLedger) -> None:
    server.books[SYMBOL] = TRADES[150:]
    claims = [position(SYMBOL, 1000, 1199, 50), void(SYMBOL, 1000, 1149)]
    outcome = audit(rest, TRADES[150:], positions=claims)
    assert (outcome.verdict, outcome.totals.unjudged, outcome.totals.voids) == ("INCONCLUSIVE", 150, 0)


@pytest.mark.parametrize("refused", [400, 403, 404, 451])
def test_no_refusal_of_the_exchange_is_a_verdict(server: LedgerServer, rest: RestLedger, refused: int) -> None:
    server.refusal = (refused, {"code": -1000, "msg": "no"})
    outcome = audit(rest, TRADES)
    assert outcome.verdict == "INCONCLUSIVE"
    assert str(refused) in outcome.reason


NOW_US = TRADES[-1].time_us + 10 * HOUR_US


INGESTED: dict[str, tuple[Any, str]] = {
    "live": (lambda one: one["timestamp"] + 40_000, "PASS"),
    "clocks differ": (lambda one: one["timestamp"] - 1_000_000, "PASS"),
    "from history": (lambda one: one["timestamp"] + HOUR_US, "PASS"),
    "1970": (lambda _: 0, "FAIL"),
    "milliseconds": (lambda one: one["timestamp"] // 1000, "FAIL"),
    "an hour before the trade": (lambda one: one["timestamp"] - HOUR_US, "FAIL"),
    "an hour after the record": (lambda _: NOW_US + HOUR_US, "FAIL"),
    "nanoseconds": (lambda one: one["timestamp"] * 1000, "FAIL"),
    "none": (lambda _: None, "FAIL"),
}


@pytest.mark.parametrize("name", INGESTED)
def test_the_ingestion_time_lies_between_the_trade_and_the_record(server: LedgerServer, name: str) -> None:
    ingested, verdict = INGESTED[name]

    def change(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, "ingestion_timestamp": ingested(fields)} if fields["source_sequence"] == 1100 else fields

    outcome = audit(SimulatorLedger(server.url), TRADES, change=change, written_us=NOW_US)
    assert outcome.verdict == verdict, outcome.reason
    assert outcome.totals.altered == (verdict == "FAIL")
    if verdict == "FAIL":
        assert [one.field for one in outcome.violations] == ["ingestion_timestamp"]


DELIVERED: dict[str, tuple[Any, str]] = {
    "from history": (lambda _: None, "PASS"),
    "live": (lambda one: one["timestamp"] + 20_000, "PASS"),
    "an hour before the trade": (lambda one: one["timestamp"] - HOUR_US, "FAIL"),
    "an hour after the ingestion": (lambda one: one["ingestion_timestamp"] + HOUR_US, "FAIL"),
    "milliseconds": (lambda one: one["timestamp"] // 1000, "FAIL"),
    "a text": (lambda _: "yesterday", "FAIL"),
}


@pytest.mark.parametrize("field", ["event_timestamp", "receive_timestamp"])
@pytest.mark.parametrize("name", DELIVERED)
def test_the_times_of_the_delivery_lie_between_the_trade_and_the_ingestion(
    server: LedgerServer, name: str, field: str
) -> None:
    delivered, verdict = DELIVERED[name]

    def change(fields: dict[str, Any]) -> dict[str, Any]:
        return {**fields, field: delivered(fields)} if fields["source_sequence"] == 1100 else fields

    outcome = audit(SimulatorLedger(server.url), TRADES, change=change, written_us=NOW_US)
    assert outcome.verdict == verdict, outcome.reason
    if verdict == "FAIL":
        assert [one.field for one in outcome.violations] == [field]


def test_a_record_may_not_be_from_the_future_of_the_audit(server: LedgerServer) -> None:
    late = {"ingestion_timestamp": NOW_US + HOUR_US}
    change = lambda fields: {**fields, **late}  # noqa: E731
    ledger = SimulatorLedger(server.url)
    written = NOW_US + HOUR_US
    assert audit(ledger, TRADES, change=change, written_us=written, now_us=lambda: NOW_US).totals.altered == 200
    tolerant = audit(
        ledger, TRADES, change=change, written_us=written, now_us=lambda: NOW_US, clock_tolerance_seconds=2 * 3600
    )
    assert tolerant.verdict == "PASS"


@pytest.mark.parametrize("kind", [RestLedger, SimulatorLedger])
def test_the_currency_is_that_of_exchange_info_and_not_of_a_suffix(kind: Any) -> None:
    symbol, base, quote = "ETHDAI", "ETH", "DAI"  # by suffix: ETHD and AI

    class Listed(LedgerServer):
        def answer(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
            status, body = super().answer(path, query)
            if path == "/api/v3/exchangeInfo":
                body["symbols"][0] |= {"baseAsset": base, "quoteAsset": quote}
            elif path == "/admin/state":
                body["symbols"][symbol] |= {"base_asset": base, "quote_asset": quote}
            return status, body

    def of(base: str, quote: str) -> Any:
        def change(fields: dict[str, Any]) -> dict[str, Any]:
            vendor = {"base_asset": base, "quote_asset": quote}
            message_id = f"BINANCE-{symbol}-{fields['source_sequence']}"
            return {**fields, "symbol": symbol, "message_id": message_id, "currency": quote, "vendor_data": vendor}

        return change

    with Listed({symbol: list(TRADES)}, page=50) as server:
        claims = [position(symbol, 1000, 1199, 200)]
        right = audit(kind(server.url), TRADES, positions=claims, change=of(base, quote))
        assert right.verdict == "PASS", right.reason
        wrong = audit(kind(server.url), TRADES, positions=claims, change=of("ETHD", "AI"))
        assert (wrong.verdict, wrong.totals.altered) == ("FAIL", 200)


def test_a_currency_that_the_exchange_does_not_name_is_not_judged(server: LedgerServer) -> None:
    class Silent(LedgerServer):
        def _state(self, symbol: str) -> dict[str, Any]:
            return {**super()._state(symbol), "base_asset": None}

    with Silent({SYMBOL: list(TRADES)}, page=50) as silent:
        outcome = audit(SimulatorLedger(silent.url), TRADES)
    assert outcome.verdict == "INCONCLUSIVE"
    assert "currency was not judged" in outcome.reason


@pytest.mark.parametrize("distance", [343, 100_000, 500_000])
@pytest.mark.parametrize("kind", [RestLedger, SimulatorLedger])
def test_ids_that_begin_again_are_seen_however_near(kind: Any, distance: int) -> None:
    before = [trade(10**6 + n) for n in range(200)]
    again = [replace(trade(10**6 + 200 + n), trade_id=10**6 - distance + n) for n in range(40)]
    with LedgerServer({SYMBOL: [*again, *before]}, page=50) as server:
        server.newest = again[-1]
        outcome = audit(kind(server.url), before)
    assert (outcome.verdict, outcome.totals.id_reset) == ("FAIL", 40), outcome.reason
    assert "id reset" in outcome.reason


def test_a_topic_that_is_behind_is_no_id_reset(rest: RestLedger) -> None:
    assert audit(rest, TRADES[:120]).verdict == "PASS"


def stated(shards: int) -> Entry:
    value = json.dumps({"generation": 1, "shards": shards, "v": 1})
    return Entry(b"writer", value.encode(), 0, 1)


@pytest.mark.parametrize("writer", [True, False], ids=["stated by the writer", "seen"])
def test_more_partitions_than_shards_are_no_fault(server: LedgerServer, writer: bool) -> None:
    claims = [position(SYMBOL, 1000, 1199, 200, partition=0), *([stated(1)] if writer else [])]
    assert zlib.crc32(SYMBOL.encode()) % 4 != 0, "else the number of partitions agrees, too"
    outcome = audit(SimulatorLedger(server.url), TRADES, positions=claims, partitions=4)
    assert outcome.verdict == "PASS", outcome.reason


def test_a_number_of_shards_that_nothing_shows_is_inconclusive_and_says_what_to_pass(server: LedgerServer) -> None:
    claims = [position(SYMBOL, 1000, 1199, 200, partition=2)]
    outcome = audit(SimulatorLedger(server.url), TRADES, positions=claims, partitions=4)
    assert (outcome.verdict, outcome.totals.position) == ("INCONCLUSIVE", 0)
    assert "pass --shards N (K2_SHARD_COUNT)" in outcome.reason
    outcome = audit(SimulatorLedger(server.url), TRADES, positions=claims, partitions=4, shards=4)
    assert outcome.verdict == "FAIL"


@pytest.mark.parametrize(("partition", "verdict"), [(None, "PASS"), (1, "FAIL"), (2, "FAIL")])
def test_a_position_is_in_the_partition_of_its_shard(server: LedgerServer, partition: int | None, verdict: str) -> None:
    claims = [position(SYMBOL, 1000, 1199, 200, shards=3, partition=partition), stated(3)]
    outcome = audit(SimulatorLedger(server.url), TRADES, positions=claims, partitions=3)
    assert outcome.verdict == verdict
    if verdict == "FAIL":
        assert [(one.kind, one.field) for one in outcome.violations] == [("position", "partition")]


def test_a_topic_without_positions_is_judged(server: LedgerServer) -> None:
    ledger = SimulatorLedger(server.url)
    for options in ({"positions_exist": False}, {"without_positions": True}):
        clean = audit(ledger, TRADES, **options)  # type: ignore[arg-type]
        assert clean.verdict == ("PASS" if "without_positions" in options else "INCONCLUSIVE"), clean.reason
        assert clean.totals.committed == 200
        lost = audit(ledger, [one for one in TRADES if one.trade_id != 1100], **options)  # type: ignore[arg-type]
        assert (lost.verdict, lost.totals.missing) == ("FAIL", 1)
        twice = audit(ledger, [*TRADES, TRADES[7]], **options)  # type: ignore[arg-type]
        assert (twice.verdict, twice.totals.duplicated) == ("FAIL", 1)


def test_ids_that_nobody_used_need_no_void_where_no_positions_were_read(server: LedgerServer) -> None:
    server.books[SYMBOL] = [one for one in TRADES if one.trade_id != 1100]
    outcome = audit(SimulatorLedger(server.url), server.books[SYMBOL], without_positions=True)
    assert (outcome.verdict, outcome.totals.voids) == ("PASS", 1)


def test_a_tombstone_ends_a_position(server: LedgerServer) -> None:
    claims = [position(SYMBOL, 1000, 1199, 200), position(SYMBOL, 1000, 1199, 200)._replace(value_=None)]
    outcome = audit(SimulatorLedger(server.url), TRADES, positions=claims)
    assert (outcome.verdict, outcome.totals.position) == ("FAIL", 1)


def test_the_wording_of_what_is_not_judged(server: LedgerServer, rest: RestLedger) -> None:
    server.kept = 20
    text = as_text(audit(rest, TRADES))
    assert "180 records or ids are not within the ledger's history; not judged" in text
    books = SimulatorLedger(server.url)
    text = as_text(audit(books, TRADES[100:]))
    assert "100 trades predate the recording; not judged" in text


def test_control_characters_of_a_record_do_not_reach_the_terminal(server: LedgerServer) -> None:
    change = lambda fields: {**fields, "side": "\x1b[2J\r\nPASS: all is well\x9b"}  # noqa: E731
    text = as_text(audit(SimulatorLedger(server.url), TRADES[:3], change=change))
    assert "\x1b" not in text
    assert "\x9b" not in text
    assert "\nPASS" not in text
    assert "\\x1b[2J\\r\\nPASS: all is well\\x9b" in text


@pytest.mark.parametrize(("behind", "verdict", "missing"), [(0, "PASS", 0), (7, "FAIL", 7)])
def test_the_topic_may_lag_behind_the_head_for_as_long_as_it_settles(
    rest: RestLedger, behind: int, verdict: str, missing: int
) -> None:
    waits: list[float] = []
    outcome = audit(
        rest,
        TRADES[: len(TRADES) - behind],
        later=20,
        expect_to_head=True,
        settle_seconds=5.0,
        sleep=waits.append,
    )
    assert (outcome.verdict, outcome.totals.missing, waits) == (verdict, missing, [5.0])


@pytest.mark.parametrize(("also_in", "verdict"), [((), "PASS"), ((1,), "FAIL")])
def test_the_stored_number_of_shards_counts_and_an_old_copy_elsewhere_is_a_fault(
    server: LedgerServer, also_in: tuple[int, ...], verdict: str
) -> None:
    stored = b'{"version":2,"state":"stable","shards":2,"partitions":6,"by":"x","since_us":1,"v":1}'
    layouts = [Entry(b"layout", stored, partition, 0) for partition in range(6)]
    shard = zlib.crc32(SYMBOL.encode()) % 2
    claims = [
        position(SYMBOL, 1000, 1199, 200, shards=6, partition=one) for one in (shard, *(1 - shard for _ in also_in))
    ]
    outcome = audit(SimulatorLedger(server.url), TRADES, positions=[*claims, *layouts], partitions=6)
    assert outcome.verdict == verdict, outcome.reason
    assert [(one.kind, one.field) for one in outcome.violations] == [("position", "partition")] * len(also_in)


def without_schema(monkeypatch: pytest.MonkeyPatch, last_id: int) -> None:
    """The registry has lost the schema of the records up to this id."""
    decode = Records.decode

    def lost(records: Records, value: bytes) -> dict[str, Any]:
        found = decode(records, value)
        if found["source_sequence"] <= last_id:
            raise SchemaMissing("schema id 7 is not in the registry")
        return found

    monkeypatch.setattr(Records, "decode", lost)


def test_records_whose_schema_the_registry_has_lost_are_no_evidence(
    server: LedgerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_schema(monkeypatch, 1099)
    outcome = audit(SimulatorLedger(server.url), TRADES)
    assert (outcome.verdict, outcome.totals.missing, outcome.totals.altered) == ("INCONCLUSIVE", 0, 0)
    assert "schema id 7 is not in the registry: records of 1 symbols cannot be read" in outcome.reason
    assert outcome.totals.unjudged == 200  # the first, and all that follow


def test_what_was_proved_before_a_lost_schema_stays_wrong(
    server: LedgerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    trades = [TRADES[1], TRADES[1], TRADES[0]]
    without_schema(monkeypatch, 1000)
    outcome = audit(SimulatorLedger(server.url), trades)
    assert (outcome.verdict, outcome.totals.duplicated) == ("FAIL", 1)
