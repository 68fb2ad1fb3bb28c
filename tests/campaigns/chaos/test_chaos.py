"""A short run of the chaos runner on the real processes."""

from collections import Counter

import pytest

from tests.campaigns.chaos import report
from tests.campaigns.chaos.environment import SharedParts
from tests.campaigns.chaos.faults import FAULTS
from tests.campaigns.chaos.runner import Injected, Outcome, play, schedule


def test_a_schedule_is_the_seed_s_alone() -> None:
    assert schedule(5, 100, 60.0) == schedule(5, 100, 60.0)
    assert schedule(5, 100, 60.0) != schedule(6, 100, 60.0)
    assert {step.name for step in schedule(5, 200, 60.0)} == {fault.name for fault in FAULTS}


def test_a_long_run_has_its_share_of_each_kind() -> None:
    names = [step.name for step in schedule(1, 2000, 60.0, least=30)]
    assert all(names.count(fault.name) >= 30 for fault in FAULTS)


def test_a_crash_alone_and_one_while_kafka_is_away_are_told_apart() -> None:
    def injected(
        name: str, struck: float, recovery: float, *, ended: float | None = None, wrote: bool, alone: bool = False
    ) -> Injected:
        return Injected(struck, name, {}, struck, ended is not None, ended, recovery, wrote, alone)

    outcome = Outcome(
        seed=1, seconds=60.0, audit={"totals": Counter[str]()}, audit_code=0, exits=[], codes={}, settled=True, rss=0,
        rest_weight=0, rest_429=0, injected=[
            injected("kill", 5.0, 0.4, wrote=True),
            injected("broker_frozen", 10.0, 1.0, ended=12.0, wrote=False),
            injected("kill", 11.0, 2.5, wrote=True),
            injected("kill", 20.0, 0.1, wrote=False),
            injected("kill", 50.0, 0.3, wrote=True, alone=True),
        ],
    )  # fmt: skip
    figures = report.summary(outcome)
    assert (figures["faults"], figures["crashes"]) == (4, 1)
    assert figures["crash_to_first_commit_s"]["max"] == 0.3
    assert figures["crash_to_first_commit_beside_other_faults_s"]["max"] == 2.5
    assert {name: kind["injected"] for name, kind in report.by_kind(outcome).items()} == {
        "broker_frozen": 1, "kill, the standby": 1, "kill, the writer": 1, "kill, the writer, while Kafka is away": 1,
        "kill, the writer, alone": 1,
    }  # fmt: skip


def test_a_percentile_is_shown_of_as_many_values_as_it_needs() -> None:
    assert report.spread([float(one) for one in range(99)])["p99"] is None
    assert report.spread([float(one) for one in range(101)]) == {"p50": 50.0, "p99": 99.0, "max": 100.0}


def test_recoveries_are_dots_by_the_part_that_was_struck() -> None:
    injected = [
        Injected(at, name, {}, at, False, None, recovery, False, False)
        for at, name, recovery in ((9.0, "kill", 0.5), (1.0, "broker_killed", 2.0), (4.0, "freeze_short", None))
    ]
    chart = report.recoveries(injected)
    assert {series.name: list(series.points) for series in chart.series} == {
        "broker, 1": [(1.0, 2.0)], "service, 1": [(9.0, 0.5)],
    }  # fmt: skip
    assert {series.style for series in chart.series} == {"dots"}


@pytest.mark.integration
@pytest.mark.timeout(2400)
def test_a_hundred_faults(shared: SharedParts) -> None:
    outcome = play(
        shared, "suite", schedule(1, 100, 75.0), seed=1, simulator=["--symbols", "20", "--rate", "500"], crashes=2
    )
    assert outcome.problems == []
    assert report.summary(outcome)["crashes"] == 2
    assert len(outcome.injected) >= 75
    assert report.summary(outcome)["lost"] == 0
