import json
from pathlib import Path
from typing import Any

import pytest

import ingest.kafka
from ingest.core.streams import INTERVALS_US, STREAMS, Stream, bar_number, bars, split_name

SCHEMAS: dict[str, Any] = {
    schema["name"]: schema
    for schema in (json.loads(path.read_text()) for path in Path(ingest.kafka.__file__).parent.glob("*.avsc"))
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=list(STREAMS))
def test_every_declaration_is_whole(stream: Stream) -> None:
    assert stream.record in SCHEMAS
    assert len(stream.number) == (2 if stream.contract == "chained" else 1)
    assert (stream.repair is not None) == (stream.contract == "numbered")
    assert (stream.snapshot is not None) == (stream.contract == "chained")
    assert split_name(stream.sequence_name("BTCUSDT")) == (stream.name, "BTCUSDT")


def test_names_of_sequences_never_meet() -> None:
    names = {stream.sequence_name(symbol) for stream in STREAMS.values() for symbol in ("BTCUSDT", "ETHBTC")}
    assert len(names) == 2 * len(STREAMS)


def test_every_record_states_when_it_was_sent_and_read() -> None:
    for name in {stream.record for stream in STREAMS.values()}:
        fields = {field["name"]: field for field in SCHEMAS[name]["fields"]}
        for time in ("event_timestamp", "receive_timestamp"):
            assert fields[time]["type"][0] == "null"
            assert fields[time]["default"] is None


@pytest.mark.parametrize("interval", [name for name, stride in INTERVALS_US.items() if stride])
def test_bars_that_follow_each_other_have_numbers_that_do(interval: str) -> None:
    stride, monday = INTERVALS_US[interval], 1_704_067_200_000_000  # 2024-01-01 was a Monday
    numbers = [bar_number(stride, 2024, 1, monday + n * stride) for n in range(4)]
    assert numbers == list(range(numbers[0], numbers[0] + 4))


def test_months_are_counted_over_the_end_of_a_year() -> None:
    assert [bar_number(0, year, month, 0) for year, month in ((1970, 1), (2023, 12), (2024, 1))] == [0, 647, 648]


def test_an_interval_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError):
        bars("7m")
