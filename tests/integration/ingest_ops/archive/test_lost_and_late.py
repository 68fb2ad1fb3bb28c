"""A topic that no longer holds the day, and clocks that are wrong: never a PASS that is none, never a day with less."""

from dataclasses import replace
from datetime import timedelta

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from ingest.reader.placing import partition_of
from ingest_ops.archive.day import archive_day
from ingest_ops.common.verdict import Verdict
from tests.harness.archive import DAY_US, GeneratedMarket, midnight, table_rows
from tests.harness.archive_world import DAY, NEXT, World
from tests.integration.ingest_ops.archive.conftest import MakeWorld
from tests.integration.ingest_ops.archive.test_day import codes, small

pytestmark = pytest.mark.integration
HOUR_US = 3_600_000_000


def forget(world: World, records: int) -> None:
    """What retention does: the first records of the symbol's partition are gone."""
    admin = AdminClient({"bootstrap.servers": world.published.bootstrap_servers})
    place = partition_of(b"ETHUSDT", world.published.partitions)
    for one in admin.delete_records([TopicPartition(world.published.topic, place, records)]).values():
        one.result(30)


def test_a_topic_that_no_longer_holds_the_day(make_world: MakeWorld) -> None:
    """With an archived day it stays as it is; without one the verdict names symbol and ids."""
    world = make_world(prepare=small)
    first = world.run().certificate
    assert first.verdict is Verdict.PASS
    forget(world, 150)
    later = world.run()
    assert (later.certificate.verdict, later.changed, later.certified) == (Verdict.INCONCLUSIVE, False, False)
    assert world.archive().current(DAY) == first
    assert table_rows(world.archive(), DAY) == world.truth()
    assert world.faults() == []
    aside = replace(world, settings=replace(world.settings, warehouse=world.settings.warehouse + "-aside"))
    certificate = aside.run().certificate
    assert certificate.verdict is Verdict.INCONCLUSIVE
    (entry,) = certificate.symbols
    (finding,) = [one for one in entry.findings if one.code != "void"]
    assert (finding.code, finding.first_id) == ("start_not_shown", 1150)
    assert finding.detail.endswith("ids from 1000 to 1149 were recorded and are gone")


def test_records_that_were_written_with_a_clock_two_hours_behind(make_world: MakeWorld) -> None:
    def behind(values: list[tuple[str, bytes, int]]) -> list[tuple[str, bytes, int]]:
        return [(symbol, value, time_ms - 7_200_000) for symbol, value, time_ms in values]

    world = make_world(behind, prepare=_every_ten_minutes, files_url="")
    assert world.run().certificate.verdict is Verdict.INCONCLUSIVE
    (entry,) = world.run().certificate.symbols
    assert [one.code for one in entry.findings] == ["start_not_shown"]
    assert "K2_ARCHIVE_EARLY_SECONDS" in entry.findings[0].detail
    world.run(DAY - timedelta(days=1), early_seconds=3 * 3600.0)
    with_chain = world.run().certificate.symbols[0]
    assert {one.code for one in with_chain.findings} == {"missing", "start_not_shown"}
    assert world.run(early_seconds=3 * 3600.0).certificate.verdict is Verdict.PASS
    world.assert_equals_truth()


def _every_ten_minutes(market: GeneratedMarket) -> None:
    market.listed("ETHUSDT", 1000)
    for number in range(3 * 144):
        market.trade("ETHUSDT", midnight(DAY) - DAY_US + number * 600_000_000)
    market.now_us = midnight(NEXT + timedelta(days=1))


def test_a_clock_that_is_a_day_ahead(make_world: MakeWorld) -> None:
    """At noon of the day the archive's machine takes it for finished: the writer's own record says otherwise."""

    def at_noon(market: GeneratedMarket) -> None:
        market.listed("ETHUSDT", 1000)
        market.fill("ETHUSDT", DAY - timedelta(days=1), 10)
        for number in range(100):
            market.trade("ETHUSDT", midnight(DAY) + number)
        market.now_us = midnight(DAY) + 12 * HOUR_US

    world = make_world(prepare=at_noon, files_url="")
    certificate = archive_day(world.settings, DAY, midnight(NEXT) + HOUR_US).certificate
    assert certificate.verdict is Verdict.INCONCLUSIVE
    assert [one for one, _, _ in codes(world, "ETHUSDT")] == ["end_not_shown"]
