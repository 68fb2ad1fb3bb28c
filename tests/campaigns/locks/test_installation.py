"""Installations with real pips from an index that offers newer versions: what is locked, or nothing."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.campaigns.locks import fabricate
from tests.campaigns.locks.index import Index
from tests.campaigns.locks.installed import differences, site
from tests.campaigns.locks.proof import environment as settings
from tests.harness.interpreters import interpreters, version_of
from tools import environment, locks
from tools.locks import BadLock

pytestmark = pytest.mark.integration

LOCK = "requirements/demo.txt"
WHEELS = [
    fabricate.wheel("k2-test-app", "1.0", ["k2-test-library[fast]>=1", "k2-test-plain"]),
    fabricate.wheel("k2-test-library", "1.5", ['k2-test-speed>=2; extra == "fast"'], extras=["fast"]),
    fabricate.wheel("k2-test-plain", "0.3"),
    fabricate.wheel("k2-test-speed", "2.0"),
]


@pytest.fixture(scope="module", params=interpreters(), ids=lambda python: ".".join(map(str, version_of(python))))
def venv(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the pip that the interpreter brings: with Debian's, the oldest that is supported."""
    folder = tmp_path_factory.mktemp("venv") / "venv"
    subprocess.run([request.param, "-m", "venv", str(folder)], check=True)
    return folder


@pytest.fixture
def index() -> Iterator[Index]:
    with Index(dict(WHEELS)) as running:
        yield running


def write_lock(root: Path, wheels: Sequence[tuple[str, bytes]]) -> None:
    """Write a sealed lock in a tree of its own."""
    for name in (locks.SERVICE, locks.OPERATIONS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text('[project]\nname = "test"\n')
    lines = []
    for file, content in wheels:
        name, version, _ = file.split("-", 2)
        extras = "[fast]" if name.endswith("library") else ""
        lines.append(f"{locks.normal(name)}{extras}=={version} --hash=sha256:{hashlib.sha256(content).hexdigest()}\n")
    (root / LOCK).parent.mkdir(exist_ok=True)
    (root / LOCK).write_text("".join(lines))
    sealed = {LOCK: locks.digest(root / LOCK), locks.INPUTS: locks.inputs_digest(root)}
    (root / locks.SEALS).write_text("".join(f"{value}  {name}\n" for name, value in sealed.items()))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: Index) -> Path:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    for name, value in settings(index).items():
        monkeypatch.setenv(name, value)
    write_lock(tmp_path, WHEELS)
    return tmp_path


def names(venv: Path) -> list[str]:
    return sorted(path.name for path in site(venv).iterdir() if path.name.startswith("k2_test"))


@pytest.fixture
def empty(venv: Path) -> None:
    """Take away what the test before installed."""
    for path in site(venv).glob("k2_test*"):
        shutil.rmtree(path)


@pytest.mark.usefixtures("empty")
def test_what_is_installed_is_what_is_locked(venv: Path, root: Path, index: Index) -> None:
    environment.install(LOCK, venv, root)
    tools = frozenset({"pip", "setuptools"})
    pins = locks.check(LOCK, root)
    assert differences(venv, pins, index, tools) == []
    module = site(venv) / "k2_test_plain" / "__init__.py"
    module.write_text("altered\n")
    found = differences(venv, pins, index, tools)
    assert len(found) == 2, "the comparison sees one altered file, by RECORD and by the wheel"


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_one_bad_file_and_nothing_is_installed(
    damage: str, venv: Path, root: Path, index: Index, capfd: pytest.CaptureFixture[str]
) -> None:
    file, content = WHEELS[-1]
    index.files.pop(file)
    if damage == "truncated":
        index.files[file] = content[:-100]
    with pytest.raises(BadLock, match=r"requirements/demo\.txt: pip did not install it"):
        environment.install(LOCK, venv, root)
    assert names(venv) == []
    assert not (venv / ".incomplete").exists()
    assert "k2-test-speed" in capfd.readouterr().err.replace("_", "-")


def test_an_interrupted_installation_is_done_anew(
    root: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fresh = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(fresh)], check=True)
    (site(fresh) / "half").mkdir()
    (fresh / ".incomplete").touch()
    environment.install(LOCK, fresh, root)
    assert "was interrupted while it was filled: the environment is made again" in capfd.readouterr().err
    assert not (site(fresh) / "half").exists()
    assert len(names(fresh)) == 2 * len(WHEELS)


@pytest.mark.usefixtures("empty")
def test_the_caller_s_environment_does_not_say_where_pip_installs(
    venv: Path, root: Path, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    false = tmp_path / "path" / "pip"
    false.mkdir(parents=True)
    (false / "__init__.py").write_text("raise SystemExit('a pip of PYTHONPATH')\n")
    monkeypatch.setenv("PYTHONPATH", str(false.parent))
    for name in ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_REQUIREMENT", str(tmp_path / "absent.txt"))
    environment.install(LOCK, venv, root)
    assert differences(venv, locks.check(LOCK, root), index, frozenset({"pip", "setuptools"})) == []
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.usefixtures("empty")
def test_what_left_the_lock_is_removed_and_nothing_else(venv: Path, root: Path, index: Index) -> None:
    (venv / environment.LOCKED).unlink(missing_ok=True)
    by_hand = fabricate.wheel("k2-test-by-hand", "1.0")
    index.files[by_hand[0]] = by_hand[1]
    environment.install(LOCK, venv, root)
    subprocess.run(environment.pip(venv, "install", "--quiet", "k2-test-by-hand==1.0"), check=True)
    write_lock(root, WHEELS[:-1])
    environment.install(LOCK, venv, root)
    found = {name for name in names(venv) if name.endswith(".dist-info")}
    assert "k2_test_speed-2.0.dist-info" not in found
    assert len(found) == len(WHEELS[:-1]) + 1, "what was installed by hand stays"


def made(root: Path, lock: str, monkeypatch: pytest.MonkeyPatch, index: Index) -> dict[str, locks.Pin]:
    """What ``make`` writes with the real uv from the index on loopback."""
    (root / locks.SERVICE).write_text('[project]\nname = "test"\n[dependency-groups]\none = ["k2-test-app==1.0"]\n')
    sources = {LOCK: locks.Source(groups=("one",), constraint=False)}
    monkeypatch.setattr(locks, "LOCKS", sources)
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
    monkeypatch.setenv("UV_NO_CACHE", "1")
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    locks.make([lock], upgrade=False, root=root)
    return locks.check(LOCK, root)


def test_a_false_hash_does_not_survive_the_making(root: Path, monkeypatch: pytest.MonkeyPatch, index: Index) -> None:
    lock, false = root / LOCK, "f" * 64
    lock.write_text(lock.read_text().replace("k2-test-plain==0.3", f"k2-test-plain==0.3 --hash=sha256:{false}"))
    pins = made(root, LOCK, monkeypatch, index)
    assert pins["k2-test-plain"].version == "0.3", "the index offers a newer one, which was not wanted"
    assert all(false not in pin.hashes for pin in pins.values())
    assert pins["k2-test-plain"].hashes == {
        hashlib.sha256(dict(WHEELS)["k2_test_plain-0.3-py3-none-any.whl"]).hexdigest()
    }
