"""The archive of Kafka's classes: one for each Java and each set of jars, and one that the JVM takes."""

import os
from pathlib import Path

import pytest

from tests.harness.kafka import KafkaUnavailable, jars, java
from tests.harness.kafka_classes import archive, loaded, options


def program(folder: Path, text: str) -> str:
    folder.mkdir()
    path = folder / "java"
    path.write_text(text)
    return str(path)


def test_another_java_and_other_jars_have_an_archive_of_their_own(tmp_path: Path) -> None:
    old, new = program(tmp_path / "old", "17"), program(tmp_path / "new", "25.1")
    places = {archive(one, tmp_path / name) for one in (old, new) for name in ("kafka-1", "kafka-2")}
    assert len(places) == 4
    assert archive(old, tmp_path / "kafka-1") in places
    Path(old).write_text("17.0.1")
    assert archive(old, tmp_path / "kafka-1") not in places


def test_it_is_asked_for_where_there_is_one_only(tmp_path: Path) -> None:
    one = program(tmp_path / "bin", "17")
    assert options(one, tmp_path / "kafka-1") == []
    archive(one, tmp_path / "kafka-1").touch()
    assert options(one, tmp_path / "kafka-1")[0] == f"-XX:SharedArchiveFile={archive(one, tmp_path / 'kafka-1')}"
    assert options(one, tmp_path / "kafka-2") == []


@pytest.mark.integration
def test_java_takes_the_archive_and_a_broken_one_is_noticed(tmp_path: Path) -> None:
    try:
        found = archive(java(), jars())
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka: {error}")
    if not found.exists() and not os.environ.get("CI"):
        pytest.skip("this Java makes no archive of classes")
    assert loaded(java(), jars(), found) > 500
    half = tmp_path / "half.jsa"
    half.write_bytes(found.read_bytes()[: found.stat().st_size // 50])
    assert loaded(java(), jars(), half) == 0
