"""Every command helps: with examples that parse, exit codes, JSON where there is a result, no colours in a pipe."""

import argparse
import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import dropwhile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "reference" / "command_line.md").read_text()

Command = tuple[str, ...]

WITHOUT_JSON: dict[Command, str] = {
    ("ingest",): "no result of its own",
    ("ingest", "run"): "its log is JSON",
    ("ingest", "completion"): "prints a script",
    ("ingest_ops",): "no result of its own",
    ("ingest_ops", "archive"): "no result of its own",
    ("ingest_ops", "soak"): "no result of its own",
    ("ingest_ops", "soak", "schema"): "prints JSON",
    ("ingest_ops", "soak", "calibrate"): "a table for a person; --write keeps it as JSON",
    ("ingest_ops", "exporter"): "serves metrics",
    ("ingest_ops", "agent"): "serves JSON",
}


def _generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATE = _generate()
COMMANDS: dict[Command, Callable[[list[str]], int]] = GENERATE.commands()
every = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


@pytest.fixture
def text(words: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "100")
    return str(GENERATE.help_of(words, COMMANDS[words]))


def typed(words: Command) -> str:
    return " ".join(words).replace("ingest_ops", "python -m ingest_ops")


@every
def test_the_help_has_exit_codes_and_examples(words: Command, text: str) -> None:
    assert re.search(r"^exit codes: 0 ", text, re.M)
    examples = text.split("\nexamples:\n", 1)[1]
    assert typed(words) in examples


@every
def test_the_reference_has_its_help(words: Command, text: str) -> None:
    assert f"## `{typed(words)}`\n\n```text\n{text.rstrip()}\n```\n" in PAGE


@every
def test_there_is_json_where_there_is_a_result(words: Command, text: str) -> None:
    assert ("--json" in text.split("\nexamples:\n")[0]) == (words not in WITHOUT_JSON)


@every
def test_the_help_is_plain_text(text: str) -> None:
    assert "\x1b" not in text


def examples(text: str) -> Iterator[list[str]]:
    """Every example of a help, as a shell would split it, without what is set before it and what is said of it."""
    part = text.split("\nexamples:\n", 1)[1].replace("\\\n", " ")
    for line in filter(None, map(str.strip, part.splitlines())):
        command = re.sub(r"(\S)\s{2,}(?!-)\S.*", r"\1", line).split(" | ")[0]
        yield list(dropwhile(re.compile(r"[A-Z0-9_]+=").match, shlex.split(command)))


@every
def test_its_examples_can_be_typed(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser takes them; nothing is run."""
    monkeypatch.setattr("argparse.ArgumentParser.parse_known_args", _parsed)
    for example in examples(text):
        which, arguments = ("ingest_ops", example[3:]) if example[0] == "python" else (example[0], example[1:])
        with pytest.raises(_Parsed):
            COMMANDS[which,](arguments)


class _Parsed(BaseException):
    pass


PARSE = argparse.ArgumentParser.parse_known_args


def _parsed(parser: argparse.ArgumentParser, arguments: list[str], namespace: argparse.Namespace | None = None) -> None:
    _, rest = PARSE(parser, arguments, namespace)
    assert rest == []
    raise _Parsed


@pytest.mark.parametrize("program", ["ingest", "ingest_ops"])
@pytest.mark.parametrize("arguments", [[], ["fly"], ["--nonsense"]])
def test_what_is_not_understood_is_code_2_and_says_what_is(program: str, arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", program, *arguments],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT / "plugins")}, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 2
    assert "usage: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shlex.quote(sys.executable)} -m ingest check --list | head -n 1"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("K2_")


def test_a_broker_that_is_not_there_is_said_in_plain_words() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ingest", "topics"], cwd=ROOT, env={"K2_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"},
        capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert done.returncode == 75
    assert "Traceback" not in done.stderr
    assert "127.0.0.1:1" in done.stderr.splitlines()[-1]
