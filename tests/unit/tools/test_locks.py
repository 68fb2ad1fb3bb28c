"""A lock that cannot be trusted is refused with a clear line; a lock that can be is complete."""

import re
import shutil
import subprocess
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tools import environment, locks
from tools.locks import ROOT, BadLock, Pin

A, B = "a" * 64, "b" * 64
GOOD = f"""\
one==1.0 \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
    # via two
two[x, y]==2.1.post1 --hash=sha256:{B}
"""


def test_entries_are_read_with_extras_and_all_hashes() -> None:
    pins = locks.parse(GOOD, "some.txt")
    assert pins == {
        "one": Pin("one", (), "1.0", frozenset({A, B})),
        "two": Pin("two", ("x", "y"), "2.1.post1", frozenset({B})),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("one>=1.0 --hash=sha256:" + A, "some.txt:1: 'one>=1.0' is not pinned as name==version"),
        ("one", "some.txt:1: 'one' is not pinned as name==version"),
        ("one==1.*" + " --hash=sha256:" + A, "some.txt:1: 'one==1.*' is not pinned as name==version"),
        ("-e .", "some.txt:1: '-e .' is not pinned as name==version"),
        ("one @ https://host.example/one.whl --hash=sha256:" + A, "is not pinned as name==version"),
        (GOOD + "three==3.0\n", "some.txt:6: three==3.0 has no hash"),
        ("one==1.0 --hash=sha256:abc", "'--hash=sha256:abc' is not a SHA-256 hash of 64 hexadecimal digits"),
        ("one==1.0 --hash=md5:" + A, "is not a SHA-256 hash"),
        ("one==1.0 --no-binary", "is not a SHA-256 hash"),
        (GOOD + GOOD, "some.txt:6: one is listed twice"),
        (f"One.a==1 --hash=sha256:{A}\none-A==2 --hash=sha256:{B}", "some.txt:2: one-a is listed twice"),
        ("# nothing\n\n", "some.txt: has no entry"),
        ("one==1.0 \\\n", "some.txt:1: one==1.0 has no hash"),
    ],
)
def test_what_pip_must_not_be_given_is_refused_by_line(text: str, message: str) -> None:
    with pytest.raises(BadLock) as refused:
        locks.parse(text, "some.txt")
    assert message in str(refused.value)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The repository's locks and what they are made from."""
    for name in (*locks.LOCKS, locks.SEALS, locks.SERVICE, locks.OPERATIONS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


@pytest.mark.parametrize("name", locks.LOCKS)
def test_every_lock_is_sealed_and_younger_than_its_requirements(name: str, tree: Path) -> None:
    assert locks.check(name, tree)


def newer(text: str) -> str:
    return text.replace("certifi==", "certifi==1", 1)


def without_hashes(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if "--hash" not in line).replace(" \\\n", "\n")


def cut(text: str) -> str:
    return text[: len(text) // 2]


def more(text: str) -> str:
    return f"{text}more==1.0 --hash=sha256:{A}\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (newer, "requirements/service.txt: differs from what `make locks` wrote"),
        (more, "requirements/service.txt: differs from what `make locks` wrote"),
        (without_hashes, "has no hash"),
        (cut, "requirements/service.txt"),
    ],
)
def test_a_lock_that_was_changed_by_hand_installs_nothing(
    change: Callable[[str], str], message: str, tree: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lock, venv = tree / "requirements/service.txt", tmp_path / "venv"
    lock.write_text(change(lock.read_text()))
    venv.mkdir()
    with pytest.raises(BadLock) as refused:
        environment.install("requirements/service.txt", venv, tree)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(venv.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_a_lock_older_than_its_requirements_is_refused(tree: Path) -> None:
    project = tree / locks.OPERATIONS
    project.write_text(project.read_text().replace('"jinja2>=3', '"jinja2>=4'))
    with pytest.raises(BadLock, match=r"requirements/demo\.txt: is older than the requirements .* run `make locks`"):
        locks.check("requirements/demo.txt", tree)


def test_a_missing_lock_says_what_makes_it(tree: Path) -> None:
    (tree / "requirements/demo.txt").unlink()
    with pytest.raises(BadLock, match=r"requirements/demo\.txt: No such file or directory; `make locks` makes it"):
        locks.check("requirements/demo.txt", tree)


def test_the_command_says_it_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert locks.main(["check", "requirements/absent.txt"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def missing(pins: dict[str, Pin]) -> list[str]:
    """Requirements of the locked distributions that the lock itself does not satisfy."""
    found = []
    for pin in pins.values():
        for text in distribution(pin.name).requires or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is not None and not any(marker.evaluate({"extra": extra}) for extra in ("", *pin.extras)):
                continue
            other = pins.get(locks.normal(requirement.name))
            if other is None or not requirement.specifier.contains(other.version, prereleases=True):
                found.append(f"{pin.name}: {text}")
            elif not {locks.normal(one) for one in requirement.extras} <= {locks.normal(one) for one in other.extras}:
                found.append(f"{pin.name}: {text} (an extra that the lock does not name)")
    return found


OF_THIS_ENVIRONMENT = [name for name, source in locks.LOCKS.items() if source.constraint or name.endswith("/all.txt")]


@pytest.mark.parametrize("name", [name for name in OF_THIS_ENVIRONMENT if "release" not in name])
def test_a_lock_satisfies_every_requirement_that_it_reaches(name: str) -> None:
    pins = locks.check(name)
    assert missing(pins) == []
    for gone in ("anyio", "mypy-extensions"):
        assert gone not in pins or missing({key: pin for key, pin in pins.items() if key != gone})


@pytest.mark.parametrize("name", ["service", "demo", "airflow", "build"])
def test_every_lock_has_the_versions_of_the_whole(name: str) -> None:
    whole, part = locks.check("requirements/all.txt"), locks.check(f"requirements/{name}.txt")
    assert {pin.name: pin.version for pin in part.values()}.items() <= {
        p.name: p.version for p in whole.values()
    }.items()


def test_every_file_with_hashes_is_a_sealed_lock_and_in_the_proof() -> None:
    listed = subprocess.run(["git", "ls-files", "*.txt"], cwd=ROOT, check=True, capture_output=True, text=True)
    hashed = {name for name in listed.stdout.splitlines() if "--hash=sha256:" in locks.read(name)}
    assert hashed == set(locks.LOCKS)
    assert set(locks.seals()) == {*hashed, locks.INPUTS}


def contents(tree: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_an_unknown_lock_is_not_made(tree: Path) -> None:
    before = contents(tree)
    with pytest.raises(
        BadLock, match=r"requirements/al\.txt: there is no such lock; there are: requirements/all\.txt, "
    ):
        locks.make(["requirements/al.txt"], upgrade=False, root=tree)
    assert contents(tree) == before


def older(tree: Path) -> str:
    project = tree / locks.OPERATIONS
    project.write_text(project.read_text().replace('"jinja2>=3', '"jinja2>=4'))
    return "requirements/all.txt: is older than the requirements"


def edited(tree: Path) -> str:
    lock = tree / "requirements/airflow.txt"
    lock.write_text(newer(lock.read_text()))
    return "requirements/airflow.txt: differs from what `make locks` wrote"


@pytest.mark.parametrize("change", [older, edited])
def test_one_lock_is_not_sealed_beside_others_that_are_wrong(change: Callable[[Path], str], tree: Path) -> None:
    message = change(tree)
    before = contents(tree)
    with pytest.raises(BadLock, match=message):
        locks.make(["requirements/demo.txt"], upgrade=False, root=tree)
    assert contents(tree) == before


def test_one_seal_is_renewed_and_the_others_stay(tree: Path) -> None:
    before = locks.seals(tree)
    lock = tree / "requirements/demo.txt"
    lock.write_text(lock.read_text() + "# a remark\n")
    locks.seal(tree, ["requirements/demo.txt"])
    after = locks.seals(tree)
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name]] == ["requirements/demo.txt"]


def test_hashes_are_left_out_of_what_uv_starts_from() -> None:
    assert locks.without_hashes(GOOD + "three>=1\n") == "one==1.0\ntwo[x, y]==2.1.post1\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (locks.SEALS, "word\n", r"requirements/SHA256SUMS:1: 'word' is not a SHA-256 and a file name: git checkout"),
        (locks.SEALS, f"{A}\n", r"requirements/SHA256SUMS:1: 'a+' is not a SHA-256 and a file name"),
        (locks.SERVICE, "[project\n", r"^pyproject\.toml: is not valid TOML: "),
        (locks.SERVICE, "[tool]\n", r"^pyproject\.toml: has no table \[project\]"),
        (locks.OPERATIONS, "project = 1\n", r"^plugins/pyproject\.toml: has no table \[project\]"),
        (locks.OPERATIONS, None, r"^plugins/pyproject\.toml: No such file or directory; restore it: git checkout"),
    ],
)
def test_a_broken_file_beside_the_locks_is_named(name: str, text: str | None, message: str, tree: Path) -> None:
    if text is None:
        (tree / name).unlink()
    else:
        (tree / name).write_text(text)
    with pytest.raises(BadLock, match=message) as refused:
        locks.check("requirements/demo.txt", tree)
    assert "\n" not in str(refused.value)


def test_the_seal_covers_what_the_operations_package_always_needs(tree: Path) -> None:
    project = tree / locks.OPERATIONS
    project.write_text(project.read_text().replace('"psutil>=7.2"', '"psutil>=8"'))
    with pytest.raises(BadLock, match="is older than the requirements"):
        locks.check("requirements/airflow.txt", tree)
    assert "psutil>=8" in locks.requirements(locks.LOCKS["requirements/airflow.txt"], tree)


def test_the_hook_before_a_commit_looks_at_every_lock() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (hook,) = (one for repo in config["repos"] for one in repo["hooks"] if one["id"] == "locks")
    names = (*locks.LOCKS, locks.SEALS, locks.SERVICE, locks.OPERATIONS)
    assert [name for name in names if not re.match(hook["files"], name)] == []
