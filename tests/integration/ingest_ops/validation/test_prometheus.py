"""Eight days in a real Prometheus: the report's numbers are those of the events they were made from."""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ingest_ops.__main__ import main
from ingest_ops.validation import report_json
from tests.harness.production_week import FIRST, EightDays, LoadedPrometheus, eventful
from tests.harness.prometheus import PrometheusUnavailable
from tests.harness.validation_demo import evidence

STEP = 30.0
END = FIRST + timedelta(days=7)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedPrometheus]:
    server = LoadedPrometheus(tmp_path_factory.mktemp("prometheus"), eventful(step=STEP))
    try:
        server.load()
        server.start()
    except PrometheusUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def reported(week: LoadedPrometheus, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report on the last seven days, and the one on the first, by the command."""
    reports = tmp_path_factory.mktemp("reports")
    evidence(week.world, reports)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K2_REPORT_SCRAPE_SECONDS", str(STEP))
        options = ["report", "--prometheus", week.url, "--reports", str(reports)]
        # The first day is kept before the week is judged: what a symbol had on it is expected of the others.
        assert main([*options, "--end", str(FIRST), "--days", "1"]) == 0, "the first day was calm"
        code = main([*options, "--end", str(END)])
    data: dict[str, Any] = json.loads((reports / "validation" / f"{END}-7d.json").read_text())
    jsonschema.Draft202012Validator(report_json.schema()).validate(data)
    return data | {"code": code, "reports": reports}


def values(data: dict[str, Any], check: str) -> list[float | None]:
    found = next(one for one in data["checks"] if one["id"] == check)
    return [day["value"] for day in found["days"]]


def verdicts(data: dict[str, Any], check: str) -> str:
    found = next(one for one in data["checks"] if one["id"] == check)
    return "".join(day["verdict"][0] for day in found["days"])


def truth(world: EightDays, name: str) -> list[int]:
    """What the events say of the last seven days."""
    return world.expected()[name][1:]


@pytest.mark.parametrize(
    ("check", "name"),
    [("reconnects", "reconnects"), ("rotations", "rotations"), ("pongs", "pongs"), ("restarts", "restarts")],
)
def test_counts_are_those_of_the_events(
    week: LoadedPrometheus, reported: dict[str, Any], check: str, name: str
) -> None:
    """With resets, a counter that comes back at its old value, a hand-over, missing hours and a day without data."""
    found = values(reported, check)
    assert [0 if value is None else value for value in found] == truth(week.world, name)
    assert found[2] is None, "nobody scraped on the third day: no number, not a nought"


def test_figures_are_those_of_the_events(week: LoadedPrometheus, reported: dict[str, Any]) -> None:
    figures = [day["figures"] or {"handovers": 0, "rotations": {}} for day in reported["days"]]
    assert reported["days"][2] == {"date": "2026-01-17", "data": False, "why": "nothing was scraped", "figures": None}
    assert [one["handovers"] for one in figures] == truth(week.world, "handovers")
    assert [one["rotations"].get("scheduled", 0) for one in figures] == truth(week.world, "scheduled")


def test_prometheus_own_functions_would_have_told_something_else(week: LoadedPrometheus) -> None:
    """Why raw samples are counted: the reconnect of the fifth day was its child's first increment."""
    end = week.world.origin + 5 * 86_400
    (raised,) = week.query('sum(increase(binance_reconnects_total{reason="closed_by_exchange",slot="green"}[1d]))', end)
    assert isinstance(raised["value"], list)
    assert float(raised["value"][1]) == 0.0
    assert week.world.expected()["reconnects"][4] == 1


def test_the_verdicts_are_the_ones_that_the_events_deserve(reported: dict[str, Any]) -> None:
    """P, F, I for each day: a crash, a hand-over, nothing, a reconnect, three hours missing, a bad evening, calm."""
    assert reported["code"] == 1
    assert {
        check: verdicts(reported, check) for check in ("reconnects", "restarts", "alerts", "freshness", "rate.worst")
    } == {
        # Green's children are not there before their first increment: on the second day nothing is known of them.
        "reconnects": "FIIFIPP",
        "restarts": "FPIPIPP",
        "alerts": "PPIPIFP",
        "freshness": "PPIPIFP",
        "rate.worst": "PPIPIFP",
    }
    assert verdicts(reported, "audit.lost") == "PPPPPPP"
    assert verdicts(reported, "memory.max") == "PPIPIPP"


def test_every_mutant_of_the_real_input_is_caught(reported: dict[str, Any]) -> None:
    assert reported["self_check"]["survived"] == []
    assert reported["self_check"]["caught"] == reported["self_check"]["mutants"]


def test_holes_and_hand_overs_are_on_the_time_line(week: LoadedPrometheus, reported: dict[str, Any]) -> None:
    assert [gap["start"][:10] for gap in reported["gaps"]] == ["2026-01-17", "2026-01-19"]
    assert 10_800 <= reported["gaps"][1]["seconds"] <= 10_800 + 2 * STEP
    assert [alert["name"] for alert in reported["alerts"]] == ["NoWriter"]
    assert len(reported["deployments"]) == 1


def test_symbols_are_counted_by_day(week: LoadedPrometheus, reported: dict[str, Any]) -> None:
    world = week.world
    green = world.processes[-1]
    scrapes = world.of(green)
    day = 7
    inside = scrapes[(scrapes >= day * 86_400) & (scrapes < (day + 1) * 86_400)]
    before = scrapes[scrapes < day * 86_400][-1:]
    shares = {at: (world.received(green, when) // (at + 2)) for at in (0, 1) for when in [inside[-1:]]}
    since = {at: (world.received(green, before) // (at + 2)) for at in (0, 1)}
    for at in (0, 1):
        assert reported["symbols"][f"SYM{at}USDT"]["received"][6] == int((shares[at] - since[at])[0])


def test_stored_days_are_judged_without_prometheus(week: LoadedPrometheus, reported: dict[str, Any]) -> None:
    reports: Path = reported["reports"]
    path = reports / "validation" / f"{END}-7d.json"
    before = json.loads(path.read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("K2_REPORT_SCRAPE_SECONDS", str(STEP))
        code = main(["report", "--stored", "--prometheus", week.url, "--reports", str(reports), "--end", str(END)])
    again = json.loads(path.read_text())
    assert code == 1
    assert again | {"generated_at": ""} == before | {"generated_at": ""}
