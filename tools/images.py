"""Pins the digests of the images that the stack is made of (``make pin-images``).

Dockerfiles and docker-compose.yaml name exact tags; a tag can be pushed again. This asks their registries, through
Docker, for the digest of each, and writes deploy/pinned.yaml: an override for compose. Needs Docker with buildx.
"""

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
COMPOSE, TARGET = "docker-compose.yaml", "deploy/pinned.yaml"
BASE = "PYTHON_IMAGE"
DOCKERFILES = ("Dockerfile", "Dockerfile.airflow")
SECONDS = 60


class NotPinned(Exception):
    """A digest could not be had; the text says of which image and why."""


def base(root: Path = ROOT) -> str:
    """The image that ours are built on. Raises ``NotPinned`` if the Dockerfiles differ."""
    found = {re.search(rf"^ARG {BASE}=(\S+)$", (root / name).read_text(), re.M) for name in DOCKERFILES}
    names = {match[1] for match in found if match}
    if len(names) != 1:
        raise NotPinned(f"{' and '.join(DOCKERFILES)} must name one {BASE}, they name {sorted(names)}")
    return names.pop()


def services(root: Path = ROOT) -> dict[str, str | None]:
    """Service -> its image; None if it is one of ours, built from a Dockerfile."""
    stated = yaml.safe_load((root / COMPOSE).read_text())["services"]
    return {
        name: None if "build" in service or service["image"].startswith("k2-ingest") else service["image"]
        for name, service in stated.items()
    }


def digest(image: str) -> str:
    """Digest of an image with all its platforms. Raises ``NotPinned``."""
    command = ["docker", "buildx", "imagetools", "inspect", image, "--format", "{{.Manifest.Digest}}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise NotPinned(f"{image}: its registry did not answer within {SECONDS} s") from None
    found = done.stdout.strip()
    if done.returncode or not re.fullmatch(r"sha256:[0-9a-f]{64}", found):
        why = (done.stderr.strip() or found or "no digest").splitlines()[-1]
        raise NotPinned(f"{image}: {why}")
    return found


def require_docker() -> None:
    """Raise ``NotPinned`` if there is nothing to ask a registry with."""
    docker = shutil.which("docker")
    if docker is None:
        raise NotPinned("no docker to ask the registries with")
    if subprocess.run([docker, "buildx", "version"], capture_output=True, check=False, timeout=SECONDS).returncode:
        raise NotPinned("this docker has no buildx to ask the registries with (Debian 13: docker-buildx)")


def pinned(root: Path = ROOT) -> str:
    """Text of the override. Raises ``NotPinned`` with every image that has no digest."""
    require_docker()
    stated, python = services(root), base(root)
    digests, problems = {}, []
    for image in sorted({python, *(image for image in stated.values() if image)}):
        try:
            digests[image] = f"{image}@{digest(image)}"
        except NotPinned as error:
            problems.append(str(error))
    if problems:
        raise NotPinned("\n".join(problems))
    override = {
        name: {"image": digests[image]} if image else {"build": {"args": {BASE: digests[python]}}}
        for name, image in stated.items()
        if image or "build" in _service(root, name)
    }
    head = "# Made by `make pin-images`: docker compose -f docker-compose.yaml -f deploy/pinned.yaml up\n"
    return head + yaml.safe_dump({"services": override}, sort_keys=True, width=200)


def _service(root: Path, name: str) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load((root / COMPOSE).read_text())["services"][name]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the digest of every image into deploy/pinned.yaml."""
    argparse.ArgumentParser(prog="python -m tools.images", description=main.__doc__).parse_args(arguments)
    try:
        text = pinned()
    except NotPinned as error:
        sys.stderr.write(f"{error}\nnothing was written: {TARGET} needs the digest of every image\n")
        return 1
    (ROOT / TARGET).write_text(text)
    sys.stdout.write(f"written: {TARGET}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
