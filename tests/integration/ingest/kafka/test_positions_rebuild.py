"""Positions rebuilt from the trades topic: verified, fenced, never guessed."""

import argparse
from contextlib import nullcontext

import pytest
from confluent_kafka import Producer

from ingest.core.batch import Batch
from ingest.core.errors import Stop
from ingest.core.trade import Position, Void
from ingest.kafka import topics
from ingest.kafka.encoding import avro_text
from ingest.kafka.events import Committed
from ingest.kafka.last_records import Found, LastRecords
from ingest.kafka.positions_reader import PositionsReader
from ingest.kafka.positions_rebuild import Finding, Outcome, Recorded, judge, rebuild, run, verify, writes
from ingest.settings import Settings
from tests.integration.ingest.kafka.test_last_records import encoded
from tests.integration.ingest.kafka.writing import DRAIN, Instance, Make


def recorded(*ids: int) -> Recorded:
    one = Recorded(ids[0])
    for trade_id in ids[1:]:
        one.add(trade_id)
    return one


@pytest.mark.parametrize(
    ("parts", "voids", "position"),
    [
        ([recorded(1, 2, 3)], {}, Position(1, 3, 3)),
        ([recorded(1, 2, 5)], {3: 4}, Position(1, 5, 3)),
        ([recorded(1, 2, 5)], {3: 3, 4: 4}, Position(1, 5, 3)),
        ([recorded(1, 2)], {3: 4, 5: 9}, Position(1, 9, 2)),
        ([recorded(3, 4), recorded(1, 2)], {}, Position(1, 4, 4)),
        ([recorded(5, 6), recorded(1, 2)], {3: 4}, Position(1, 6, 4)),
        ([recorded(7)], {1: 6, 9: 9}, Position(7, 7, 1)),
    ],
)
def test_continuous_records_prove_a_position(parts: list[Recorded], voids: dict[int, int], position: Position) -> None:
    assert verify(parts, voids) == position


@pytest.mark.parametrize(
    ("parts", "voids", "reason"),
    [
        ([recorded(1, 2, 5)], {}, "trades 3 to 4 are missing"),
        ([recorded(1, 2, 5)], {3: 3}, "trades 4 to 4 are missing"),
        ([recorded(1, 2, 5)], {3: 5}, "are missing"),
        ([recorded(1, 2, 5)], {2: 4}, "trades 3 to 4 are missing"),
        ([recorded(1, 2, 2)], {}, "trade 2 comes after 2"),
        ([recorded(1, 3, 2)], {2: 2}, "trade 2 comes after 3"),
        ([recorded(1, 2), recorded(2, 3)], {}, "trade 2 is in two partitions"),
        ([recorded(1, 2), recorded(5, 6)], {}, "trades 3 to 4 are missing"),
    ],
)
def test_anything_else_proves_none(parts: list[Recorded], voids: dict[int, int], reason: str) -> None:
    result = verify(parts, voids)
    assert isinstance(result, str)
    assert reason in result


def found(symbol: str, outcome: Outcome) -> Finding:
    return Finding(symbol, outcome, Position(1, 5, 5), None if outcome == "unverified" else Position(1, 7, 7))


@pytest.mark.parametrize(
    ("outcomes", "replace", "refused"),
    [
        (["restored", "differs"], False, "corrected with --replace: S1"),
        (["restored", "differs"], True, None),
        (["differs"], True, None),
        (["unverified", "differs"], False, "not verified, nothing is written for them: S0; .*--replace: S1"),
        (["unverified", "differs"], True, "not verified, nothing is written for them: S0$"),
        (["same", "no records", "restored"], False, None),
    ],
)
def test_each_symbol_is_judged_by_itself(outcomes: list[Outcome], *, replace: bool, refused: str | None) -> None:
    findings = [found(f"S{number}", outcome) for number, outcome in enumerate(outcomes)]
    expected = nullcontext() if refused is None else pytest.raises(Stop, match=refused)
    with expected:
        judge(findings, writes(findings, replace=replace))


def state_of(settings: Settings) -> dict[str, Position]:
    reader = PositionsReader(settings)
    try:
        return reader.read().positions
    finally:
        reader.close()


def everything(symbol: str) -> bool:
    return bool(symbol)


def lose(settings: Settings, symbol: str) -> None:
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    producer.produce(settings.positions_topic, None, f"position:{symbol}".encode(), 0)
    assert producer.flush(60) == 0


@pytest.fixture
def written(kafka: str, make: Make) -> Instance:
    """A writer that has written ten trades with a void among them, and has ended."""
    blue = make(kafka, "blue")
    took = blue.take_over()
    batch = Batch(
        records=[("BTCUSDT", n, encoded("BTCUSDT", n)) for n in (1, 2, 3, 6, 7)],
        voids=[Void("BTCUSDT", 4, 5, "exchange_hole", {})],
    )
    blue.writer.write(took.session, batch)
    blue.expect(Committed)
    blue.writer.close(DRAIN)
    return blue


@pytest.mark.integration
def test_a_lost_position_is_restored_and_the_writer_continues(kafka: str, make: Make, written: Instance) -> None:
    settings = written.settings
    before = state_of(settings)
    lose(settings, "BTCUSDT")
    assert state_of(settings) == {}
    planned = rebuild(settings, everything, replace=False, dry_run=True)
    assert [(one.symbol, one.outcome) for one in planned] == [("BTCUSDT", "restored")]
    assert state_of(settings) == {}
    rebuild(settings, everything, replace=False, dry_run=False)
    assert state_of(settings) == before == {"BTCUSDT": Position(1, 7, 5)}
    green = make(kafka, "green")
    took = green.take_over()
    assert took.generation == 3
    green.writer.write(took.session, Batch(records=[("BTCUSDT", 8, encoded("BTCUSDT", 8))]))
    green.expect(Committed)
    assert state_of(settings) == {"BTCUSDT": Position(1, 8, 6)}


