"""Deployments during which one part is killed at step after step, what became of them, and the report of it."""

import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ingest_ops.airflow.deployment_tasks import deployment_name
from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.state_machine import TERMINAL, State
from ingest_ops.render import Code, Column, Fact, Facts, Page, Section, Table, Text, envelope, write_report
from ingest_ops.render.model import Cell
from tests.campaigns.deployment.airflow_environment import CONF, DAG, LIMIT, AirflowEnvironment
from tests.harness.processes import ROOT

FOLDER = ROOT / "reports" / "deployments"
COMMAND = "make deploy-airflow"
NOT_OVER = "it was not followed to its end"
DOWN_SECONDS = 1.0
"""Until an orchestrator starts again what has died."""
LOOK_SECONDS = 0.005
LOOK_AT_BUILD_SECONDS = 0.0005
"""There is nothing to build for processes: the state is over within five milliseconds."""

STEPS: dict[State, str] = {
    State.PLAN: "opened, not begun",
    State.BUILD: "build",
    State.STANDBY: "start green",
    State.SHADOW: "watch",
    State.APPROVAL: "approval",
    State.HANDOVER: "cut over",
    State.VALIDATE: "validate",
    State.RETIRE: "retire blue",
    State.DONE: "report",
    State.ABORTING: "undo before the cut-over",
    State.ROLLING_BACK: "roll back",
}
"""The states at which something is killed, and what people call them."""


REQUIRED = ("scheduler", "triggerer", "agent")
BEFORE_THE_ANSWER = (State.PLAN, State.BUILD, State.STANDBY, State.SHADOW, State.APPROVAL)
OTHER = {"blue": "green", "green": "blue"}
AT_WORK = ("queued", "running", "deferred", "awaiting_input", "up_for_retry", "up_for_reschedule")
"""States of a task of which Airflow has to remember something."""


@dataclass(frozen=True)
class Part:
    """Something that can be killed. ``works``: whether it does what it is for, since a moment (seconds since 1970)."""

    name: str
    kill: Callable[[], None]
    start: Callable[[], None]
    works: Callable[[float], bool]


def parts(site: AirflowEnvironment) -> dict[str, Part]:
    """The three parts of issue 6, and the scheduler once more, as a bare machine loses it: its tasks live on."""
    airflow, agent = site.airflow, site.field

    def component(name: str, process: str, *, tasks: bool) -> Part:
        return Part(
            name,
            kill=lambda: airflow.kill(process, tasks=tasks),
            start=lambda: airflow.start(process),
            works=lambda since: airflow.heartbeat(process) > since,
        )

    made = (
        component("scheduler", "scheduler", tasks=True),
        component("scheduler, not its tasks", "scheduler", tasks=False),
        component("triggerer", "triggerer", tasks=True),
        Part(
            "agent",
            kill=agent.agent_process.kill,
            start=lambda: (agent.agent_process.start(wait=False), None)[1],
            works=lambda _: agent.agent_answers(),
        ),
    )
    return {part.name: part for part in made}


@dataclass
class Kill:
    """One part, killed in one state."""

    deployment: str
    part: str
    step: str
    state: str
    at: float
    """Seconds since 1970."""
    tasks: list[str]
    """What ran or waited in Airflow just before."""
    state_after: str = ""
    """The journal's, once it was dead."""
    back_seconds: float | None = None
    """From the kill until the part, started again, works."""
    next: str = ""
    """The transition that followed."""
    next_seconds: float | None = None
    """From the kill until then; the rest of a window is in it."""
    end_seconds: float | None = None
    """From the kill until the deployment was over and its report written."""


@dataclass
class Outcome:
    """A deployment under fire."""

    name: str
    version: str
    part: str
    expected: str
    kills: list[Kill] = field(default_factory=list)
    state: str = ""
    run: str = ""
    """How the DAG run ended."""
    writers: list[str] = field(default_factory=list)
    audit: str = ""
    trail: str = ""
    stages: list[str] = field(default_factory=list)
    """The time line of the deployment's report."""
    seconds: float = 0.0
    roll_back_seconds: float | None = None
    tries: dict[str, int] = field(default_factory=dict)
    """Tries of each task that Airflow counted."""
    wrong: list[str] = field(default_factory=list)


def say(text: str) -> None:
    """Progress, also where the output is a file."""
    sys.stdout.write(f"  {datetime.fromtimestamp(time.time_ns() / 1e9, UTC):%H:%M:%S} {text}\n")
    sys.stdout.flush()


