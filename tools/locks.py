"""Locked requirements: made with uv, checked before each installation.

``make`` writes locks from the two pyproject.toml files and seals them; ``check`` refuses a lock that was edited by
hand, has an entry without version or hash, or is older than the requirements. ``tools.environment`` installs what
passes. Needs nothing but Python; ``make`` and ``wheels`` need uv.
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SEALS = "requirements/SHA256SUMS"
WHOLE = "requirements/all.txt"
"""The lock from which others take their versions."""
INPUTS = "requirements-of-pyproject"
"""The line of the seals that covers the requirements in both pyproject.toml files."""

SERVICE, OPERATIONS = "pyproject.toml", "plugins/pyproject.toml"
UV = ["--quiet", "--generate-hashes", "--no-strip-extras", "--no-emit-index-url", "--no-header"]
ENTRY = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?P<extras>\[[^\]]+\])?==(?P<version>[A-Za-z0-9.!+_-]+)$")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})$")


class BadLock(Exception):
    """A lock cannot be trusted; the text says which, where and what to do."""


EVERY = ("*",)
"""Every extra that there is."""


@dataclass(frozen=True, slots=True)
class Source:
    """What one lock is made from."""

    service: bool = False
    service_extras: tuple[str, ...] = ()
    operations_extras: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    python: str = "3.11"
    constraint: bool = True
    """Whether it takes its versions from ``WHOLE``, as far as that has them."""
    built: tuple[str, ...] = ()
    """Published as source only: built by the tools in the same lock. Everything else is installed from wheels."""


LOCKS: Mapping[str, Source] = {
    WHOLE: Source(
        service=True,
        service_extras=EVERY,
        operations_extras=EVERY,
        groups=("dev", "build"),
        constraint=False,
    ),
    "requirements/service.txt": Source(service=True),
    "requirements/build.txt": Source(groups=("build",)),
    "requirements/demo.txt": Source(service=True, service_extras=("sim",), groups=("setuptools",)),
    "requirements/airflow.txt": Source(service=True, operations_extras=("airflow",)),
    "requirements/release.txt": Source(groups=("release",)),
    "tests/campaigns/bench/cryptofeed-2.txt": Source(groups=("cryptofeed-2",), constraint=False, built=("cryptofeed",)),
    "tests/campaigns/bench/cryptofeed-3.txt": Source(groups=("cryptofeed-3",), python="3.13", constraint=False),
    "requirements/readers/analytics.txt": Source(groups=("reader-analytics",), constraint=False),
    "requirements/readers/s3.txt": Source(groups=("reader-s3",), constraint=False),
    "requirements/readers/ccxt.txt": Source(groups=("reader-ccxt",), constraint=False),
    "requirements/readers/flink.txt": Source(
        groups=("reader-flink",), constraint=False, built=("crcmod", "dill", "docopt", "hdfs")
    ),
    "tests/campaigns/fuzz/atheris.txt": Source(groups=("fuzz",), constraint=False),
    "tests/campaigns/locks/pip-oldest.txt": Source(groups=("pip-oldest",), constraint=False),
    "tests/campaigns/locks/pip-newest.txt": Source(groups=("pip-newest",), constraint=False),
}


IMAGES = ("requirements/service.txt", "requirements/build.txt", "requirements/airflow.txt")
"""What images install, wheels alone."""
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28")


@dataclass(frozen=True, slots=True)
class Pin:
    """One entry of a lock."""

    name: str
    extras: tuple[str, ...]
    version: str
    hashes: frozenset[str]


def normal(name: str) -> str:
    """Name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(text: str) -> Iterator[tuple[int, str]]:
    """Line number and text of each entry, continuation lines joined, comments left out."""
    joined, began = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        bare = "" if line.lstrip().startswith("#") else line.rstrip()
        if not joined:
            began = number
        joined += bare.removesuffix("\\").strip() + " "
        if bare.endswith("\\"):
            continue
        if joined.strip():
            yield began, joined.strip()
        joined = ""
    if joined.strip():
        yield began, joined.strip()


def parse(text: str, name: str) -> dict[str, Pin]:
    """Entries of a lock by name. Raises ``BadLock`` for what pip must not be given."""
    pins: dict[str, Pin] = {}
    for number, entry in entries(text):
        requirement, *options = re.split(r"\s+(?=--)", entry)
        found = ENTRY.match(requirement)
        if found is None:
            raise BadLock(f"{name}:{number}: {requirement!r} is not pinned as name==version")
        hashes = [HASH.match(option) for option in options]
        if not hashes:
            raise BadLock(f"{name}:{number}: {requirement} has no hash")
        if None in hashes:
            wrong = next(option for option, match in zip(options, hashes, strict=True) if match is None)
            raise BadLock(f"{name}:{number}: {requirement}: {wrong!r} is not a SHA-256 hash of 64 hexadecimal digits")
        key = normal(found["name"])
        if key in pins:
            raise BadLock(f"{name}:{number}: {key} is listed twice")
        extras = tuple(part.strip() for part in (found["extras"] or "[]")[1:-1].split(",") if part.strip())
        pins[key] = Pin(key, extras, found["version"], frozenset(match[1] for match in hashes if match))
    if not pins:
        raise BadLock(f"{name}: has no entry")
    return pins


