"""The command line of ingest_ops: version, and what to install if a library of an extra is missing."""

import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import requires

import pytest

import ingest
from ingest_ops import __main__ as command_line
from tests.support.interpreters import ROOT
from tools.locks import normal

PROJECT = tomllib.loads((ROOT / "plugins" / "pyproject.toml").read_text())["project"]


class Missing:
    """Import hook: the libraries of the extras are not there."""

    def find_spec(self, name: str, *_: object) -> None:
        """Refuse a library of an extra."""
        if name.partition(".")[0] in command_line.EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installation without extras: nothing of ours is imported yet."""
    kept = dict(sys.modules)
    for name in list(sys.modules):
        if name.partition(".")[0] in command_line.EXTRAS or name.startswith("ingest_ops."):
            del sys.modules[name]
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    yield
    sys.modules.clear()
    sys.modules.update(kept)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("command", [name for name in command_line.COMMANDS if name != "agent"])
def test_a_missing_extra_says_what_to_install(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main([command, "--help"]) == 2
    text = capsys.readouterr().err
    assert re.fullmatch(r"ingest_ops: \w+ is missing: pip install 'k2-ingest-ops\[reports\]'\n", text)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["agent", "--help"]])
def test_what_needs_no_extra_runs_without(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(arguments)
    assert ended.value.code == 0
    assert capsys.readouterr().out


@pytest.mark.parametrize(("library", "extra"), command_line.EXTRAS.items())
def test_the_named_extra_installs_the_library(library: str, extra: str) -> None:
    wanted = PROJECT["optional-dependencies"][extra]
    names = {normal(match[0]) for text in wanted if (match := re.match(r"[\w.-]+", text))}
    below = {normal(match[0]) for name in names - {"k2-ingest-ops"} for text in requires(name) or ()
             if "extra ==" not in text and (match := re.match(r"[\w.-]+", text))}  # fmt: skip
    assert normal(library) in names | below | {"airflow" if "apache-airflow" in names else ""}


def test_the_version_is_that_of_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.main(["--version"])
    assert capsys.readouterr().out == f"k2-ingest-ops {ingest.__version__}\n"
