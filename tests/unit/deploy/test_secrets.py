"""``make secrets``: made once, kept afterwards, out of others' reach."""

import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.harness.kafka import ROOT
from tests.unit.deploy.test_compose import FILE

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "K2_DOCKER_SOCKET": "/nonexistent"}


def run(folder: Path) -> str:
    script = folder / "deploy" / "secrets.sh"
    script.parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / "deploy/secrets.sh", script)
    return subprocess.run([script], capture_output=True, text=True, check=True, env=ENVIRONMENT).stdout


def test_every_secret_of_the_compose_file_is_made_and_then_kept(tmp_path: Path) -> None:
    first = run(tmp_path)
    secrets = tmp_path / "secrets"
    made = {path.name: path.read_text() for path in secrets.iterdir()}
    assert set(FILE["secrets"]) == set(made)
    assert len(set(made.values())) == len(made)
    assert all(len(value) >= 40 for value in made.values())
    assert made["postgres_password"] in made["airflow_database_url"]
    assert not any(value in first for value in made.values())
    run(tmp_path)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == made


def test_the_folder_is_the_owner_s_and_the_control_api_is_turned_on_once(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("K2_CONTROL_PORT=9999\n")
    run(tmp_path)
    run(tmp_path)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "secrets" / "agent_token").stat().st_mode) == 0o444
    lines = (tmp_path / ".env").read_text().splitlines()
    assert lines == ["K2_CONTROL_PORT=9999", "K2_CONTROL_TOKEN_SOURCE=./secrets/control_token"]


def test_the_group_of_docker_s_socket_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        listening.bind("docker.sock")
        monkeypatch.setitem(ENVIRONMENT, "K2_DOCKER_SOCKET", str(where))
        run(tmp_path)
    assert f"DOCKER_GROUP={where.stat().st_gid}" in (tmp_path / ".env").read_text().splitlines()