def deploy(
    site: AirflowEnvironment,
    part: Part,
    at: Sequence[State],
    *,
    version: str,
    expected: State,
    answer: str = "",
    trigger: Callable[[dict[str, Any]], str] | None = None,
) -> Outcome:
    """Deploy ``version``, kill ``part`` in each state of ``at``, give ``answer`` where a person is asked; the outcome.

    It is among ``site.outcomes`` from the beginning, also where it does not come to an end (``TimeoutError``).
    """
    (before,) = site.field.writers()
    began = time.monotonic()
    conf = CONF | {"version": version, "approval": bool(answer)}
    run = trigger(conf) if trigger is not None else site.airflow.trigger(DAG, conf)
    outcome = Outcome(deployment_name(DAG, run), version, part.name, str(expected), wrong=[NOT_OVER])
    site.outcomes.append(outcome)
    say(f"{outcome.name}: {version}, expected {expected}; {part.name} dies at {', '.join(STEPS[one] for one in at)}")
    try:
        with ThreadPoolExecutor(max_workers=1) as person:
            asked: Future[None] | None = None
            for state in at:
                if answer and state not in BEFORE_THE_ANSWER:
                    # Beside: a cut-over takes a tenth of a second, and comes while the answer is being looked after.
                    asked = person.submit(site.answer, run, answer)
                    answer = ""
                outcome.kills.append(_kill(site, part, run, state))
            if answer:
                asked = person.submit(site.answer, run, answer)
            if asked is not None:
                asked.result()
        outcome.run = site.end(run)
        outcome.seconds = round(time.monotonic() - began, 1)
        _judge(site, run, outcome, before if expected is not State.DONE else OTHER[before])
    except (TimeoutError, RuntimeError) as error:
        outcome.wrong.append(str(error).partition("\n")[0])
        raise
    finally:
        end = "; ".join(outcome.wrong) or "as expected"
        say(f"{outcome.name}: {site.state(run)} after {time.monotonic() - began:.0f} s; {end}")
        write(site.outcomes, site.others)  # what is known is kept, however the rest ends
    return outcome


def _kill(site: AirflowEnvironment, part: Part, run: str, state: State) -> Kill:
    """Wait for the state and kill the part in it; start it again, and wait until it works."""
    deadline = time.monotonic() + LIMIT
    while (now := site.state(run)) is not state:
        if now in TERMINAL or time.monotonic() > deadline:
            raise TimeoutError(f"{run} is {now}; {state} was to come")
        time.sleep(LOOK_AT_BUILD_SECONDS if state is State.BUILD else LOOK_SECONDS)
    if state is State.APPROVAL:
        site.airflow.wait(lambda: site.asked(run), "the question", seconds=LIMIT)
    if state in (State.SHADOW, State.VALIDATE):
        # Not at the seam, but while it is waited for without a worker.
        name = {State.SHADOW: "watch", State.VALIDATE: "validate"}[state]
        site.airflow.wait(lambda: site.task(run, name) == "deferred", f"the wait of {name}", seconds=LIMIT)
    at = time.time_ns() / 1e9
    part.kill()
    dead = time.monotonic()
    after = site.state(run)
    tasks = [f"{name} {one['state']}" for name, one in site.airflow.tasks(DAG, run).items() if one["state"] in AT_WORK]
    time.sleep(DOWN_SECONDS)
    started = time.time_ns() / 1e9
    part.start()
    while not part.works(started):
        if time.monotonic() - dead > LIMIT:
            raise TimeoutError(f"{part.name} does not come back")
        time.sleep(0.1)
    back = round(time.monotonic() - dead, 1)
    say(f"  {part.name} killed at {STEPS[state]} ({', '.join(tasks)}); back after {back:.1f} s")
    return Kill(
        deployment=deployment_name(DAG, run), part=part.name, step=STEPS[state], state=str(state), at=at, tasks=tasks,
        state_after=str(after), back_seconds=back,
    )  # fmt: skip


def _judge(site: AirflowEnvironment, run: str, outcome: Outcome, writer: str) -> None:
    """Everything that issue 6 asks for, into ``wrong`` where it is not so."""
    record = site.record(run)
    report = site.report(run)
    page = site.field.directory / "reports" / "deployments" / f"{outcome.name}.html"
    lines = report["trail"]["lines"]
    moves = [(line["at"], line["what"]) for line in lines if " -> " in line["what"]]
    outcome.state = str(record.state) if record is not None else "none"
    outcome.trail = report["trail"]["chain"]
    outcome.stages = [what for _, what in moves]
    outcome.tries = {name: one["try_number"] for name, one in site.airflow.tasks(DAG, run).items() if one["try_number"]}
    if report["state"] == State.ROLLED_BACK:
        outcome.roll_back_seconds = report["facts"]["roll_back_seconds"]
    written = (page.stat().st_mtime, "the report is written")
    for kill in outcome.kills:
        at, kill.next = next(((at, what) for at, what in (*moves, written) if at > kill.at), (kill.at, "nothing"))
        kill.next_seconds = round(at - kill.at, 1)
        kill.end_seconds = round(written[0] - kill.at, 1)
    try:
        site.only_writer(writer)
    except TimeoutError:
        outcome.wrong.append(f"{writer} is not the only writer")
    outcome.writers = site.field.writers()
    outcome.audit = site.audit()
    live = outcome.expected == State.DONE
    stopped = OTHER[writer]
    checks = {
        f"the state is {outcome.state}": outcome.state == outcome.expected == report["state"],
        f"the run is {outcome.run}": outcome.run == ("success" if live else "failed"),
        f"{stopped} runs on": not site.field.agent.status(stopped).running,
        f"the deployment's own audit: {report['facts']['audit']}": (report["facts"]["audit"] or {}).get("verdict")
        == "PASS",
        f"the audit afterwards: {outcome.audit}": outcome.audit == "PASS",
        f"the trail: {outcome.trail}": outcome.trail == "unbroken",
        f"the time line ends with {outcome.stages[-1:]}": outcome.stages[0].startswith("PLAN -> ")
        and outcome.stages[-1].endswith(f"-> {outcome.expected}"),
        "the page has no time line": "Time line" in page.read_text(encoding="utf-8"),
    }
    outcome.wrong += [what for what, good in checks.items() if not good]
    outcome.wrong.remove(NOT_OVER)