@pytest.mark.integration
def test_a_forged_position_is_reported_and_replaced_only_on_request(
    written: Instance, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = written.settings
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    forged = b'{"first_id":1,"last_id":5000,"count":5000,"v":1}'
    producer.produce(settings.positions_topic, forged, b"position:BTCUSDT", 0)
    assert producer.flush(60) == 0
    options = argparse.Namespace(action="rebuild", dry_run=False, replace=False, json=False)
    with pytest.raises(Stop, match="corrected with --replace: BTCUSDT"):
        run(settings, options, everything)
    assert "stored 5000, recorded 7" in capsys.readouterr().out
    assert state_of(settings) == {"BTCUSDT": Position(1, 5000, 5000)}
    tried = argparse.Namespace(action="rebuild", dry_run=True, replace=True, json=False)
    assert run(settings, tried, everything) == 0
    assert state_of(settings) == {"BTCUSDT": Position(1, 5000, 5000)}
    assert run(settings, argparse.Namespace(action="rebuild", dry_run=False, replace=True, json=True), everything) == 0
    assert state_of(settings) == {"BTCUSDT": Position(1, 7, 5)}
    assert run(settings, argparse.Namespace(action="show", json=False), everything) == 0
    assert "1 to 7, 5 trades" in capsys.readouterr().out


@pytest.mark.integration
def test_positions_of_other_numbered_streams_are_restored_and_their_records_found(kafka: str, make: Make) -> None:
    blue = make(kafka, "blue", K2_BINANCE_STREAMS="trade,aggTrade,kline_1m,kline_1M")
    topics.create(blue.settings, partitions=2, replication_factor=1)
    took = blue.take_over()
    identities = {"aggTrade": "agg", "kline_1m": "kline_1m", "kline_1M": "kline_1M"}
    records = [
        (f"{stream}:BTCUSDT", number, stream_record(f"BINANCE-BTCUSDT-{kind}-{number}"))
        for stream, kind in identities.items()
        for number in (4, 5)
    ]
    blue.writer.write(took.session, Batch(records=records))
    blue.expect(Committed)
    blue.writer.close(DRAIN)
    before = state_of(blue.settings)
    assert before == {f"{stream}:BTCUSDT": Position(4, 5, 2) for stream in identities}
    for stream in identities:
        lose(blue.settings, f"{stream}:BTCUSDT")
    rebuild(blue.settings, everything, replace=False, dry_run=False)
    assert state_of(blue.settings) == before
    for one in blue.settings.streams:
        search = LastRecords(blue.settings, one)
        assert search.find(frozenset({"BTCUSDT", "ETHUSDT"})) == Found({"BTCUSDT": 5})
    assert LastRecords(blue.settings).find(frozenset({"BTCUSDT"})) == Found({})


def stream_record(identity: str) -> bytes:
    """As Avro begins it: the schema's id, and the identity as the first field."""
    return b"\0\0\0\0\1" + avro_text(identity)


@pytest.mark.integration
def test_a_gap_is_not_guessed(written: Instance) -> None:
    settings = written.settings
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    producer.produce(settings.kafka.topic, encoded("BTCUSDT", 9), b"BTCUSDT")
    assert producer.flush(60) == 0
    lose(settings, "BTCUSDT")
    options = argparse.Namespace(action="rebuild", dry_run=False, replace=True, json=False)
    with pytest.raises(Stop, match="not verified"):
        run(settings, options, everything)
    assert state_of(settings) == {}


@pytest.mark.integration
def test_a_first_generation_over_records_is_an_error(
    kafka: str, make: Make, written: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    lost = make(kafka, "green", K2_KAFKA_POSITIONS_TOPIC=f"{written.settings.kafka.topic}.other")
    topics.create(lost.settings, partitions=2, replication_factor=1)
    assert lost.take_over().generation == 1
    lost.writer.close(DRAIN)
    assert "generation 1, but the trades topic has records" in caplog.text


@pytest.mark.integration
def test_a_forged_newer_writer_stops_a_take_over_until_a_rebuild_replaces_it(
    kafka: str, make: Make, written: Instance
) -> None:
    settings = written.settings
    before = state_of(settings)
    producer = Producer({"bootstrap.servers": settings.kafka.bootstrap_servers})
    producer.produce(settings.positions_topic, b'{"v":99}', b"position:BTCUSDT", 0)
    producer.produce(settings.positions_topic, b'{"v":99}', b"writer", 0)
    assert producer.flush(60) == 0
    assert state_of(settings) == before, "a stranger's"
    producer.produce(settings.positions_topic, b'{"v":99,"generation":2000}', b"writer", 0)
    assert producer.flush(60) == 0
    for attempt in (lambda: state_of(settings), lambda: rebuild(settings, everything, replace=False, dry_run=False)):
        with pytest.raises(Stop, match=r"format 99.*rebuild --replace"):
            attempt()
    rebuild(settings, everything, replace=True, dry_run=False)
    assert state_of(settings) == before
    assert make(kafka, "green").take_over().generation == 2002
