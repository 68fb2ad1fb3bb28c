"""Labels that come from outside are bounded."""

from ingest.metrics import Metrics


def test_symbols_beyond_the_bound_share_a_label() -> None:
    metrics = Metrics(process=False, max_symbols=3)
    labels = [metrics.symbol_label(f"S{number}USDT") for number in range(10)]
    assert labels == ["S0USDT", "S1USDT", "S2USDT", *["other"] * 7]
    assert metrics.symbol_label("S9USDT") == "other"
    found = {
        sample.labels["symbol"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if "symbol" in sample.labels
    }
    assert found == {"S0USDT", "S1USDT", "S2USDT", "other"}
