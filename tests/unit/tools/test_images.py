"""Digests of images come from their registries, or nothing is written."""

import os
import re
import shutil
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.harness.interpreters import ROOT
from tools import images
from tools.images import NotPinned

DOCKER = """#!/bin/sh
[ "$2" = version ] && exit 0
case "$4" in
{gone}) echo "ERROR: unauthorized" >&2; echo "ERROR: $4: not found" >&2; exit 1 ;;
esac
echo "sha256:$(printf '%s' "$4" | sha256sum | cut -d' ' -f1)"
"""


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (images.COMPOSE, *images.DOCKERFILES):
        shutil.copy(ROOT / name, tmp_path / name)
    write_docker(tmp_path, gone="nothing")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def write_docker(root: Path, gone: str) -> None:
    (root / "bin").mkdir(exist_ok=True)
    (root / "bin" / "docker").write_text(DOCKER.format(gone=gone))
    (root / "bin" / "docker").chmod(0o755)


def test_every_image_of_the_stack_is_pinned_by_digest(tree: Path) -> None:
    override = yaml.safe_load(images.pinned(tree))["services"]
    stated = yaml.safe_load((tree / images.COMPOSE).read_text())["services"]
    assert {name for name, service in stated.items() if not service["image"].startswith("k2-ingest")} <= set(override)
    for name, service in override.items():
        reference = service.get("image") or service["build"]["args"][images.BASE]
        assert re.fullmatch(r"[^@:]+:[^@:]+@sha256:[0-9a-f]{64}", reference), name
    assert override["kafka"]["image"].startswith(stated["kafka"]["image"] + "@")
    assert any("build" in service for service in override.values())


def test_what_has_no_digest_is_named_and_nothing_is_written(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_docker(tree, gone="apache/kafka:*|grafana/*")
    monkeypatch.setattr(images, "ROOT", tree)
    monkeypatch.setattr(images, "pinned", partial(images.pinned, tree))
    assert images.main([]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["apache/kafka", "grafana/grafana", "nothing was written"]
    assert "not found" in lines[0]
    assert not (tree / images.TARGET).exists()


def test_without_docker_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(NotPinned, match="no docker to ask the registries with"):
        images.pinned()


def test_every_image_is_named_by_an_exact_tag() -> None:
    named = [images.base(), *(image for image in images.services().values() if image)]
    assert [image for image in named if not re.search(r":v?\d+\.\d+(\.\d+)?(-[\w.-]+)?$", image)] == []