def read(name: str, root: Path = ROOT) -> str:
    """Text of a lock. Raises ``BadLock`` if it is missing or is no text."""
    try:
        return (root / name).read_text("utf-8")
    except OSError as error:
        raise BadLock(f"{name}: {error.strerror or error}; `make locks` makes it") from error
    except UnicodeDecodeError as error:
        raise BadLock(f"{name}: is not text: {error}; `make locks` makes it again") from error


def tables(root: Path = ROOT) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both pyproject.toml files. Raises ``BadLock`` if one is missing or broken."""
    service, operations = (_table(root, path) for path in (SERVICE, OPERATIONS))
    return service, operations


def _table(root: Path, name: str) -> dict[str, Any]:
    try:
        found = tomllib.loads((root / name).read_text("utf-8"))
    except OSError as error:
        raise BadLock(f"{name}: {error.strerror or error}; restore it: git checkout {name}") from error
    except ValueError as error:  # no TOML, or no text
        raise BadLock(f"{name}: is not valid TOML: {error}") from error
    if not isinstance(found.get("project"), dict):
        raise BadLock(f"{name}: has no table [project]; restore it: git checkout {name}")
    return found


def inputs_digest(root: Path = ROOT) -> str:
    """SHA-256 of everything in both pyproject.toml files from which locks are made."""
    service, operations = tables(root)
    relevant = [
        service["project"].get("dependencies"),
        service["project"].get("optional-dependencies"),
        service.get("dependency-groups"),
        operations["project"].get("optional-dependencies"),
        operations.get("tool", {}).get("k2", {}).get("dependencies"),
    ]
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def seals(root: Path = ROOT) -> dict[str, str]:
    """What ``make locks`` noted: digest by file name. Raises ``BadLock`` for a line that is no digest and name."""
    found = {}
    for number, line in enumerate(read(SEALS, root).splitlines(), 1):
        value, _, name = line.strip().partition("  ")
        if not re.fullmatch("[0-9a-f]{64}", value) or not name:
            raise BadLock(f"{SEALS}:{number}: {line!r} is not a SHA-256 and a file name: git checkout {SEALS}")
        found[name] = value
    return found


def seal(root: Path, made: Sequence[str]) -> None:
    """Note the digest of each lock that was made and of what it was made from; the other seals stay."""
    noted = {} if set(made) == set(LOCKS) else seals(root)
    fresh = {name: digest(root / name) for name in made} | {INPUTS: inputs_digest(root)}
    found = {name: fresh.get(name) or noted[name] for name in (*LOCKS, INPUTS)}
    (root / SEALS).write_text("".join(f"{value}  {name}\n" for name, value in found.items()))


def check(name: str, root: Path = ROOT) -> dict[str, Pin]:
    """Entries of a lock that may be installed. Raises ``BadLock``."""
    pins = parse(read(name, root), name)
    noted = seals(root)
    if noted.get(name) != digest(root / name):
        raise BadLock(
            f"{name}: differs from what `make locks` wrote (its SHA-256 is not the one in {SEALS}). "
            f"Change pyproject.toml and run `make locks`, or restore it: git checkout {name} {SEALS}"
        )
    if noted.get(INPUTS) != inputs_digest(root):
        raise BadLock(f"{name}: is older than the requirements in {SERVICE} or {OPERATIONS}: run `make locks`")
    return pins


def requirements(source: Source, root: Path = ROOT) -> list[str]:
    """Requirements that a lock is made from."""
    service, operations = tables(root)
    found: list[str] = list(service["project"]["dependencies"]) if source.service else []
    found += _of_extras(source.service_extras, service)
    if source.operations_extras:
        found += operations["tool"]["k2"]["dependencies"]
    found += _of_extras(source.operations_extras, operations)
    for group in source.groups:
        found += service["dependency-groups"][group]
    return list(dict.fromkeys(found))


def _of_extras(names: tuple[str, ...], table: Mapping[str, Any]) -> list[str]:
    extras: Mapping[str, list[str]] = table["project"].get("optional-dependencies", {})
    return [one for name in (extras if names == EVERY else names) for one in _expanded(name, extras)]


def _expanded(extra: str, extras: Mapping[str, list[str]]) -> list[str]:
    """Requirements of an extra, those of the extras of the same distribution that it includes in its place."""
    found: list[str] = []
    for requirement in extras[extra]:
        own = re.fullmatch(r"k2-ingest-ops\[([^\]]+)\]", requirement)
        parts = [_expanded(part.strip(), extras) for part in own[1].split(",")] if own else [[requirement]]
        found += [one for part in parts for one in part]
    return found


def make(names: Sequence[str], *, upgrade: bool, root: Path = ROOT) -> None:
    """Write locks again with uv, all or the named ones, and seal what was written.

    Raises ``BadLock``, and then leaves everything as it was, for an unknown name, or if a lock that is not to be
    written is not what was sealed.
    """
    wanted = [name for name in LOCKS if name in names] if names else list(LOCKS)
    for name in names:
        if name not in LOCKS:
            raise BadLock(f"{name}: there is no such lock; there are: {', '.join(LOCKS)}")
    for name in LOCKS:
        if name not in wanted:
            check(name, root)
    uv = find_uv()
    with tempfile.TemporaryDirectory(prefix="k2-locks-") as directory:
        fresh = Path(directory)
        for name in wanted:
            _compile(uv, name, fresh / name, upgrade=upgrade, whole=fresh, root=root)
        for name in wanted:
            shutil.copyfile(fresh / name, root / name)
    seal(root, wanted)


def _compile(uv: str, name: str, target: Path, *, upgrade: bool, whole: Path, root: Path) -> None:
    """Resolve one lock into ``target``. Versions are kept, hashes are not: uv takes them from the index again."""
    source = LOCKS[name]
    target.parent.mkdir(parents=True, exist_ok=True)
    if not upgrade and (root / name).exists():
        target.write_text(without_hashes(read(name, root)))
    command = [uv, "pip", "compile", "-", *UV, "--python-version", source.python, "--output-file", str(target)]
    command += ["--upgrade"] if upgrade else []
    if source.constraint:
        if not (whole / WHOLE).exists():  # it is not made itself: then its seal was checked
            (whole / WHOLE).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / WHOLE, whole / WHOLE)
        command += ["--constraint", WHOLE]
    try:
        lines = "".join(f"{line}\n" for line in requirements(source, root))
    except KeyError as error:
        raise BadLock(f"{name}: {SERVICE} or {OPERATIONS} has no {error} that it is made from") from error
    done = subprocess.run(command, cwd=whole, input=lines, text=True, check=False)
    if done.returncode:
        raise BadLock(f"{name}: uv could not resolve it (exit code {done.returncode}, its message is above)")


def without_hashes(text: str) -> str:
    """The entries of a lock as ``name==version`` alone; what is not pinned is left out, so that it is resolved anew."""
    found = (re.split(r"\s+(?=--)", entry)[0] for _, entry in entries(text))
    return "".join(f"{one}\n" for one in found if ENTRY.match(one))


def find_uv() -> str:
    """Path of uv. Raises ``BadLock``."""
    places = (Path(sys.executable).with_name("uv"), ROOT / ".venv" / "bin" / "uv")
    uv = shutil.which("uv") or next((str(path) for path in places if path.exists()), None)
    if uv is None:
        raise BadLock(
            "no uv: it makes and checks the locks; `make install` puts it into .venv, `pip install uv` elsewhere"
        )
    return uv


def wheels() -> None:
    """Check that the index has a wheel of every locked package of the images for both architectures.

    Nothing is downloaded. Raises ``BadLock`` with what is missing.
    """
    for name in IMAGES:
        for platform in PLATFORMS:
            with tempfile.TemporaryDirectory() as target:
                command = [find_uv(), "pip", "install", "--quiet", "--dry-run", "--target", target, "--no-deps"]
                command += ["--require-hashes", "--only-binary", ":all:", "--python-version", LOCKS[name].python]
                command += ["--python-platform", platform, "--requirement", name]
                done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BadLock(f"{name}: has no wheel for {platform}:\n{done.stderr.strip()}")
            sys.stdout.write(f"{name}: a wheel of every package for {platform}\n")


def parts(name: str, root: Path = ROOT) -> Iterator[tuple[str, list[str]]]:
    """Entries of a lock that are installed from wheels, then those that must be built, each with options for pip."""
    built = LOCKS[name].built if name in LOCKS else ()
    exact = ["--require-hashes", "--no-deps"]
    sorted_out: dict[bool, list[str]] = {False: [], True: []}
    for _, entry in entries(read(name, root)):
        sorted_out[normal(entry.partition("==")[0]) in built].append(entry)
    yield "\n".join(sorted_out[False]) + "\n", [*exact, "--only-binary", ":all:"]
    if sorted_out[True]:
        yield "\n".join(sorted_out[True]) + "\n", [*exact, "--no-build-isolation", "--use-pep517"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make or check locks."""
    parser = argparse.ArgumentParser(prog="python -m tools.locks", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make", help="write the locks again with uv")
    making.add_argument("--upgrade", action="store_true", help="to the newest versions")
    making.add_argument("locks", nargs="*", metavar="LOCK", help="only these")
    checking = commands.add_parser("check", help="check locks without installing")
    checking.add_argument("locks", nargs="*", metavar="LOCK")
    commands.add_parser("wheels", help="check that both images can be built on x86-64 and on ARM (needs uv)")
    options = parser.parse_args(arguments)
    try:
        if options.command == "make":
            make(options.locks, upgrade=options.upgrade)
        elif options.command == "wheels":
            wheels()
        else:
            for name in options.locks or LOCKS:
                check(name)
    except BadLock as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
