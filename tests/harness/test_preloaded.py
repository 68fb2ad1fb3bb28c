"""Libraries that are compiled once, whoever asks."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness.preloaded import NoCompilerError, library

SOURCE = "int one(void) { return 1; }\n"


def test_many_that_ask_at_once_get_the_same_library(tmp_path: Path) -> None:
    source = tmp_path / "one.c"
    source.write_text(SOURCE, encoding="ascii")
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda _: library(source, tmp_path / "cache"), range(8)))
    assert [path.read_bytes()[:4] for path in made] == [b"\x7fELF"]
    assert list((tmp_path / "cache").iterdir()) == list(made)


def test_what_does_not_compile_says_why(tmp_path: Path) -> None:
    source = tmp_path / "wrong.c"
    source.write_text("int one(void) { return missing; }\n", encoding="ascii")
    with pytest.raises(NoCompilerError, match=r"wrong\.c could not be compiled:\n(.|\n)*missing"):
        library(source, tmp_path / "cache")


def test_without_a_compiler_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoCompilerError, match="apt-get install gcc"):
        library(tmp_path / "one.c", tmp_path / "cache")
