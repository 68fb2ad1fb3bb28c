"""Kills a run at every step and looks: the day is as it was or right, and the next run makes it right and tidy."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingest_ops.archive.table import DayTable
from ingest_ops.common.verdict import Verdict
from tests.campaigns.archive.killed import STEPS, written
from tests.harness.archive import table_rows
from tests.harness.archive_world import DAY, World, Worlds, afternoon, until_noon
from tests.harness.processes import ROOT, inherited

RUN_SECONDS = 300.0


@dataclass(frozen=True)
class Killed:
    """One kill. ``problem`` is empty if all was well; ``reached``: the run got to the step."""

    step: str
    count: int
    reached: bool
    problem: str


def made_world(worlds: Worlds) -> World:
    """A world whose day was archived at noon: the run that is killed replaces a half by a whole day."""
    world = worlds.make(prepare=until_noon, bucket_rows=1)
    world.run()
    afternoon(world)
    return world


def tried(world: World, steps: list[str], times: int) -> Iterator[Killed]:
    """Kill at each step, each time on the archive as it was before."""
    old = table_rows(world.archive(), DAY)
    kept = Path(world.settings.warehouse).with_name("kept")
    shutil.copytree(world.settings.warehouse, kept)
    file = written(world.settings, kept.with_name("settings.json"))
    for step in steps:
        for number in range(times):
            count = number % 2 + 1
            ended = _run(file, step, count, world.market.now_us + 3_600_000_000)
            reached = ended.returncode == -signal.SIGKILL
            if not reached and ended.returncode != 0:
                yield Killed(step, count, reached, ended.stderr[-500:])
            else:
                yield Killed(step, count, reached, _problem(world, old))
            shutil.rmtree(world.settings.warehouse)
            shutil.copytree(kept, world.settings.warehouse)
            shutil.rmtree(world.settings.work, ignore_errors=True)


def _run(file: Path, step: str, count: int, now_us: int) -> "subprocess.CompletedProcess[str]":
    command = [
        sys.executable,
        "-m",
        "tests.campaigns.archive.killed",
        step,
        str(count),
        str(file),
        str(DAY),
        str(now_us),
    ]
    environment = {**inherited(), "PYTHONPATH": f"{ROOT}:{ROOT / 'plugins'}"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )


def _problem(world: World, old: object) -> str:
    """What is wrong after a kill, and after the run that follows."""
    after = table_rows(world.archive(), DAY)
    if after not in (old, world.truth()):
        return "after the kill the day is neither as it was nor right"
    outcome = world.run()
    if outcome.certificate.verdict is not Verdict.PASS:
        return f"the next run says {outcome.certificate.verdict}"
    if table_rows(world.archive(), DAY) != world.truth():
        return "after the next run the day is not right"
    faults = world.faults()
    if faults:
        return f"archive verify: {faults[0]}"
    table = DayTable(world.settings)
    there = {f"{table.folder(DAY)}/{path.name}" for path in Path(table.folder(DAY).removeprefix("file://")).iterdir()}
    if there != table.named(DAY):
        return f"files that no snapshot names: {sorted(there - table.named(DAY))}"
    if any(path.is_dir() for path in world.settings.work.iterdir()):
        return "the work folder is not empty"
    return ""


ALL = list(STEPS)
