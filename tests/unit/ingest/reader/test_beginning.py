"""What a reader is given, checked before it connects; and positions that are none."""

from collections.abc import Mapping
from typing import Any

import pytest

from ingest.reader import Reader, ReaderError, Start


def refusal(**options: Any) -> str:
    with pytest.raises(ReaderError) as refused:
        Reader("trades", bootstrap_servers="127.0.0.1:9", **options)
    return str(refused.value)


def test_names_of_symbols_that_no_topic_has_are_refused() -> None:
    assert refusal(symbols=["ETHUSDT", "btcusdt"]) == (
        "symbol 'btcusdt': names of symbols are in upper case: 'BTCUSDT'"
    )
    assert refusal(start=Start.at_id({"btcusdt": 4711})).startswith("symbol 'btcusdt': ")
    assert refusal(symbols="BTCUSDT") == "symbols are 'BTCUSDT': expected a list of names, e.g. ['BTCUSDT']"


def test_names_beyond_ascii_are_taken() -> None:
    Reader("trades", bootstrap_servers="127.0.0.1:9", symbols=["币安人生USDT", "BTCUSDT"]).close()


def test_another_word_for_on_error_is_refused() -> None:
    assert refusal(on_error="ignore") == 'on_error \'ignore\': expected "raise" or "skip"'


def test_a_position_of_another_topic_is_refused() -> None:
    position = {"topic": "market.crypto.books.binance", "offsets": {"0": 5}, "next_ids": {}}
    assert refusal(start=Start.at_position(position)).startswith(
        "the position is of topic market.crypto.books.binance, not of market.crypto.trades.binance: "
    )


@pytest.mark.parametrize(
    "position",
    [
        {"offsets": {"0": -1}, "next_ids": {}}, {"offsets": {"0": 1e300}, "next_ids": {}},
        {"offsets": {"0": 2**70}, "next_ids": {}}, {"offsets": {"0": True}, "next_ids": {}},
        {"offsets": {"0": 1}, "next_ids": {"A": -1}}, {"offsets": {"0": 1}},
        {"topic": 7, "offsets": {}, "next_ids": {}},
    ],
)  # fmt: skip
def test_what_no_reader_states_is_no_position(position: Mapping[str, object]) -> None:
    with pytest.raises(ReaderError, match=r"^not a position of a reader: "):
        Start.at_position(position)
