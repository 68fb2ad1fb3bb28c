import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from ingest_ops.agent.process_slots import ProcessConfig, ProcessSlots, Release, load_config, write_config
from ingest_ops.agent.slots import AgentRefusal, Slots

SLEEPER = "import os, time; open(os.environ['K2_SLOT'] + '.env', 'w').write(repr(dict(os.environ))); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('ready', 'w'); time.sleep(600)"


@pytest.fixture
def config() -> ProcessConfig:
    return ProcessConfig(
        environment={"K2_KAFKA_TOPIC": "t"},
        releases={
            "v1": Release(command=("{python}", "-c", SLEEPER), environment={"EXTRA": "of {version}"}),
            "v2": Release(command=("{python}", "-c", SLEEPER)),
            "ends": Release(command=("{python}", "-c", "raise SystemExit(3)")),
            "stubborn": Release(command=("{python}", "-c", STUBBORN)),
            "nothing": Release(command=("no-such-program",)),
        },
    )


@pytest.fixture
def slots(tmp_path: Path, config: ProcessConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProcessSlots]:
    monkeypatch.chdir(tmp_path)
    made = ProcessSlots(tmp_path / "slots", config, inherited={**os.environ, "K2_SECRET_OF_MINE": "x"})
    yield made
    for slot in ("blue", "green"):
        made.stop(slot)


def wait(condition: object) -> None:
    deadline = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_it_is_what_the_deployer_needs(slots: ProcessSlots) -> None:
    needed: Slots = slots
    assert needed.status("green").running is False


def test_a_slot_runs_with_its_own_environment_and_nothing_of_the_agent_s(slots: ProcessSlots, tmp_path: Path) -> None:
    status = slots.start("green", "v1")
    assert (status.running, status.version) == (True, "v1")
    wait((tmp_path / "green.env").exists)
    wait(lambda: (tmp_path / "green.env").read_text().endswith("}"))
    text = (tmp_path / "green.env").read_text()
    for part in ("'K2_INSTANCE_ID': 'green'", "'K2_VERSION': 'v1'", "'K2_KAFKA_TOPIC': 't'", "'EXTRA': 'of v1'"):
        assert part in text
    assert "K2_SECRET_OF_MINE" not in text


def test_starting_twice_is_starting_once(slots: ProcessSlots) -> None:
    first = slots.start("green", "v1")
    assert slots.start("green", "v1").detail == first.detail
    with pytest.raises(AgentRefusal, match="stop it first"):
        slots.start("green", "v2")


def test_stopping_can_be_repeated_and_the_version_is_remembered(slots: ProcessSlots) -> None:
    slots.start("green", "v1")
    assert not slots.stop("green").running
    status = slots.stop("green")
    assert (status.running, status.version) == (False, "v1")
    assert slots.start("green", "v2").running


def test_what_ended_by_itself_says_how(slots: ProcessSlots) -> None:
    before = time.time_ns() / 1e9
    slots.start("green", "ends")
    wait(lambda: not slots.status("green").running)
    status = slots.status("green")
    assert status.exit_code == 3
    assert before <= (status.started_at or 0) <= time.time_ns() / 1e9


def test_what_ends_while_it_is_looked_at_says_how(slots: ProcessSlots, monkeypatch: pytest.MonkeyPatch) -> None:
    slots.start("green", "v1")
    child = slots._children["green"]

    def dead(_slot: str) -> None:
        os.kill(child.pid, signal.SIGKILL)
        wait(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)

    with monkeypatch.context() as patched:
        patched.setattr(slots, "_process", dead)
        assert slots.status("green").exit_code == -signal.SIGKILL


def test_what_does_not_listen_is_killed(slots: ProcessSlots, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ingest_ops.agent.process_slots.STOP_SECONDS", 1.0)
    slots.start("green", "stubborn")
    wait((tmp_path / "ready").exists)
    assert slots.stop("green").exit_code == -signal.SIGKILL


def test_an_agent_that_was_killed_finds_its_children(
    slots: ProcessSlots, config: ProcessConfig, tmp_path: Path
) -> None:
    first = slots.start("green", "v1")
    other = ProcessSlots(tmp_path / "slots", config)
    assert other.status("green").detail == first.detail
    assert other.start("green", "v1").detail == first.detail
    assert not other.stop("green").running
    assert not slots.status("green").running


def test_a_reused_pid_is_nobody_s_child(slots: ProcessSlots, tmp_path: Path) -> None:
    slots.start("green", "v1")
    slots.stop("green")
    record = tmp_path / "slots" / "green.json"
    record.write_text(json.dumps({"version": "v1", "pid": os.getpid(), "created": 1.0, "at": 1.0}))
    assert not slots.status("green").running
    slots.stop("green")  # and is not killed


def test_what_is_not_listed_cannot_be_run(slots: ProcessSlots) -> None:
    for call in (lambda: slots.build("v9"), lambda: slots.start("green", "v9")):
        with pytest.raises(AgentRefusal, match="no version v9"):
            call()
    with pytest.raises(AgentRefusal, match="no program"):
        slots.build("nothing")
    assert "-c" in slots.build("v1")


def test_the_configuration_is_a_file(tmp_path: Path, config: ProcessConfig) -> None:
    write_config(tmp_path / "agent.json", config)
    assert load_config(tmp_path / "agent.json") == config
    (tmp_path / "bad.json").write_text('{"releases": {}, "sudo": true}')
    with pytest.raises(AgentRefusal, match="sudo"):
        load_config(tmp_path / "bad.json")
