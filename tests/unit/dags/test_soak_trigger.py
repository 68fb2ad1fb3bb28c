"""The wait in Airflow: what the form may hold, how a trigger is made again, and that it never fires too early."""

import asyncio
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ingest_ops.airflow.waiting import announce
from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.soak import job as jobs
from ingest_ops.soak.job import BadParams, Job
from ingest_ops.soak.plan import SOAK_1H
from ingest_ops.soak.record import Record, State
from tests.unit.ingest_ops.soak.books import START, Clock, ScrapedSource, sample

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module", autouse=True)
def trigger() -> Any:
    """Imported late: Airflow's own warnings are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ingest_ops.airflow import soak_trigger as trigger
    return trigger


def settings(folder: Path) -> ReportSettings:
    return ReportSettings.load({"K2_REPORT_REPORTS": str(folder), "K2_REPORT_SELECTOR": 'slot="blue"'})


def job(folder: Path, *, begun_by: str = "manual", **params: Any) -> Job:
    form = {"plan": "1h", "selector": "", "previous_selector": None, "trial_seconds": None, **params}
    return Job.of(form, settings(folder), run_id="soak-test", started=START, trigger=begun_by)


def test_the_form_becomes_a_job_and_travels_as_plain_values(tmp_path: Path) -> None:
    made = job(tmp_path, trial_seconds=120)
    assert Job(**made.as_json()) == made
    assert (made.selector, made.parsed.run_seconds, made.parsed.trial) == ('slot="blue"', 120.0, True)
    assert job(tmp_path, selector='slot="green"').selector == 'slot="green"'
    assert made.record == tmp_path / "soak" / "records" / "soak-test.json"


@pytest.mark.parametrize("params", [{"plan": "2h"}, {"secods": 5}])
def test_what_no_soak_understands_is_refused(tmp_path: Path, params: dict[str, Any]) -> None:
    with pytest.raises(BadParams):
        job(tmp_path, **params)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(jobs, "clock", clock)
    return clock


@pytest.fixture
def no_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with httpx2.Client(trust_env=False) as client:
        monkeypatch.setattr(jobs, "client_for", lambda _: client)
        yield


class Sleeps:
    """Stands for asyncio.sleep: moves the clock and remembers."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.clock.sleep(seconds)


class Asyncio:
    """The trigger's asyncio, with another sleep."""

    def __init__(self, sleep: Sleeps) -> None:
        self.sleep = sleep
        self.to_thread = asyncio.to_thread

    @staticmethod
    def get_running_loop() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()


@pytest.fixture
def sleeps(clock: Clock, no_client: None, trigger: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sleeps:
    del no_client
    monkeypatch.setenv("K2_REPORT_REPORTS", str(tmp_path))
    sleeps = Sleeps(clock)
    monkeypatch.setattr(trigger, "asyncio", Asyncio(sleeps))
    return sleeps


def use(monkeypatch: pytest.MonkeyPatch, source: ScrapedSource) -> None:
    monkeypatch.setattr(jobs, "PrometheusSource", lambda *_args, **_kwargs: source)


async def fired(made: Any) -> dict[str, Any]:
    events = [event async for event in made.run()]
    assert len(events) == 1
    payload: dict[str, Any] = events[0].payload
    return payload


async def test_it_fires_once_when_the_soak_is_over(
    tmp_path: Path, clock: Clock, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch, trigger: Any
) -> None:
    use(monkeypatch, ScrapedSource(clock))
    payload = await fired(trigger.SoakTrigger(job(tmp_path).as_json()))
    assert payload == {"state": "finished", "reason": "", "samples": 61}
    assert max(sleeps.slept) <= 60.0


async def test_it_never_fires_within_ten_seconds_of_its_start(
    tmp_path: Path, clock: Clock, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch, trigger: Any
) -> None:
    use(monkeypatch, ScrapedSource(clock, lambda seconds: sample(START + seconds, seconds, rss=500.0)))
    clock.sleep(30)
    payload = await fired(trigger.SoakTrigger(job(tmp_path).as_json()))
    assert payload["state"] == "aborted"
    assert "above the limit of 400 MB" in payload["reason"]
    assert sum(sleeps.slept) >= 10.0


async def test_another_triggerer_goes_on_with_nothing_but_the_start(
    tmp_path: Path, clock: Clock, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch, trigger: Any
) -> None:
    del sleeps
    use(monkeypatch, ScrapedSource(clock))
    path, kwargs = trigger.SoakTrigger(job(tmp_path).as_json()).serialize()
    assert path == "ingest_ops.airflow.soak_trigger.SoakTrigger"
    clock.sleep(1800)
    first = trigger.SoakTrigger(**kwargs)
    first._look()
    job(tmp_path).record.unlink()  # its disk went with it
    payload = await fired(trigger.SoakTrigger(**kwargs))
    assert payload["samples"] == 61
    record = Record.load(job(tmp_path).record)
    assert record is not None
    assert (record.state, record.plan) == (State.FINISHED, SOAK_1H)


async def test_a_cancelled_trigger_leaves_a_record_that_can_be_read(
    tmp_path: Path, clock: Clock, no_client: None, monkeypatch: pytest.MonkeyPatch, trigger: Any
) -> None:
    del no_client
    monkeypatch.setenv("K2_REPORT_REPORTS", str(tmp_path))
    use(monkeypatch, ScrapedSource(clock))
    made = trigger.SoakTrigger(job(tmp_path).as_json())
    async with asyncio.timeout(30):
        task = asyncio.get_running_loop().create_task(fired(made))
        while not job(tmp_path).record.exists():  # noqa: ASYNC110 - a file is no event
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert Record.load(job(tmp_path).record) is not None


@pytest.mark.parametrize(("begun_by", "ends"), [("asset_triggered", True), ("scheduled", False), ("manual", False)])
async def test_a_soak_that_follows_a_deployment_makes_way_for_the_next_one(
    tmp_path: Path, clock: Clock, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch, trigger: Any, begun_by: str,
    ends: bool,
) -> None:  # fmt: skip
    use(monkeypatch, ScrapedSource(clock))
    announce(tmp_path, "an-earlier-one", START - 10)
    clock.sleep(600)
    made = trigger.SoakTrigger(job(tmp_path, begun_by=begun_by).as_json())
    assert made._look()[0] is State.RUNNING, "what waited before it began has had its turn"
    announce(tmp_path, "deploy-7", START + 700)
    clock.sleep(200)
    payload = await fired(made)
    assert (payload["state"] == "aborted") is ends
    assert ("ended for deploy-7" in payload["reason"]) is ends
    del sleeps
