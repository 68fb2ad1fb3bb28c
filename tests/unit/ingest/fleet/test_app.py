"""``K2_SHARD_INDEX=auto``: what is allowed with it, and what it is for."""

import signal
from collections.abc import Mapping

import pytest

from ingest.core.errors import BadSettings, Retry
from ingest.fleet import app
from ingest.fleet.app import Signals, shards_with_symbols
from ingest.fleet.members import View, own_member
from ingest.settings import declared, load

AUTO = {"K2_SHARD_INDEX": "auto", "K2_SHARD_COUNT": "6"}


def test_a_number_is_a_number_as_before() -> None:
    assert load({"K2_SHARD_INDEX": "3", "K2_SHARD_COUNT": "4"}).shard == 3
    assert load({}).shard == 0


def test_auto_is_a_shard_for_no_part_of_the_service() -> None:
    settings = load(AUTO)
    assert settings.service.shard_index == "auto"
    for ask in (lambda: settings.shard, lambda: settings.transactional_id):
        with pytest.raises(BadSettings, match="allowed here is the number of one shard"):
            ask()
    assert settings.of_shard(4).shard == 4


@pytest.mark.parametrize("value", ["Auto", "autox", "-1", "1.5", "all"])
def test_other_words_are_refused_with_what_is_allowed(value: str) -> None:
    with pytest.raises(BadSettings, match=r"allowed is a whole number, at least 0 or 'auto'"):
        load({"K2_SHARD_INDEX": value})


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"K2_KAFKA_DELIVERY": "at-least-once"}, "K2_KAFKA_DELIVERY=exactly-once"),
        ({"K2_START_MODE": "standby"}, "K2_START_MODE=auto"),
        ({"K2_INSTANCE_ID": "i" * 59}, "58 characters"),
        ({"K2_STANDBY_WARM": "2"}, "at most 1"),
        ({"K2_FLEET_SESSION_TIMEOUT_SECONDS": "5"}, "at least 6"),
    ],
)
def test_what_contradicts_a_fleet_is_refused(environment: Mapping[str, str], words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        load({**AUTO, **environment})


def test_the_group_is_named_after_the_ids_and_the_topic() -> None:
    assert load(AUTO).fleet_group == "k2-ingest-market.crypto.trades.binance-fleet"
    assert load({**AUTO, "K2_FLEET_GROUP": "g"}).fleet_group == "g"


def test_the_list_of_settings_names_both_kinds() -> None:
    (found,) = [one for one in declared() if one.name == "K2_SHARD_INDEX"]
    assert found.allowed == "a whole number, at least 0 or 'auto'"


def test_signals_are_counted_and_nothing_else() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        signals = Signals()
        for expected, number in enumerate((signal.SIGTERM, signal.SIGINT, signal.SIGTERM), 1):
            signal.raise_signal(number)
            assert signals.came == expected
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_shard_without_symbols_needs_no_writer() -> None:
    assert shards_with_symbols(load({**AUTO, "K2_BINANCE_SYMBOLS": "*"})) == set(range(6))
    assert len(shards_with_symbols(load({**AUTO, "K2_BINANCE_SYMBOLS": "BTCUSDT"}))) == 1


def test_an_earlier_start_is_waited_for_anew_when_kafka_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new coordinator begins the time-outs of its sessions anew."""
    settings = load(AUTO)
    own = own_member(settings, host="h", version="v", nonce="n")
    before = own_member(settings, host="h", version="v", nonce="before")
    answers: list[View | Retry] = [
        View(0.0, stable=True, members=(before,)),
        Retry("Kafka is away", after=0.01),
        View(1000.0, stable=True, members=(before,)),
        View(1001.0, stable=True),
    ]

    class Viewer:
        def __init__(self, _: object) -> None:
            pass

        def partitions(self) -> int:
            return 6

        def view(self) -> View:
            answer = answers.pop(0)
            if isinstance(answer, Retry):
                raise answer
            return answer

    monkeypatch.setattr(app, "GroupViewer", Viewer)
    assert isinstance(app._admitted(settings, own, Signals()), Viewer)
    assert answers == []
