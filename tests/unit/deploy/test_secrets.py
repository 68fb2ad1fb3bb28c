"""``make secrets``: made once, kept afterwards, out of others' reach."""

import re
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
    clients = {f"kafka_{user}.properties" for user in ("writer", "auditor", "reader")}
    assert set(FILE["secrets"]) | clients == set(made)
    assert len(set(made.values())) == len(made)
    # The password in the URL has no - and no _ of its 43 characters: some fewer.
    assert all(len(value) >= 30 for value in made.values())
    assert made["postgres_password"] in made["airflow_database_url"]
    assert not any(value in first for value in made.values())
    run(tmp_path)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == made


def test_clients_of_kafka_have_a_file_of_their_own_that_follows_the_password(tmp_path: Path) -> None:
    run(tmp_path)
    secrets = tmp_path / "secrets"
    (secrets / "kafka_reader_password").chmod(0o644)
    (secrets / "kafka_reader_password").write_text("another one, rotated by hand")
    run(tmp_path)
    path = secrets / "kafka_reader.properties"
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert dict(line.split("=", 1) for line in path.read_text().splitlines()) == {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "reader",
        "sasl.password": "another one, rotated by hand",
    }


def test_the_folder_is_the_owner_s_and_the_control_api_is_turned_on_once(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("K2_CONTROL_PORT=9999\n")
    run(tmp_path)
    run(tmp_path)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "secrets" / "agent_token").stat().st_mode) == 0o444
    lines = (tmp_path / ".env").read_text().splitlines()
    assert lines == [
        "K2_CONTROL_PORT=9999",
        "K2_CONTROL_TOKEN_SOURCE=./secrets/control_token",
        "KAFKA_WRITER_PASSWORD_SOURCE=./secrets/kafka_writer_password",
        "KAFKA_AUDITOR_PASSWORD_SOURCE=./secrets/kafka_auditor_password",
        "KAFKA_READER_PASSWORD_SOURCE=./secrets/kafka_reader_password",
    ]


def test_the_group_of_docker_s_socket_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(tmp_path)  # the path of a socket is short
        listening.bind("docker.sock")
        monkeypatch.setitem(ENVIRONMENT, "K2_DOCKER_SOCKET", str(where))
        run(tmp_path)
    assert f"DOCKER_GROUP={where.stat().st_gid}" in (tmp_path / ".env").read_text().splitlines()


def test_kafka_s_users_are_made_when_their_passwords_begin_to_exist() -> None:
    """Compose makes a container anew when its service changes, not when its secrets come from elsewhere."""
    sources = {name: re.findall(r"\w+_SOURCE", str(one)) for name, one in FILE["secrets"].items()}
    (service,) = (one for one in FILE["services"].values() if "kafka_reader_password" in one.get("secrets", []))
    changing = {source for secret in service["secrets"] for source in sources[secret]}
    assert len(changing) == 3
    assert any(source in str(service["labels"]) for source in changing)  # `make secrets` sets all of them at once
