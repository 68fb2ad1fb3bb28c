"""Jars are verified, and a folder of them is complete or absent; Maven is a script here."""

import os
from pathlib import Path

import pytest

from tests.harness import jars, kafka
from tests.harness.jars import Jars, Unavailable, read_sums

MAVEN = """#!/bin/sh
echo "$@" >> "{log}"
for word in "$@"; do case $word in
    -DoutputDirectory=*) target=${{word#*=}} ;;
    -Dmaven.repo.local=*) fresh=yes ;;
esac; done
[ -e "{broken}" ] && {{ echo "could not transfer"; exit 1; }}
mkdir -p "$target"
printf one > "$target/one.jar"
if [ -e "{damaged}" ] && [ -z "$fresh" ] || [ -e "{gone}" ]; then printf tw > "$target/two.jar"
else printf two > "$target/two.jar"; fi
"""
ONE = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
TWO = "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"


class Place:
    """A folder with a script in Maven's place; marks make it fail."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "log"
        marks = {name: root / name for name in ("broken", "damaged", "gone")}
        script = root / "bin" / "mvn"
        script.parent.mkdir()
        script.write_text(MAVEN.format(log=self.log, **marks))
        script.chmod(0o755)
        (root / "sums").write_text(f"{ONE}  one.jar\n{TWO}  two.jar\n")
        self.jars = Jars("the jars", root / "pom.xml", root / "cache" / "jars", sums=root / "sums")

    @property
    def fetches(self) -> int:
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in (self.root / "cache").iterdir() if not path.name.endswith(".lock"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return Place(tmp_path)


def test_they_are_fetched_once(place: Place) -> None:
    folder = place.jars.fetched()
    assert place.jars.fetched() == folder
    assert (place.fetches, (folder / "two.jar").read_text()) == (1, "two")


@pytest.mark.parametrize("damage", ["truncated", "missing", "foreign", "empty"])
def test_a_jar_that_was_damaged_later_is_fetched_again(
    damage: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = place.jars.fetched()
    match damage:
        case "truncated":
            (folder / "two.jar").write_text("tw")
        case "missing":
            (folder / "two.jar").unlink()
        case "foreign":
            (folder / "three.jar").write_text("three")
        case _:
            (folder / "one.jar").write_text("")
    capsys.readouterr()
    place.jars.fetched()
    assert place.fetches == 2
    assert (folder / "two.jar").read_text() == "two"
    assert not (folder / "three.jar").exists()
    said = capsys.readouterr().err.splitlines()[0]
    assert ".jar" in said
    assert said.endswith(": fetching again")


def test_a_damaged_file_in_maven_s_repository_is_passed_by(place: Place) -> None:
    (place.root / "damaged").touch()
    assert (place.jars.fetched() / "two.jar").read_text() == "two"
    assert "-Dmaven.repo.local=" in place.log.read_text().splitlines()[1]


def test_a_file_that_is_another_everywhere_is_refused_and_nothing_is_left(place: Place) -> None:
    (place.root / "gone").touch()
    with pytest.raises(Unavailable, match=rf"the jars: two\.jar has SHA-256 \w{{64}}, expected {TWO}\. Nothing"):
        place.jars.fetched()
    assert place.left == []


def test_a_fetch_that_fails_says_what_to_do_and_nothing_is_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    (place.root / "broken").touch()
    with pytest.raises(Unavailable, match=r"no longer has it \(then choose another version in pom\.xml\)"):
        place.jars.fetched()
    assert (place.left, place.fetches) == ([], jars.FETCHES)
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(Unavailable, match="no mvn to fetch the jars: install Maven"):
        place.jars.fetched()


def test_an_interrupted_fetch_is_no_folder_of_jars(place: Place) -> None:
    half = place.root / "cache" / "jars"
    half.mkdir(parents=True)
    (half / "one.jar").write_text("one")
    assert (place.jars.fetched() / "two.jar").read_text() == "two"


def test_without_stated_digests_those_of_the_first_fetch_count(place: Place) -> None:
    some = Jars("the jars", place.root / "pom.xml", place.root / "cache" / "jars")
    (some.fetched() / "two.jar").write_text("tw")
    assert (some.fetched() / "two.jar").read_text() == "two"


def test_the_digests_of_the_stated_kafka_are_there() -> None:
    sums = read_sums(kafka.SUMS.read_text())
    assert f"kafka-clients-{kafka.stated_version()}.jar" in sums
    assert all(len(value) == 64 for value in sums.values())


@pytest.mark.parametrize("line", ["word", ONE, f"{ONE[:-1]}  one.jar", f"{ONE} "])
def test_stated_digests_that_are_none_are_named_by_line(line: str, place: Place) -> None:
    (place.root / "sums").write_text(f"{TWO}  two.jar\n{line}\n")
    with pytest.raises(
        Unavailable, match=r"sums: line 2: .* is not a SHA-256 and a file name; restore it: git checkout"
    ):
        place.jars.fetched()
    (place.root / "cache" / "jars").mkdir(parents=True)
    with pytest.raises(Unavailable, match=r"sums: line 2: "):
        place.jars.fetched()


def test_a_file_in_the_folder_s_place_gives_way(place: Place) -> None:
    (place.root / "cache").mkdir()
    (place.root / "cache" / "jars").write_text("a file")
    assert (place.jars.fetched() / "two.jar").read_text() == "two"


def test_what_a_killed_fetch_left_is_removed_by_the_next(place: Place) -> None:
    left = place.root / "cache" / "jars.abcd1234" / "jars"
    left.mkdir(parents=True)
    (left / "one.jar").write_text("on")
    other = place.root / "cache" / "jars.kept"
    other.mkdir()
    place.jars.fetched()
    assert place.left == ["jars", "jars.kept"]


def test_complete_jars_need_nothing_to_be_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = place.jars.fetched()

    def refused(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refused)  # root may write everywhere: permissions alone show nothing
    assert place.jars.fetched() == folder
    (folder / "two.jar").write_text("tw")
    with pytest.raises(Unavailable, match=r"the jars: \S+/cache: Permission denied; it must be writable for the first"):
        place.jars.fetched()
