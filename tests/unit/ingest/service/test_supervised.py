"""The child's end of the pipes: the first line is a budget, and a frozen supervisor holds nobody up."""

import os
import time
from collections.abc import Iterator

import pytest

from ingest.core.child_protocol import Attempt, Budget, End, Promote, line, message
from ingest.core.errors import Stop
from ingest.service import supervised
from ingest.service.supervised import Supervision


@pytest.fixture
def pipes() -> Iterator[tuple[int, int, int, int]]:
    """The child's input and output, the supervisor's output and input."""
    commands, reports = os.pipe(), os.pipe()
    ends = [commands[0], reports[1], commands[1], reports[0]]
    yield commands[0], reports[1], commands[1], reports[0]
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_the_first_line_must_be_a_budget(pipes: tuple[int, int, int, int]) -> None:
    source, output, commands, _ = pipes
    os.write(commands, line(End()))
    with pytest.raises(Stop, match="for the supervisor of a fleet alone"):
        Supervision(source, output)


def test_without_a_supervisor_it_does_not_start(pipes: tuple[int, int, int, int]) -> None:
    source, output, commands, _ = pipes
    os.close(commands)
    with pytest.raises(Stop, match="for the supervisor of a fleet alone"):
        Supervision(source, output)


def test_lines_are_read_whole_however_they_arrive(pipes: tuple[int, int, int, int]) -> None:
    source, _, commands, _ = pipes
    sent = line(Budget(12, 5)) + line(Promote("fleet-1", 3))
    os.write(commands, sent[:10])
    lines = supervised._lines(source)
    os.write(commands, sent[10:] + b"{}\nrest")
    os.close(commands)
    assert b"\n".join(lines) + b"\n" == sent + b"{}\n"


def test_a_supervisor_that_reads_nothing_holds_nobody_up(pipes: tuple[int, int, int, int]) -> None:
    source, output, commands, reports = pipes
    os.write(commands, line(Budget(12, 5)))
    child = Supervision(source, output)
    began = time.monotonic()
    for _ in range(10_000):
        child._write(b"x" * 99 + b"\n")
    assert time.monotonic() - began < 30
    received = os.read(reports, 1 << 20)
    assert set(received.splitlines()) == {b"x" * 99}, "a line is written whole or not at all"


def test_attempts_that_a_frozen_supervisor_could_not_take_are_reported_later(pipes: tuple[int, int, int, int]) -> None:
    source, output, commands, reports = pipes
    os.write(commands, line(Budget(12, 5)))
    child = Supervision(source, output)
    while child._write(b"x" * 9 + b"\n"):
        pass
    for _ in range(3):
        child._report_attempt()
    assert set(os.read(reports, 1 << 20).splitlines()) == {b"x" * 9}
    child._report_attempt()
    assert [message(one) for one in os.read(reports, 1 << 20).splitlines()] == [Attempt()] * 4


def test_what_is_no_command_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    found: list[object] = []
    supervised._read(iter([line(End()).rstrip(), b"noise", b'{"type":"unknown"}']), found.append)
    assert found == [End(), None]
    assert caplog.text.count("cannot be read") == 2
