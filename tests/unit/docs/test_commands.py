"""What the pages tell a reader to type exists: targets, commands and their options, profiles, services, files."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.unit.docs.test_command_line import COMMANDS, GENERATE

ROOT = Path(__file__).resolve().parents[3]
KINDS = ("tutorials", "how_to", "reference", "explanation")
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "reports/README.md", "docs/runbook.md")]
PAGES += sorted(page for kind in KINDS for page in (ROOT / "docs" / kind).glob("*.md"))
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z0-9-]+):", MAKEFILE, re.M))
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"]
PROFILES = {profile for service in COMPOSE.values() for profile in service.get("profiles", ())}
END = frozenset({"|", "&&", "||", ";", ">", "&", ")"})

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def typed(page: Path) -> Iterator[list[str]]:
    """Every line of shell on the page, in blocks and in running text, as words; what cannot be split is no shell."""
    text = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.S)
    blocks = re.findall(r"^```(?:sh|bash)\n(.*?)^```", text, re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    for line in lines:
        try:
            yield shlex.split(line, comments=True)
        except ValueError:
            continue


def commands(page: Path, name: str) -> Iterator[list[str]]:
    """The arguments of each call of ``name`` (its last word, where it has more) on the page."""
    for words in typed(page):
        compose = words[:2] == ["docker", "compose"] and name != "docker"  # its services have our names
        for at, word in enumerate(words):
            if not compose and (word == name or word.endswith(f"/{name}")):
                rest = words[at + 1 :]
                end = next((n for n, one in enumerate(rest) if one in END), len(rest))
                yield rest[:end]


@pages
def test_every_target_exists(page: Path) -> None:
    named = {
        word.rstrip("*")
        for arguments in commands(page, "make")
        for word in arguments
        if "=" not in word and re.fullmatch(r"[a-z0-9-]+\*?", word)
    }
    unknown = {name for name in named if not any(target.startswith(name) for target in TARGETS)}
    assert unknown == set()


@pages
@pytest.mark.parametrize("program", ["ingest", "ingest_ops"])
def test_every_command_and_option_exists(page: Path, program: str) -> None:
    wrong = []
    for arguments in commands(page, program):
        words = [program]
        for word in arguments:
            if (*words, word) in COMMANDS:
                words.append(word)
            elif not word.startswith("-") and len(words) == 1 and re.fullmatch(r"[a-z-]+", word):
                wrong.append(f"{program} {word}")
        known = set(re.findall(r"(?<![\w-])--[a-z-]+", GENERATE.help_of(tuple(words), COMMANDS[tuple(words)])))
        options = {word.split("=")[0] for word in arguments if word.startswith("--")}
        wrong += [f"{' '.join(words)} {option}" for option in sorted(options - known - {"--help"})]
    assert wrong == []


@pages
def test_every_profile_and_service_exists(page: Path) -> None:
    wrong: list[str] = []
    for arguments in commands(page, "docker"):
        if not arguments or arguments[0] != "compose":
            continue
        words = iter(arguments[1:])
        verb = ""
        for word in words:
            if word == "--profile":
                profile = next(words)
                wrong += [] if profile in PROFILES else [f"profile {profile}"]
            elif word.startswith("-") or word.isdecimal():
                continue
            elif not verb:
                verb = word
            elif verb in {"up", "stop", "start", "restart", "create", "logs", "exec", "run"}:
                wrong += [] if word in COMPOSE else [f"service {word}"]
                if verb in {"exec", "run"}:
                    break
    assert wrong == []


@pages
def test_every_file_that_is_run_or_tested_exists(page: Path) -> None:
    named = {
        word.split("::")[0]
        for words in typed(page)
        for word in words
        if re.match(r"^(tests|docs|deploy|ingest|plugins|dags|tools)/[\w/.-]+(\.py|\.md|\.sh|\.sql|/)(::\w+)?$", word)
    }
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_what_is_not_python_is_installed_too() -> None:
    for name, root in (("ingest", ROOT), ("ingest_ops", ROOT / "plugins")):
        project, folder = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"], root / name
        installed = {path for pattern in project["package-data"][name] for path in folder.glob(pattern)}
        files = {p for p in folder.rglob("*") if p.is_file() and p.suffix != ".py" and "__pycache__" not in p.parts}
        assert {str(path.relative_to(folder)) for path in files - installed} == set()
