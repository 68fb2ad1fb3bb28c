"""What a child gets from its supervisor, and what is known of it."""

import sys
import time
from pathlib import Path

import pytest

from ingest.core.child_protocol import Attempt, Budget, End, Promote, Report, command, line, message
from ingest.decoding import Undecodable
from ingest.fleet import child as children
from ingest.fleet.child import Child, child_environment, child_id
from ingest.settings import load
from ingest.settings.rules import FLEET_ID_LENGTH

REPORT = Report("active", 3, warm=True, commit_age=0.1, lease_age=0.1, attempts=5, metrics_url="http://127.0.0.1:1")
PATIENCE = 60.0


@pytest.mark.parametrize("sent", [Budget(12, 5), Promote("fleet-1", 4), End()])
def test_commands_are_read_back(sent: Budget | Promote | End) -> None:
    assert command(line(sent)) == sent


@pytest.mark.parametrize("said", [REPORT, Attempt()])
def test_messages_are_read_back(said: Report | Attempt) -> None:
    assert message(line(said)) == said


def test_anything_else_on_the_pipes_is_no_message_and_no_command() -> None:
    assert message(b"Traceback (most recent call last):\n") is None
    assert message(b"") is None
    with pytest.raises(Undecodable):
        command(b'{"type":"budget"}')


def test_a_child_has_the_settings_of_its_instance_with_a_shard_an_id_and_ports_of_its_own() -> None:
    environment = {
        "PATH": "/bin",
        "K2_SHARD_INDEX": "auto",
        "K2_SHARD_COUNT": "6",
        "K2_INSTANCE_ID": "a",
        "K2_METRICS_PORT": "9095",
        "K2_METRICS_HOST": "0.0.0.0",  # noqa: S104
        "K2_CONTROL_PORT": "9096",
        "K2_CONTROL_TOKEN_FILE": "/run/token",
        "K2_READY_FILE": "/run/ready",
        "K2_FLEET_GROUP": "g",
        "K2_STANDBY_WARM": "1",
    }
    assert child_environment(environment, "a", 4, control=True) == {
        "PATH": "/bin",
        "K2_SHARD_INDEX": "4",
        "K2_SHARD_COUNT": "6",
        "K2_INSTANCE_ID": "a-s4",
        "K2_METRICS_HOST": "127.0.0.1",
        "K2_METRICS_PORT": "0",
        "K2_CONTROL_PORT": "0",
        "K2_CONTROL_TOKEN_FILE": "/run/token",
    }
    assert "K2_CONTROL_PORT" not in child_environment(environment, "a", 4, control=False)


def test_the_longest_instance_id_leaves_room_for_the_last_shard() -> None:
    longest = "i" * FLEET_ID_LENGTH
    load({"K2_SHARD_INDEX": "auto", "K2_SHARD_COUNT": "1000", "K2_INSTANCE_ID": longest})
    load({"K2_SHARD_INDEX": "999", "K2_SHARD_COUNT": "1000", "K2_INSTANCE_ID": child_id(longest, 999)})


def script(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> Child:
    """A child that is this script."""
    path = tmp_path / "child.py"
    path.write_text(text)
    monkeypatch.setattr(children, "COMMAND", (sys.executable, str(path)))
    return Child(0, {}, on_news=lambda: None)


def ended(child: Child) -> int | None:
    until = time.monotonic() + PATIENCE
    while child.ended is None and time.monotonic() < until:
        time.sleep(0.01)
    return child.ended


def test_what_a_killed_child_said_before_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = [line(REPORT), line(Attempt()), line(Attempt()), b"noise\n", line(Attempt())]
    text = f"import os\nfor text in {said!r}: os.write(1, text)\nos.kill(os.getpid(), 9)\n"
    child = script(tmp_path, text, monkeypatch)
    assert ended(child) == -9
    assert child.report()[0] == REPORT
    assert child.attempts(time.monotonic()) == 3


def test_a_child_that_reads_nothing_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = script(tmp_path, "import time\ntime.sleep(600)\n", monkeypatch)
    began = time.monotonic()
    for attempts in range(10_000):
        child.send(Budget(12, attempts))
    assert time.monotonic() - began < PATIENCE
    assert child.sent is not None
    assert child.sent != Budget(12, 9_999)
    child.kill()
    assert ended(child) == -9
    child.send(End())


def test_the_end_of_a_supervisor_is_the_end_of_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = script(
        tmp_path, 'import sys\nsys.exit(7 if sys.stdin.readline() == \'{"type":"end"}\\n\' else 1)\n', monkeypatch
    )
    child.end()
    assert ended(child) == 7
