"""The two scripts that operators know from before: they pass everything on to the commands that decide."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[3] / "deploy" / "scripts"


def run(script: str, *arguments: str, python: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({"PYTHON": str(python)} if python else {})
    return subprocess.run(
        [str(SCRIPTS / script), *arguments], capture_output=True, text=True, check=False, env=environment, timeout=60
    )


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Prints its arguments and ends with 7."""
    path = tmp_path / "python"
    path.write_text('#!/bin/sh\necho "$@"\nexit 7\n')
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("script", "arguments", "passed"),
    [
        ("deploy_blue_green.sh", ["v2.0", "--json"], "-m ingest_ops deploy v2.0 --json"),
        ("validate_deployment.sh", [], "-m ingest_ops validate --slot blue"),
        ("validate_deployment.sh", ["green", "--shadow"], "-m ingest_ops validate --slot green --shadow"),
    ],
)
def test_arguments_and_exit_code_are_the_commands(script: str, arguments: list[str], passed: str, python: Path) -> None:
    done = run(script, *arguments, python=python)
    assert (done.stdout.strip(), done.returncode) == (passed, 7)


@pytest.mark.parametrize(
    ("script", "arguments"),
    [("deploy_blue_green.sh", []), ("deploy_blue_green.sh", ["--json"]), ("validate_deployment.sh", ["red"])],
)
def test_wrong_arguments_are_refused_with_the_usage(script: str, arguments: list[str]) -> None:
    done = run(script, *arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr
