"""The tutorial, followed word for word: the parts one by one here, all of it by ``make tutorial``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.kafka import KafkaUnavailable, jars, java
from tests.harness.page import BadPage, Shown, read

ROOT = Path(__file__).resolve().parents[3]
TUTORIAL = ROOT / "docs" / "tutorials" / "first_ten_minutes.md"


def follow(*sections: str, seconds: float, page: Path = TUTORIAL) -> subprocess.CompletedProcess[str]:
    try:
        java()
        jars()
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka: {error}")
    command = [sys.executable, "-m", "tests.harness.walk", str(page)]
    command += [part for name in sections for part in ("--section", name)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds)


@pytest.mark.integration
@pytest.mark.timeout(1800)
def test_the_parts_one_by_one_are_as_the_tutorial_says() -> None:
    done = follow("2.", "3.", seconds=1700)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(5400)
def test_all_of_it_is_as_the_tutorial_says() -> None:
    if shutil.which("prometheus") is None and not os.environ.get("CI"):
        pytest.skip("no prometheus: install it (Debian: apt-get install prometheus)")
    done = follow(seconds=5300)
    sys.stdout.write(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.timeout(3600)
def test_a_test_on_a_real_broker_runs_as_contributing_says() -> None:
    done = follow("One test in seconds", seconds=3500, page=ROOT / "CONTRIBUTING.md")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_part_of_the_tutorial_has_commands() -> None:
    steps = read(TUTORIAL)
    assert [name[:2] for name in dict.fromkeys(step.section for step in steps)] == ["1.", "2.", "3.", "4.", "5."]
    assert [step.line for step in steps if step.not_run] == []


def page(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "page.md"
    path.write_text(text)
    return path


def test_a_page_that_shows_what_is_not_printed_is_found_out(tmp_path: Path) -> None:
    path = page(tmp_path, "```sh\necho one\necho two\n```\n\n```text\none\nthree\n```\n")
    done = subprocess.run(
        [sys.executable, "-m", "tests.harness.walk", "--here", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert done.returncode == 1
    assert "shown, but not printed there: 'three'" in done.stdout


def test_a_command_that_fails_is_found_out_though_another_follows(tmp_path: Path) -> None:
    path = page(tmp_path, "```sh\nls /no/such/folder\necho two\n```\n")
    done = subprocess.run(
        [sys.executable, "-m", "tests.harness.walk", "--here", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert done.returncode == 1
    assert "exit code 2" in done.stdout


def test_remarks_are_read_and_unknown_ones_refused(tmp_path: Path) -> None:
    text = "## 1. A\n<!-- terminal b, stays -->\n```sh\nx\n```\n\n<!-- excerpt, exact: a b -->\n```text\ny\n```\n"
    (step,) = read(page(tmp_path, text))
    assert (step.section, step.terminal, step.stays, step.commands, step.line) == ("1. A", "b", True, "x", 3)
    assert step.shown == Shown(("y",), excerpt=True, exact=frozenset({"a", "b"}))
    with pytest.raises(BadPage, match="unknown remark"):
        read(page(tmp_path, "<!-- somewhere b -->\n```sh\nx\n```\n"))


PRINTED = ["  0.5 s > up", "sent 7", "missing  0", "done"]


@pytest.mark.parametrize(
    ("shown", "wrong"),
    [
        (Shown(tuple(PRINTED)), ""),
        (Shown(("0.5 s > up", "…", "done")), ""),
        (Shown(("0.5 s > …", "sent 7", "missing 0", "done")), ""),
        (Shown(("0.5 s > up", "done")), "shown, but not printed there: 'done'"),
        (Shown(("0.5 s > up", "done"), excerpt=True), ""),
        (Shown(("done", "0.5 s > up"), excerpt=True), "shown, but not printed there: '0.5 s > up'"),
        (Shown(("9.1 s > up", "missing 0"), excerpt=True, numbers_vary=True, exact=frozenset({"missing"})), ""),
        (
            Shown(("9.1 s > up", "missing 1"), excerpt=True, numbers_vary=True, exact=frozenset({"missing"})),
            "shown, but not printed there: 'missing 1'",
        ),
        (Shown(("0.5 s > up", "sent 7", "missing 0")), "printed, but not shown: 'done'"),
    ],
)
def test_what_is_printed_is_held_against_what_is_shown(shown: Shown, wrong: str) -> None:
    assert shown.difference(PRINTED) == wrong
