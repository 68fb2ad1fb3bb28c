"""Slots as containers, through Docker's own client library. The one part that can reach the socket.

The containers are those of the compose file, found by the label ``k2.slot``, which is ``blue`` or ``green``: the names
of the services differ with what the feed comes from. A slot gets another version by a container that is the old one's
twin but for the image and the version: limits, networks, secrets and security options stay what compose made them.
Nothing of a container comes from the caller but a slot's name and a version's.
"""

import contextlib
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import docker
import requests
from docker.errors import APIError, BuildError, DockerException, ImageNotFound, NotFound

from ingest_ops.agent.revision import revision_of, tags_of
from ingest_ops.agent.slots import SLOTS, AgentRefusal, AgentTrouble, SlotStatus, check_slot, check_version
from ingest_ops.agent.slots import VERSION as VERSION_NAME

log = logging.getLogger(__name__)

SLOT = "k2.slot"
PROJECT = "com.docker.compose.project"
VERSION = "k2.version"
STOP_SECONDS = 15
TROUBLE = (DockerException, requests.RequestException)


class DockerSlots:
    """Two containers of one compose project."""

    def __init__(
        self, client: Any, *, image: str, context: Path, project: str = "", status_port: int = 9095,
        control_port: int = 9096,
    ) -> None:  # fmt: skip
        self._client = client
        self._image = image
        self._context = context
        self._project = project
        self._ports = (status_port, control_port)
        self._locks = {slot: threading.Lock() for slot in SLOTS}

    @classmethod
    def connect(cls, *, image: str, context: Path, project: str = "") -> "DockerSlots":
        """Over the socket that ``DOCKER_HOST`` names, or the usual one. Raises ``AgentRefusal``."""
        try:
            client = docker.from_env(timeout=60)
            client.ping()
        except TROUBLE as error:
            raise AgentRefusal(f"no Docker: {error}") from error
        return cls(client, image=image, context=context, project=project)

    # --- the verbs ---

    def build(self, version: str) -> str:
        """Build the image, unless there is one of that version. Returns its id."""
        tag = f"{self._image}:{check_version(version)}"
        try:
            found: str = self._client.images.get(tag).id
        except ImageNotFound:
            pass
        except TROUBLE as error:
            raise AgentTrouble(str(error)) from error
        else:
            return found
        try:
            image, _ = self._client.images.build(
                path=str(self._context),
                tag=tag,
                buildargs={"VERSION": version, "REVISION": revision_of(self._context)},
                labels={VERSION: version},
                rm=True,
            )
        except BuildError as error:
            raise AgentRefusal(f"{error}: {_tail(error)}") from error
        except (*TROUBLE, TypeError) as error:
            raise AgentTrouble(str(error)) from error
        built: str = image.id
        return built

    def start(self, slot: str, version: str) -> SlotStatus:
        """See ``Slots``."""
        check_version(version)
        with self._locks[check_slot(slot)]:
            return self._guarded(lambda: self._start(slot, version))

    def stop(self, slot: str) -> SlotStatus:
        """See ``Slots``."""
        with self._locks[check_slot(slot)]:
            return self._guarded(lambda: self._stop(slot))

    def status(self, slot: str) -> SlotStatus:
        """See ``Slots``."""
        return self._guarded(lambda: self._status(check_slot(slot)))

    def versions(self) -> list[str]:
        """See ``Slots``: the tags of the image, then those of the checkout."""
        try:
            images = self._client.images.list(name=self._image)
        except TROUBLE as error:
            raise AgentTrouble(f"Docker: {error}") from error
        images = sorted(images, key=lambda image: str(image.attrs.get("Created", "")), reverse=True)
        built = [name.rpartition(":")[2] for image in images for name in image.tags]
        return list(dict.fromkeys(name for name in (*built, *tags_of(self._context)) if VERSION_NAME.fullmatch(name)))

    def close(self) -> None:
        """Close the connection to the socket."""
        self._client.close()

    # --- how ---

    @staticmethod
    def _guarded(call: Callable[[], SlotStatus]) -> SlotStatus:
        try:
            return call()
        except TROUBLE as error:
            raise AgentTrouble(f"Docker: {error}") from error

    def _containers(self, slot: str) -> list[Any]:
        labels = [f"{SLOT}={slot}"] + ([f"{PROJECT}={self._project}"] if self._project else [])
        found = self._client.containers.list(all=True, filters={"label": labels})
        return sorted(found, key=lambda container: str(container.attrs["Created"]), reverse=True)

    def _container(self, slot: str) -> Any | None:
        """The slot's container. A twin that a crash left behind beside the real one is the younger of the two."""
        found = self._containers(slot)
        running = [container for container in found if container.status in ("running", "restarting")]
        return next(iter(running or found), None)

    def _status(self, slot: str) -> SlotStatus:
        container = self._container(slot)
        status_port, control_port = self._ports
        status_url, control_url = (f"http://ingest-{slot}:{port}" for port in (status_port, control_port))
        if container is None:
            return SlotStatus(
                slot=slot, running=False, detail="no container", status_url=status_url, control_url=control_url
            )
        state = container.attrs["State"]
        running = state["Status"] in ("running", "restarting")
        return SlotStatus(
            slot=slot,
            running=running,
            version=_version(container.attrs),
            started_at=_seconds(state["StartedAt"]),
            exit_code=None if running else state["ExitCode"],
            restarts=container.attrs["RestartCount"],
            detail=f"container {container.short_id}, {state['Status']}"
            + (", out of memory" if state.get("OOMKilled") else ""),
            status_url=status_url,
            control_url=control_url,
        )

    def _start(self, slot: str, version: str) -> SlotStatus:
        container = self._container(slot)
        if container is None:
            raise AgentRefusal(f"no container of slot {slot}: create it with `docker compose create`")
        image = f"{self._image}:{version}"
        if container.status in ("running", "restarting"):
            if _version(container.attrs) != version:
                raise AgentRefusal(f"slot {slot} runs version {_version(container.attrs)}: stop it first")
            return self._status(slot)
        try:
            wanted = self._client.images.get(image).id
        except ImageNotFound as error:
            raise AgentRefusal(f"no image {image}: build it first") from error
        if container.attrs["Image"] != wanted or _version(container.attrs) != version:
            container = self._replace(container, image, version)
        container.start()
        return self._status(slot)

    def _replace(self, old: Any, image: str, version: str) -> Any:
        """A twin of the container with another image. The old one goes once the new one exists."""
        api, attrs = self._client.api, old.attrs
        try:
            baked = self._client.api.inspect_image(attrs["Image"])["Config"] or {}
        except NotFound:  # it was pruned: what it had baked in stays as it is
            baked = {}
        config = twin(attrs, image, version, baked)
        name = attrs["Name"].lstrip("/")
        beside = f"{name}-{version}-new"
        with contextlib.suppress(NotFound):
            api.remove_container(beside, force=True)  # left behind by a crash of ours
        networks = attrs["NetworkSettings"]["Networks"]
        created = api.create_container_from_config(config, beside)["Id"]
        for network, settings in networks.items():
            aliases = [a for a in settings.get("Aliases") or [] if not attrs["Id"].startswith(a)]
            if network != attrs["HostConfig"]["NetworkMode"]:
                api.connect_container_to_network(created, network, aliases=aliases)
            else:
                try:
                    api.disconnect_container_from_network(created, network)
                except APIError as error:
                    log.debug("%s was not attached to %s yet: %s", beside, network, error)
                api.connect_container_to_network(created, network, aliases=aliases)
        api.remove_container(attrs["Id"])
        api.rename(created, name)
        return self._client.containers.get(created)

    def _stop(self, slot: str) -> SlotStatus:
        for container in self._containers(slot):
            if container.status in ("running", "restarting", "paused"):
                container.stop(timeout=STOP_SECONDS)
        return self._status(slot)