def missing(kills: Sequence[Kill]) -> list[str]:
    """What issue 6 asks for and nobody was killed at."""
    done = {(kill.part, kill.state) for kill in kills}
    return [f"{part} at {STEPS[state]}" for part in REQUIRED for state in STEPS if (part, state) not in done]


def write(
    outcomes: Sequence[Outcome], others: Sequence[tuple[str, Cell]], *, folder: Path = FOLDER, command: str = COMMAND
) -> Path:
    """Write ``kills.json`` and its page. ``others``: what else was shown, and the figure. Returns the JSON's path."""
    kills = [kill for outcome in outcomes for kill in outcome.kills]
    wrong = [f"{one.name}: {why}" for one in outcomes for why in one.wrong]
    lacking = [f"not shown: {what}" for what in missing(kills)]
    verdict = Verdict.FAIL if wrong else Verdict.INCONCLUSIVE if lacking else Verdict.PASS
    names = list(dict.fromkeys(kill.part for kill in kills))
    back = [kill.back_seconds for kill in kills if kill.back_seconds is not None]
    page = Page(
        kind="kills",
        title="Deployments whose scheduler, triggerer and agent are killed at every step",
        verdict=verdict,
        summary=f"{len(kills)} kills in {len(outcomes)} deployments: "
        f"{sum(not one.wrong for one in outcomes)} ended as they should, with one writer and a clean audit.",
        reasons=[*wrong, *lacking],
        sections=[
            Section("Kills by step and part", [_matrix(kills, names), Text(MEANING)]),
            Section("Deployments", [_deployments(outcomes)]),
            Section("Each kill", [_each(kills)]),
            Section("Also shown under this Airflow", [Facts([Fact(*one) for one in others])]),
        ],
        facts=[
            Fact("Made by", Code(command)),
            Fact("A part was back after, seconds", f"{min(back, default=0):.1f} to {max(back, default=0):.1f}"),
            Fact("Windows and limits", Code(f"{CONF}")),
            Fact("CPUs", os.cpu_count()),
        ],
        generated_at=datetime.fromtimestamp(time.time_ns() / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    data = envelope(page, run_id="kills", schema_version=1) | {
        "command": command,
        "deployments": [asdict(one) for one in outcomes],
        "also": dict(others),
    }
    return write_report(folder, "kills", data, page)["json"]


MEANING = (
    "Each number is the time in seconds from the kill until the deployment left that step; where a window was being "
    "waited for, or a person, the rest of that wait is in it. A second number in brackets: until its end."
)


def _matrix(kills: Sequence[Kill], names: Sequence[str]) -> Table:
    def cell(step: str, part: str) -> str:
        found = [kill for kill in kills if (kill.step, kill.part) == (step, part)]
        return "; ".join(f"{kill.next_seconds or 0.0:.1f} ({kill.end_seconds or 0.0:.0f})" for kill in found)

    return Table(
        ["Step", *[Column(name, numeric=True) for name in names]],
        [[step, *[cell(step, name) for name in names]] for step in STEPS.values()],
    )


def _deployments(outcomes: Sequence[Outcome]) -> Table:
    columns: list[str | Column] = [
        "Deployment", "Version", "Killed", Column("Kills", numeric=True), "Expected", "End", "Writer", "Audit", "Trail",
        Column("Seconds", numeric=True), Column("Roll-back, s", numeric=True), "Wrong",
    ]  # fmt: skip
    return Table(columns, [
        [one.name, one.version, one.part, len(one.kills), one.expected, one.state, ", ".join(one.writers), one.audit,
         one.trail, one.seconds, one.roll_back_seconds, "; ".join(one.wrong)]
        for one in outcomes
    ])  # fmt: skip


def _each(kills: Sequence[Kill]) -> Table:
    columns: list[str | Column] = [
        "Deployment", "Part", "Step", "At work in Airflow", "State after", Column("Back, s", numeric=True), "Then",
        Column("After, s", numeric=True), Column("End after, s", numeric=True),
    ]  # fmt: skip
    return Table(columns, [
        [one.deployment, one.part, one.step, ", ".join(one.tasks), one.state_after, one.back_seconds, one.next,
         one.next_seconds, one.end_seconds]
        for one in kills
    ])  # fmt: skip


def keep_reports(site: AirflowEnvironment, *, folder: Path = FOLDER) -> None:
    """Copy the deployments' own reports beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for outcome in site.outcomes:
        for path in (site.field.directory / "reports" / "deployments").glob(f"{outcome.name}.*"):
            shutil.copyfile(path, folder / path.name)
