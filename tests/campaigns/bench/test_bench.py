"""The benchmark's own parts: a yardstick that is wrong measures nothing."""

import itertools
import json
import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest.binance.history import WEIGHT_TRADES, parse_page
from ingest.binance.messages import decode
from ingest.core.trade import Trade
from ingest.kafka.encoding import TradeEncoder
from tests.campaigns.bench import cases
from tests.campaigns.bench.cases import PLAIN, STOCK, SYMBOLS, Bench, quantile, scaling
from tests.campaigns.bench.clients import CRYPTOFEED_PYTHON, MockBrokerProcess, cryptofeeds
from tests.campaigns.bench.frames import NOW_US, AggregatedMarket, Market, assets, payloads, symbols
from tests.campaigns.bench.latencies import trade_time
from tests.campaigns.bench.page import SECTIONS, page, summary
from tests.campaigns.bench.past import Past
from tests.campaigns.bench.plain import convert
from tests.harness.registry import Registry


def test_the_market_is_contiguous_per_symbol_and_understood_by_the_service() -> None:
    ids = defaultdict(list)
    for payload in payloads(symbols(7), 20_000):
        trade = decode(payload)
        assert isinstance(trade, Trade)
        ids[trade.symbol].append(trade.trade_id)
    assert len(ids) == 7
    assert all(after == before + 1 for seen in ids.values() for before, after in itertools.pairwise(seen))


def test_two_takes_of_the_market_continue_each_other() -> None:
    whole, parted = Market(symbols(3)), Market(symbols(3))
    assert whole.take(50, NOW_US) == parted.take(20, NOW_US) + parted.take(30, NOW_US)


def test_the_plain_path_states_the_same_facts_as_the_service() -> None:
    [payload] = payloads(symbols(1), 1)
    record = convert(json.loads(payload)["data"])
    trade = decode(payload)
    assert isinstance(trade, Trade)
    assert (record["symbol"], record["source_sequence"]) == (trade.symbol, trade.trade_id)
    assert (str(record["price"]), str(record["quantity"])) == (trade.price, trade.quantity)
    assert record["vendor_data"] == {"base_asset": "BTC", "quote_asset": "USDT"}


def test_the_age_of_a_record_is_read_from_its_bytes() -> None:
    encoder = TradeEncoder(1, assets(symbols(10)))
    for payload in payloads(symbols(10), 10):
        trade = decode(payload)
        assert isinstance(trade, Trade)
        assert trade_time(encoder.encode(trade, NOW_US)) == NOW_US


def test_what_is_skipped_can_be_read_as_history_and_the_market_goes_on_behind_it() -> None:
    market, past, whole = Market(symbols(3)), Past(), Market(symbols(3))
    past.keep(market.skip(6000, NOW_US))
    sent = [decode(frame[4:]) for _, frame in whole.take(6000, NOW_US)]
    for index, name in enumerate(symbols(3)):
        wanted = [trade.stated() for trade in sent if isinstance(trade, Trade) and trade.symbol == name]
        read: list[Trade] = []
        while page := parse_page(name, past.page(index, wanted[0].trade_id + len(read), 1000)).trades:
            read += page
        assert read == wanted
    assert past.trades == 6000
    assert market.take(10, NOW_US) == whole.take(10, NOW_US)


def test_history_behind_and_before_what_was_skipped() -> None:
    market, past = Market(symbols(1)), Past()
    past.keep(market.skip(1500, NOW_US))
    first = market.next_ids[0] - 1500
    assert [t.trade_id for t in parse_page("BTCUSDT", past.page(0, first - 9, 2)).trades] == [first, first + 1]
    assert past.page(0, first + 1500, 1000) == b"[]"
    assert (past.pages, past.trades) == (2, 2)


