"""Helm is built once, whole or not at all; Go is a script here."""

import os
from pathlib import Path

import pytest

from tests.harness.helm import Build, HelmUnavailable

GO = """#!/bin/sh
[ "$1" = version ] && {{ echo "go version {version} linux/amd64"; exit 0; }}
echo "$@" >> "{log}"
[ -e "{broken}" ] && {{ echo "verifying module: checksum mismatch" >&2; exit 1; }}
while [ "$1" != -o ]; do shift; done
printf helm > "$2"
"""


class Place:
    """A folder with a script in Go's place."""

    def __init__(self, root: Path, version: str = "go1.19.8") -> None:
        self.log, self.broken = root / "log", root / "broken"
        script = root / "bin" / "go"
        script.parent.mkdir(exist_ok=True)
        script.write_text(GO.format(version=version, log=self.log, broken=self.broken))
        script.chmod(0o755)
        self.cache = root / "cache"
        self.build = Build(self.cache / "helm-v1")

    @property
    def builds(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/usr/bin:/bin")
    return Place(tmp_path)


def test_it_is_built_once_with_nothing_but_the_pinned_modules(place: Place) -> None:
    assert place.build.program().read_text() == "helm"
    place.build.program()
    assert place.builds == 1
    assert "-mod=readonly" in place.log.read_text()


def test_a_damaged_program_is_built_again(place: Place) -> None:
    place.build.program().write_text("other")
    assert place.build.program().read_text() == "helm"
    assert place.builds == 2


def test_a_build_that_fails_leaves_nothing_and_says_why(place: Place) -> None:
    place.broken.touch()
    with pytest.raises(HelmUnavailable, match=r"(?s)helm_module/go.mod.*checksum mismatch"):
        place.build.program()
    assert [path.name for path in place.cache.iterdir() if path.suffix != ".lock"] == []


def test_an_old_go_and_no_go_are_said(tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HelmUnavailable, match=r"too old to build helm: .*go1.18.*1.19 or later"):
        Place(tmp_path, "go1.18.1").build.program()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(HelmUnavailable, match="apt-get install golang-go"):
        place.build.program()
