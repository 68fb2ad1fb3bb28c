"""The Docker agent against a model of the daemon; the real one is tried by the stack's own test."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from docker.errors import ImageNotFound, NotFound

from ingest_ops.agent.docker_slots import DockerSlots, twin
from ingest_ops.agent.slots import AgentRefusal

ATTRS: dict[str, Any] = {
    "Id": "abcdef0123456789",
    "Name": "/k2-ingest-green-1",
    "Created": "2026-01-22T03:00:00.000000000Z",
    "Image": "sha256:one",
    "RestartCount": 2,
    "State": {"Status": "running", "StartedAt": "2026-01-22T03:15:00.123456789Z", "ExitCode": 0, "OOMKilled": False},
    "Config": {
        "Hostname": "abcdef012345",
        "Image": "k2-ingest:v1",
        "Env": ["PATH=/usr/bin", "K2_SLOT=green", "K2_VERSION=v1"],
        "Labels": {"k2.slot": "green", "com.docker.compose.project": "k2"},
    },
    "HostConfig": {"NetworkMode": "k2_internal", "CapDrop": ["ALL"], "ReadonlyRootfs": True, "Memory": 536870912},
    "NetworkSettings": {"Networks": {"k2_internal": {"Aliases": ["ingest-green", "abcdef012345"]}}},
}

BAKED: dict[str, Any] = {"Env": ["PATH=/usr/bin"], "Labels": {"revision": "abc"}, "Cmd": ["run"], "User": "10001"}
"""What the old image brings along."""


class Container:
    def __init__(self, daemon: "Daemon", attrs: dict[str, Any]) -> None:
        self._daemon = daemon
        self.attrs = attrs

    @property
    def status(self) -> str:
        return str(self.attrs["State"]["Status"])

    @property
    def short_id(self) -> str:
        return str(self.attrs["Id"][:10])

    def start(self) -> None:
        self.attrs["State"]["Status"] = "running"

    def stop(self, timeout: int) -> None:
        assert timeout >= 10, "a drain takes up to 10 s"
        self.attrs["State"] |= {"Status": "exited", "ExitCode": 0}


class Daemon:
    """As much of Docker as the agent uses."""

    def __init__(self) -> None:
        self.all = {"green": copy.deepcopy(ATTRS)}
        self.tags = {"k2-ingest:v1": "sha256:one"}
        self.api = self.containers = self.images = self
        self.asked: list[str] = []
        self.told: dict[str, str] = {}

    # containers
    def list(self, *, all: bool, filters: Any) -> Any:  # noqa: A002 (Docker's names)
        wanted = dict(one.split("=", 1) for one in filters["label"])
        return [
            Container(self, attrs)
            for attrs in self.all.values()
            if all and wanted.items() <= attrs["Config"]["Labels"].items()
        ]

    def get(self, name: str) -> Any:
        if name in self.tags:
            return type("Image", (), {"id": self.tags[name]})
        for attrs in self.all.values():
            if attrs["Id"] == name:
                return Container(self, attrs)
        raise ImageNotFound(name)

    # images
    def build(self, *, path: str, tag: str, buildargs: dict[str, str], **_: Any) -> Any:
        assert path == "."
        self.asked.append(f"build {tag}")
        self.told = buildargs
        self.tags[tag] = "sha256:two"
        return self.get(tag), []

    # api
    def create_container_from_config(self, config: dict[str, Any], name: str) -> dict[str, str]:
        made = copy.deepcopy(ATTRS) | {
            "Id": "fedcba9876543210", "Name": f"/{name}", "Image": self.tags[config["Image"]],
            "Config": {k: v for k, v in config.items() if k != "HostConfig"}, "HostConfig": config["HostConfig"],
        }  # fmt: skip
        made["State"] = {"Status": "created", "StartedAt": "0001-01-01T00:00:00Z", "ExitCode": 0}
        self.all["new"] = made
        return {"Id": made["Id"]}

    def remove_container(self, name: str, *, force: bool = False) -> None:
        for key, attrs in self.all.items():
            if name in (attrs["Id"], attrs["Name"].lstrip("/")):
                assert force or attrs["State"]["Status"] != "running"
                del self.all[key]
                return
        raise NotFound(name)

    def inspect_image(self, image: str) -> dict[str, Any]:
        assert image == "sha256:one"
        return {"Config": BAKED}

    def rename(self, container: str, name: str) -> None:
        next(attrs for attrs in self.all.values() if attrs["Id"] == container)["Name"] = f"/{name}"

    def connect_container_to_network(self, container: str, network: str, *, aliases: Sequence[str]) -> None:
        self.asked.append(f"connect {network} as {','.join(aliases)}")

    def disconnect_container_from_network(self, container: str, network: str) -> None:
        pass


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def slots(daemon: Daemon) -> DockerSlots:
    return DockerSlots(daemon, image="k2-ingest", context=Path(), project="k2")


def test_a_status_comes_from_the_labelled_container(slots: DockerSlots) -> None:
    status = slots.status("green")
    assert (status.running, status.version, status.restarts) == (True, "v1", 2)
    assert status.started_at == pytest.approx(1769051700.123456789)
    assert status.control_url == "http://ingest-green:9096"
    assert slots.status("blue").running is False


def test_another_version_is_a_twin_but_for_image_and_version(slots: DockerSlots, daemon: Daemon) -> None:
    assert slots.build("v2") == "sha256:two"
    with pytest.raises(AgentRefusal, match="stop it first"):
        slots.start("green", "v2")
    slots.stop("green")
    status = slots.start("green", "v2")
    assert (status.running, status.version) == (True, "v2")
    (attrs,) = daemon.all.values()
    assert attrs["Name"] == "/k2-ingest-green-1"
    assert attrs["HostConfig"] == ATTRS["HostConfig"]
    assert "K2_SLOT=green" in attrs["Config"]["Env"]
    assert "connect k2_internal as ingest-green" in daemon.asked
    assert slots.start("green", "v2").running, "it can be repeated"


def test_an_image_is_told_its_version_and_the_revision_that_it_was_built_from(
    slots: DockerSlots, daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    slots.build("v2")
    assert daemon.told == {"VERSION": "v2", "REVISION": "unknown"}
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("0123456789abcdef" * 2 + "01234567\n")
    slots.build("v3")
    assert daemon.told == {"VERSION": "v3", "REVISION": "0123456789ab"}


def test_a_twin_has_the_revision_of_its_own_image() -> None:
    attrs = copy.deepcopy(ATTRS)
    attrs["Config"]["Env"] = [*attrs["Config"]["Env"], "K2_REVISION=old"]
    config = twin(attrs, "k2-ingest:v2", "v2", {})
    assert not [one for one in config["Env"] if one.startswith("K2_REVISION=")]
    assert "K2_VERSION=v2" in config["Env"]


def test_what_is_there_is_not_built_again(slots: DockerSlots, daemon: Daemon) -> None:
    assert slots.build("v1") == "sha256:one"
    assert daemon.asked == []


def test_without_an_image_nothing_is_touched(slots: DockerSlots, daemon: Daemon) -> None:
    slots.stop("green")
    with pytest.raises(AgentRefusal, match="build it first"):
        slots.start("green", "v9")
    assert daemon.all["green"]["Id"] == ATTRS["Id"]


def test_a_slot_without_a_container_is_compose_s_business(slots: DockerSlots) -> None:
    with pytest.raises(AgentRefusal, match="docker compose create"):
        slots.start("blue", "v1")


def test_other_projects_containers_are_not_seen(daemon: Daemon) -> None:
    other = DockerSlots(daemon, image="k2-ingest", context=Path(), project="other")
    assert other.status("green").running is False
    other.stop("green")
    assert daemon.all["green"]["State"]["Status"] == "running"


def test_a_twin_has_no_name_of_the_old_container_s_id() -> None:
    config = twin(copy.deepcopy(ATTRS), "k2-ingest:v2", "v2", {})
    assert "Hostname" not in config
    assert [one for one in config["Env"] if one.startswith("K2_VERSION")] == ["K2_VERSION=v2"]
    assert config["HostConfig"]["CapDrop"] == ["ALL"]


def test_what_came_from_the_old_image_alone_comes_from_the_new_one() -> None:
    attrs = copy.deepcopy(ATTRS)
    attrs["Config"] |= {"Cmd": ["run"], "User": "0", "Entrypoint": ["ingest"]}
    attrs["Config"]["Labels"] |= {"revision": "abc", "com.docker.compose.oneoff": "False"}
    config = twin(attrs, "k2-ingest:v2", "v2", BAKED)
    assert config["Env"] == ["K2_SLOT=green", "K2_VERSION=v2"]
    assert "Cmd" not in config
    assert (config["User"], config["Entrypoint"]) == ("0", ["ingest"]), "compose's own word stands"
    assert "revision" not in config["Labels"]
    assert config["Labels"]["com.docker.compose.oneoff"] == "False"