def test_cryptofeed_is_sent_the_same_trades_as_aggregates() -> None:
    plain, aggregated = Market(symbols(5)).take(200, NOW_US), AggregatedMarket(symbols(5)).take(200, NOW_US)
    for (index, frame), (same, other) in zip(plain, aggregated, strict=True):
        trade, aggregate = json.loads(frame[4:]), json.loads(other[4:])
        assert index == same
        assert aggregate["stream"] == trade["stream"].replace("@trade", "@aggTrade")
        number = trade["data"].pop("t")
        assert aggregate["data"] == trade["data"] | {"e": "aggTrade", "a": number, "f": number, "l": number}


def _results() -> dict[str, Any]:
    """A whole run's, with figures that are easy to check."""
    row = {
        "cpu_us_per_trade": 5.0, "rss_bytes": 50e6, "cpu_us_min": 4.0, "cpu_us_max": 6.0, "positions_per_trade": 0.1,
        "trades_per_second": 1000.0, "arrived_per_second": 900.0, "seconds": 1.0, "pong_ms_max": 7.0,
        "pongs_missing": 0.0, "source_late_ms": 0.0, "runs": 3, "rate": 5000.0, "latency_ms_p50": 50.0,
        "latency_ms_p99": 90.0, "latency_ms_p99_9": 95.0,
    }  # fmt: skip
    names = [f"{client}{tls}" for client in ("plain", "websockets", "picows") for tls in ("", " tls")]
    names += ["plain, mock broker", "websockets, mock broker", "websockets, not compiled"]
    return {
        "saturation": {name: {**row, "cpu_us_per_trade": 50.0} if "plain" in name else row for name in names},
        "latency": [{"case": "websockets, commits each 100 ms", **row}],
        "burst": {**row, "complete": True, "trades": 50_000},
        "sustained": {"websockets": row},
        "variants": {f"{count} symbols": {**row, "cpu_us_per_trade": 5.0 + count / 1500} for count in SYMBOLS}
        | {"A/B pair": row, "two shards": {**row, "cpu_us_per_trade": 6.4}},
        "catch_up": {
            **row, "missed": 200_000, "seconds_from_start": 3.0, "pages": 200.0, "trades_per_page": 1000.0,
            "weight": 5000.0, "budget_trades_per_second": 4000.0, "core_share_at_full_budget": 0.02,
        },
        "start_and_idle": {"start_to_commit_s_at_most": 0.9, "idle_cpu_share": 0.01},
        "instructions": {"instructions": {"decode": 6500}, "compiled": {"decode": 6400}},
        "machine": {"cores": 2, "python": "3.11", "load_before": 0.0},
        "failed": {},
        "generated_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip


def test_the_report_has_the_keys_that_others_rely_on() -> None:
    results = _results()
    results["summary"] = found = summary(results)
    assert set(found) >= {
        "speedup_vs_plain", "cpu_us_per_trade", "trades_per_second_core", "latency_ms_p50", "latency_ms_p99",
        "rss_bytes", "speedup_vs_cryptofeed", "speedup_vs_plain_mock_broker",
    }  # fmt: skip
    assert found["speedup_vs_plain"] == found["speedup_vs_plain_mock_broker"] == 10.0
    assert found["trades_per_second_core"] == 200_000
    assert found["speedup_vs_cryptofeed"] is None
    assert found["cost_spread_1_to_1500_symbols"] == pytest.approx(6.0 / (5.0 + 1 / 1500) - 1)
    assert found["catch_up_core_share_at_full_budget"] == 0.02
    drawn = page(results, "make bench")
    assert drawn.verdict is None
    assert [section.title for section in drawn.sections] == [title for _, title, _ in SECTIONS]


def test_cryptofeed_counts_where_it_was_measured_and_the_fastest_version_counts() -> None:
    results = _results()
    plain = results["saturation"]["plain"]
    for version, cost in (("2.4.1", 200.0), ("3.0.1", 20.0)):
        results["saturation"][f"cryptofeed {version}"] = {**plain, "cpu_us_per_trade": cost}
    results["summary"] = summary(results)
    assert results["summary"]["speedup_vs_cryptofeed"] == 4.0
    assert results["summary"]["speedup_vs_cryptofeed_by_version"] == {"2.4.1": 40.0, "3.0.1": 4.0}
    assert "4.0 times less than cryptofeed 3.0.1" in page(results, "make bench").summary


def test_the_report_survives_missing_parts_and_names_them() -> None:
    results = _results()
    results = {key: results[key] for key in ("saturation", "machine", "generated_at")}
    results["failed"] = {"latency": "not all trades arrive"}
    results["summary"] = summary(results)
    assert results["summary"]["burst_complete"] is None
    drawn = page(results, "make bench")
    assert len(drawn.sections) == 1
    assert list(drawn.reasons) == ["latency: not all trades arrive"]


def test_scaling_is_stated_as_measured_only_where_each_shard_had_a_core(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {
        "500 symbols": {"cpu_us_per_trade": 5.0, "arrived_per_second": 100.0},
        "two shards": {"cpu_us_per_trade": 6.0, "arrived_per_second": 180.0},
    }
    monkeypatch.setattr(cases, "SCALES", False)
    assert scaling(rows)["two_shards_carry"] is None
    monkeypatch.setattr(cases, "SCALES", True)
    assert scaling(rows)["two_shards_carry"] == pytest.approx(1.8)
    assert scaling(rows)["cost_of_two_shards"] == pytest.approx(1.2)


def test_interpreters_that_have_cryptofeed_are_found_and_others_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, code in {"cryptofeed-a": "echo 10.0.1", "cryptofeed-b": "echo 2.4.1", "cryptofeed-c": "exit 1"}.items():
        python = tmp_path / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{code}\n")
        python.chmod(0o755)
        (tmp_path / name / ".complete").touch()
    monkeypatch.delenv(CRYPTOFEED_PYTHON, raising=False)
    a, b = (str(tmp_path / f"cryptofeed-{letter}" / "bin" / "python") for letter in "ab")
    assert list(cryptofeeds(tmp_path).items()) == [("2.4.1", b), ("10.0.1", a)]
    monkeypatch.setenv(CRYPTOFEED_PYTHON, f"{a},/no/such/python")
    assert cryptofeeds(tmp_path) == {"10.0.1": a}
    monkeypatch.setenv(CRYPTOFEED_PYTHON, "")
    assert cryptofeeds(tmp_path) == {}


def test_a_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(quantile([], 0.5))
    assert quantile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert quantile([1.0, 2.0, 3.0], 0.999) == 3.0


def _nothing(_: str) -> None:
    pass


@pytest.fixture
def bench(tmp_path: Path, kafka: str, schema_registry: Registry) -> Iterator[Bench]:
    with MockBrokerProcess(tmp_path) as mock:
        brokers = {"kafka": kafka, "mock": mock.bootstrap_servers}
        yield Bench(tmp_path, brokers, schema_registry, seconds=0.1)


@pytest.mark.integration
def test_service_and_plain_path_run_whole_on_the_mock_broker(bench: Bench) -> None:
    for case in (PLAIN, STOCK):
        found = bench.saturate(replace(case, broker="mock", symbols=20))
        assert found["cpu_us_per_trade"] > 0
        assert found["rss_bytes"] > 0


@pytest.mark.integration
def test_a_short_catch_up_and_a_small_burst(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "ROUNDS", 1)
    monkeypatch.setattr(cases, "BURST", 3000)
    caught = cases.catch_up(bench, _nothing)
    assert caught["missed"] == 2000
    assert caught["pages"] * caught["trades_per_page"] >= 1999.5
    assert caught["weight"] >= caught["pages"] * WEIGHT_TRADES
    found = cases.burst(bench, _nothing)
    assert found["complete"]
    assert found["pongs_missing"] == 0
    assert found["pong_ms_max"] > 0


@pytest.mark.integration
def test_positions_are_counted_over_all_shards(bench: Bench) -> None:
    found = bench.saturate(replace(STOCK, symbols=10, shards=2), positions=True)
    assert 10 / 2000 <= found["positions_per_trade"] <= 1
