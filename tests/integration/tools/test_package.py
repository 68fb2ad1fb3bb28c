"""The distributions: the same bytes from the same sources, complete, with links that lead somewhere."""

import importlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path

import pytest

import ingest
from tests.harness.interpreters import ROOT
from tests.harness.unpack import unpack

CODE = "import sys; from setuptools.build_meta import build_{kind}; print(build_{kind}(sys.argv[1]))"
PROJECTS = {"k2_ingest": ".", "k2_ingest_ops": "plugins"}


def copy(target: Path, *, mode: int, time: int) -> Path:
    """Copy what a build needs, with other permissions and times."""
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"):
        target.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)
    for folder in ("ingest", "plugins", "tests/campaigns/locks"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
        shutil.copytree(ROOT / folder, target / folder, ignore=ignored, copy_function=shutil.copyfile)
    for path in target.rglob("*"):
        if path.is_file():
            path.chmod(mode)
            os.utime(path, (time, time))
    return target


def build(project: Path, kind: str, target: Path) -> bytes:
    """Build as ``python -m build`` does, without its isolation."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(kind=kind), str(target)],
        cwd=project, capture_output=True, text=True, check=False, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return (target / done.stdout.splitlines()[-1]).read_bytes()


@pytest.mark.integration
@pytest.mark.parametrize("name", PROJECTS)
def test_two_builds_give_the_same_bytes_and_nothing_is_missing(name: str, tmp_path: Path) -> None:
    first = copy(tmp_path / "first", mode=0o644, time=1_700_000_000) / PROJECTS[name]
    second = copy(tmp_path / "second", mode=0o600, time=1_800_000_000) / PROJECTS[name]
    sdist = build(first, "sdist", tmp_path)
    assert build(second, "sdist", tmp_path) == sdist
    with tarfile.open(tmp_path / f"{name}-{ingest.__version__}.tar.gz") as archive:
        unpack(archive, tmp_path / "unpacked")
    unpacked = tmp_path / "unpacked" / f"{name}-{ingest.__version__}"
    wheel = build(unpacked, "wheel", tmp_path)
    assert build(first, "wheel", tmp_path) == wheel, "the sdist has everything that the wheel needs"
    assert not list(unpacked.rglob("test_*"))
    with zipfile.ZipFile(tmp_path / f"{name}-{ingest.__version__}-py3-none-any.whl") as built:
        package = "ingest" if name == "k2_ingest" else "ingest_ops"
        source = {str(path.relative_to(ROOT / PROJECTS[name]))
                  for path in (ROOT / PROJECTS[name] / package).rglob("*.py")}  # fmt: skip
        assert source == {member for member in built.namelist() if member.endswith(".py")}
        metadata = message_from_bytes(built.read(f"{name}-{ingest.__version__}.dist-info/METADATA"))
    assert metadata["Version"] == ingest.__version__
    assert {"Repository", "Documentation", "Changelog", "Issues"} == {
        line.split(", ")[0] for line in metadata.get_all("Project-URL", [])
    }
    text = str(metadata.get_payload())
    assert "](docs/" not in text, "a relative link leads nowhere outside the repository"
    assert ("](https://" in text) is (name == "k2_ingest")


@pytest.fixture
def readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return what the readme of a distribution makes of a text."""
    monkeypatch.syspath_prepend(str(ROOT / "plugins"))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    k2_build = importlib.import_module("k2_build")

    def convert(text: str) -> str:
        (tmp_path / "README.md").write_text(text)
        return str(k2_build.readme(tmp_path / "README.md"))

    return convert


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](docs/a.md)", "[a](R/blob/vV/docs/a.md)"),
        ("[a](docs/a.md#part)", "[a](R/blob/vV/docs/a.md#part)"),
        ("![a](docs/a.svg)", "![a](R/raw/vV/docs/a.svg)"),
        ("[`.ci/packages`](.ci/packages)", "[`.ci/packages`](R/blob/vV/.ci/packages)"),
        ("[a](https://other.example/a)", "[a](https://other.example/a)"),
        ("[a](mailto:a@other.example)", "[a](mailto:a@other.example)"),
        ("[a](#part)", "[a](#part)"),
    ],
)
def test_relative_links_of_the_readme_become_absolute(text: str, expected: str, readme: Callable[[str], str]) -> None:
    repository = "https://git.example/k2-ingest"
    assert readme(text) == expected.replace("R/", f"{repository}/").replace("vV", f"v{ingest.__version__}")
