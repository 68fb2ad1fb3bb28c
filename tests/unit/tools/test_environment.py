"""A virtual environment is made complete or made again, by one process at a time."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tools import environment
from tools.environment import NoEnvironment
from tools.locks import ROOT

LOCK = "requirements/demo.txt"


def without_pip(folder: Path) -> Path:
    """What Ctrl-C within the first seconds leaves."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder


def test_an_environment_whose_making_broke_off_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    venv = without_pip(tmp_path / "venv")
    (venv / "half").touch()
    assert not environment.usable(venv)
    environment.create(venv)
    assert "the environment is made again" in capsys.readouterr().err
    assert not (venv / "half").exists()
    assert (venv / environment.INCOMPLETE).exists(), "until something is installed"
    (venv / environment.INCOMPLETE).unlink()
    assert environment.usable(venv)
    (venv / environment.INCOMPLETE).touch()
    assert not environment.usable(venv)
    (venv / environment.INCOMPLETE).unlink()
    python = environment.python_of(venv)
    python.unlink()
    python.symlink_to("/nonexistent/python3")
    assert not environment.usable(venv), "a link to an interpreter that is gone"


def test_a_folder_that_is_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear")
    with pytest.raises(NoEnvironment, match="is no virtual environment and not empty: remove it, or name another"):
        environment.create(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]


def test_a_python_without_venv_leaves_nothing_and_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\nmkdir -p $3/bin; touch $3/pyvenv.cfg; echo ensurepip is not\necho available; exit 1\n"
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    text = r"cannot make a virtual environment \(Debian: apt-get install python3-venv\): ensurepip is not available$"
    with pytest.raises(NoEnvironment, match=text):
        environment.create(tmp_path / "venv")
    assert not (tmp_path / "venv").exists()


def test_pip_s_variables_that_say_what_is_installed_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_TARGET", "PIP_USER", "PIP_PREFIX", "PIP_ROOT", "PIP_CONSTRAINT", "PYTHONPATH", "PYTHONHOME"):
        monkeypatch.setenv(name, "x")
    for name in ("PIP_INDEX_URL", "PIP_PROXY", "PIP_CERT", "HTTPS_PROXY", "PATH"):
        monkeypatch.setenv(name, "y")
    found = environment.variables()
    assert {name for name, value in found.items() if value == "x"} == set()
    assert {name for name, value in found.items() if value == "y"} == {
        "PIP_INDEX_URL", "PIP_PROXY", "PIP_CERT", "HTTPS_PROXY", "PATH",
    }  # fmt: skip


def test_two_processes_fill_one_environment_one_after_the_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    entered = threading.Event()

    def second() -> None:
        with environment.alone(tmp_path / "venv"):
            entered.set()

    thread = threading.Thread(target=second)
    with environment.alone(tmp_path / "venv"):
        thread.start()
        deadline, said = time.monotonic() + 60, ""
        while "waiting" not in said and time.monotonic() < deadline:
            said += capsys.readouterr().err
            time.sleep(0.01)
        assert said == f"{tmp_path}/venv: another process fills it: waiting\n"
        assert not entered.is_set()
        with environment.alone(tmp_path / "other"):
            """Another environment is free."""
    thread.join(60)
    assert entered.is_set()
    (lock,) = [path for path in (tmp_path / ".cache").iterdir() if path.name.startswith("environment-")][:1]
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_pip_does_not_remove_is_one_line_and_the_environment_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = without_pip(tmp_path / "venv")
    (venv / environment.LOCKED).write_text(json.dumps({LOCK: ["gone"]}))
    monkeypatch.setattr(environment, "usable", lambda _: True)
    monkeypatch.setattr(environment, "commands", lambda *_: [["true"]])
    with pytest.raises(NoEnvironment, match="pip did not remove gone, its message is above: remove"):
        environment.install(LOCK, venv)  # it has no pip
    assert (venv / environment.INCOMPLETE).exists()


def test_an_environment_is_fresh_until_something_it_is_made_from_changes(tmp_path: Path) -> None:
    venv = without_pip(tmp_path / "venv")
    assert not environment.fresh(LOCK, venv), "nothing was installed"
    mark = environment.mark_of(LOCK, venv)
    mark.touch()
    assert environment.fresh(LOCK, venv)
    newest = max((ROOT / name).stat().st_mtime for name in (LOCK, *environment.INPUTS))
    os.utime(mark, (newest - 1, newest - 1))
    assert not environment.fresh(LOCK, venv)
    mark.touch()
    (venv / environment.INCOMPLETE).touch()
    assert not environment.fresh(LOCK, venv)
    (venv / environment.INCOMPLETE).unlink()
    environment.python_of(venv).unlink()
    environment.python_of(venv).symlink_to("/nonexistent/python3")
    assert not environment.fresh(LOCK, venv)


def test_an_interpreter_that_was_chosen_and_is_not_used_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    venv = without_pip(tmp_path / "venv")
    environment.mark_of(LOCK, venv).touch()
    arguments = [LOCK, "--venv", str(venv), "--projects", "--chosen"]
    assert environment.main(arguments) == 0
    assert capsys.readouterr().err == ""
    config = venv / "pyvenv.cfg"
    mine = sys.version.split()[0]
    config.write_text(config.read_text().replace(f"version = {mine}", "version = 3.11.1"))
    assert environment.main(arguments) == 0
    assert (
        capsys.readouterr().err == f"note: {venv} has Python 3.11.1, PYTHON names {mine}: remove {venv} to change it\n"
    )
    assert environment.main(arguments[:-1]) == 0
    assert capsys.readouterr().err == ""


def test_what_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert environment.main([LOCK, "--venv", str(tmp_path / "file" / "venv")]) == 2
    assert capsys.readouterr().err == f"{tmp_path}/file/venv: Not a directory\n"