def twin(attrs: dict[str, Any], image: str, version: str, baked: dict[str, Any]) -> dict[str, Any]:
    """The configuration of a container that is the inspected one's twin but for image and version.

    ``baked``: the old image's own configuration. What a container has from its image alone comes from the new one.
    """
    config = dict(attrs["Config"])
    for key in ("Cmd", "Entrypoint", "WorkingDir", "User", "Healthcheck", "StopSignal", "ExposedPorts"):
        if key in config and config[key] == baked.get(key):
            del config[key]
    inherited = set(baked.get("Env") or [])
    told_anew = ("K2_VERSION=", "K2_REVISION=")
    environment = [one for one in config.get("Env") or [] if one not in inherited and not one.startswith(told_anew)]
    config["Env"] = [*environment, f"K2_VERSION={version}"]
    config["Image"] = image
    labels = (config.get("Labels") or {}).items() - (baked.get("Labels") or {}).items()
    config["Labels"] = {**dict(labels), VERSION: version}
    if config.get("Hostname") and attrs["Id"].startswith(config["Hostname"]):
        del config["Hostname"]  # made from the old container's id
    config["HostConfig"] = attrs["HostConfig"]
    return config


def _version(attrs: dict[str, Any]) -> str:
    environment = dict(one.partition("=")[::2] for one in attrs["Config"].get("Env") or [])
    labels = attrs["Config"].get("Labels") or {}
    return str(environment.get("K2_VERSION") or labels.get(VERSION) or "")


def _seconds(text: str) -> float | None:
    """Docker's nanoseconds are more than Python's parser takes; year 1 means never."""
    if text.startswith("0001-"):
        return None
    whole, _, rest = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{rest or 0}")


def _tail(error: BuildError) -> str:
    lines = [str(part.get("stream") or part.get("error") or "").strip() for part in error.build_log]
    return " | ".join(line for line in lines if line)[-1000:]
