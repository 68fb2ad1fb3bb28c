"""The benchmark's own parts: a yardstick that is wrong measures nothing."""

import itertools
import json
import math
from collections import defaultdict
from typing import Any

from ingest.binance.messages import decode
from ingest.core.trade import Trade
from ingest.kafka.encoding import TradeEncoder
from tests.bench import run
from tests.bench.frames import NOW_US, Market, assets, payloads, symbols
from tests.bench.lab import trade_time
from tests.bench.plain import convert


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


def test_the_report_has_the_keys_that_others_rely_on_and_survives_missing_parts() -> None:
    row = {"cpu_us_per_trade": 5.0, "rss_bytes": 50e6, "cpu_us_min": 4.0, "cpu_us_max": 6.0}
    names = [f"{client}{tls}" for client in ("plain", "websockets", "picows") for tls in ("", " tls")]
    results: dict[str, Any] = {
        "saturation": {name: {**row, "cpu_us_per_trade": 50.0} if "plain" in name else row for name in names},
        "machine": {"cores": 2, "python": "3.11", "load_before": 0.0},
        "failed": {"latency": "not all trades arrive"},
        "generated_at": "2026-01-01T00:00:00Z",
    }
    results["summary"] = run.summary(results)
    assert set(results["summary"]) >= {
        "speedup_vs_plain", "cpu_us_per_trade", "trades_per_second_core", "latency_ms_p50", "latency_ms_p99",
        "rss_bytes",
    }  # fmt: skip
    assert results["summary"]["speedup_vs_plain"] == 10.0
    assert results["summary"]["trades_per_second_core"] == 200_000
    assert run.page(results, "make bench").verdict is None


def test_a_quantile_of_nothing_is_not_a_number() -> None:
    assert math.isnan(run.quantile([], 0.5))
    assert run.quantile([1.0, 2.0, 3.0], 0.5) == 2.0
    assert run.quantile([1.0, 2.0, 3.0], 0.999) == 3.0
