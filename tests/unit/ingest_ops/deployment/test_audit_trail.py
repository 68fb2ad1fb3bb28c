import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest_ops.deployment.audit_trail import AuditTrail, BrokenTrail


def _three(path: Path) -> AuditTrail:
    trail = AuditTrail(path)
    for number in range(3):
        trail.append(100.0 + number, "me", f"thing {number}", {"value": number})
    return trail


def test_what_was_written_is_read_in_order(tmp_path: Path) -> None:
    lines = _three(tmp_path / "t.jsonl").lines()
    assert [line["data"]["value"] for line in lines] == [0, 1, 2]
    assert [line["n"] for line in lines] == [1, 2, 3]


def test_no_file_is_an_empty_trail(tmp_path: Path) -> None:
    assert AuditTrail(tmp_path / "none").lines() == []


@pytest.mark.parametrize(
    "forge",
    [
        lambda lines: [lines[0], lines[1].replace('"value": 1', '"value": 9'), lines[2]],
        lambda lines: [lines[0], lines[1].replace('"actor": "me"', '"actor": "you"'), lines[2]],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[1], lines[2]],
        lambda lines: [lines[0], lines[0], lines[1], lines[2]],
        lambda lines: [lines[0], lines[2], lines[1]],
        lambda lines: [lines[0], "nonsense", lines[2]],
        lambda lines: [lines[0], json.dumps({"n": 2}), lines[2]],
    ],
    ids=["data", "actor", "removed", "beheaded", "doubled", "swapped", "garbage", "no hash"],
)
def test_whatever_is_changed_afterwards_breaks_the_chain(
    tmp_path: Path, forge: Callable[[list[str]], list[str]]
) -> None:
    trail = _three(tmp_path / "t.jsonl")
    lines = trail.path.read_text().splitlines()
    trail.path.write_text("\n".join(forge(lines)) + "\n")
    with pytest.raises(BrokenTrail):
        trail.lines()


def test_half_a_line_left_by_a_crash_is_cut_off_and_the_chain_goes_on(tmp_path: Path) -> None:
    trail = _three(tmp_path / "t.jsonl")
    with trail.path.open("ab") as file:
        file.write(b'{"n": 4, "at": 1')
    assert len(trail.lines()) == 3
    trail.append(200.0, "me", "after", {})
    assert [line["what"] for line in trail.lines()][-1] == "after"


def test_several_writers_take_turns(tmp_path: Path) -> None:
    trail = AuditTrail(tmp_path / "t.jsonl")

    def write(name: str) -> None:
        for number in range(20):
            trail.append(float(number), name, "x", {})

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trail.lines()) == 80
