"""The command line of ingest_ops: version, and what to install if a library of an extra is missing."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires

import pytest

import ingest
from ingest_ops import __main__ as command_line
from tests.harness.interpreters import ROOT
from tools.locks import normal

PROJECT = tomllib.loads((ROOT / "plugins" / "pyproject.toml").read_text())["project"]


# In a process of its own: another import of the packages would stay behind as attributes of their parents.
WITHOUT_EXTRAS = """
import sys
from ingest_ops import __main__ as command_line


class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in command_line.EXTRAS:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Missing())
sys.exit(command_line.main(sys.argv[1:]))
"""


def without_extras(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in an installation without extras."""
    command = [sys.executable, "-c", WITHOUT_EXTRAS, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


@pytest.mark.parametrize("command", [name for name in command_line.COMMANDS if name != "agent"])
def test_a_missing_extra_says_what_to_install(command: str) -> None:
    ended = without_extras(command, "--help")
    assert ended.returncode == 2
    extra = command_line.EXTRA_OF_COMMAND.get(command, "reports")
    wanted = rf"ingest_ops: \w+ is missing: in a clone, pip install \. '\./plugins\[{extra}\]'\n"
    assert re.fullmatch(wanted, ended.stderr), ended.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["agent", "--help"]])
def test_what_needs_no_extra_runs_without(arguments: list[str]) -> None:
    ended = without_extras(*arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout


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
