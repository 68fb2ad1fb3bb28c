"""Cuts a release out of CHANGELOG.md: sections of the same kind are merged, ``[Unreleased]`` becomes a version.

``python -m tools.changelog tidy`` merges the sections alone; ``cut VERSION`` also sets ``ingest.__version__``.
"""

import argparse
import datetime
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
UNRELEASED = "[Unreleased]"
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")

Sections = dict[str, list[str]]
"""Kind -> entries, each with its continuation lines."""


class BadChangelog(Exception):
    """The file is not in the format; the text says which line."""


def parse(text: str) -> tuple[str, dict[str, Sections]]:
    """Introduction, and the sections of each version by heading, newest first. Raises ``BadChangelog``."""
    head, _, rest = text.partition("\n## ")
    versions: dict[str, Sections] = {}
    for part in rest.split("\n## "):
        title, _, body = part.partition("\n")
        if title in versions:
            raise BadChangelog(f"the version {title} is there twice")
        versions[title] = _sections(title, body)
    return head.rstrip() + "\n", versions


def _sections(title: str, body: str) -> Sections:
    found: Sections = {}
    entries: list[str] | None = None
    for line in body.splitlines():
        if line.startswith("### "):
            kind = line.removeprefix("### ").strip()
            if kind not in KINDS:
                raise BadChangelog(f"{title}: {kind!r} is none of {', '.join(KINDS)}")
            entries = found.setdefault(kind, [])
        elif entries is None:
            if line.strip():
                raise BadChangelog(f"{title}: {line!r} is below no section")
        elif line.startswith("- "):
            entries.append(line)
        elif line.strip():
            if not entries:
                raise BadChangelog(f"{title}: {line!r} is no entry: entries begin with '- '")
            entries[-1] += f"\n{line}"
    return found


def render(head: str, versions: Mapping[str, Sections]) -> str:
    """Text of the file, kinds in the usual order, each once."""
    parts = [head]
    for title, sections in versions.items():
        parts.append(f"\n## {title}\n")
        parts += [f"\n### {kind}\n\n" + "\n".join(sections[kind]) + "\n" for kind in KINDS if sections.get(kind)]
    return "".join(parts)


def cut(text: str, version: str, day: datetime.date) -> str:
    """Text with what is unreleased as a version of its own. Raises ``BadChangelog``."""
    head, versions = parse(text)
    unreleased = versions.pop(UNRELEASED, {})
    if not unreleased:
        raise BadChangelog(f"there is nothing under {UNRELEASED}")
    if not VERSION.fullmatch(version) or any(title.startswith(f"[{version}]") for title in versions):
        raise BadChangelog(f"{version!r} is no new version of the form 1.2.3")
    released = [found[1] for title in versions if (found := re.match(r"\[([0-9.]+)\]", title))]
    if (newest := max(map(_numbers, released), default=None)) and _numbers(version) <= newest:
        raise BadChangelog(f"{version} is not newer than {'.'.join(map(str, newest))}")
    return render(head, {UNRELEASED: {}, f"[{version}] - {day.isoformat()}": unreleased, **versions})


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def set_version(source: str, version: str) -> str:
    """Source of ``ingest/__init__.py`` with another version."""
    changed, number = re.subn(r'^__version__ = ".*"$', f'__version__ = "{version}"', source, flags=re.M)
    if number != 1:
        raise BadChangelog('ingest/__init__.py: no line __version__ = "..."')
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Merge the sections of the changelog, or cut a release."""
    parser = argparse.ArgumentParser(prog="python -m tools.changelog", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("tidy", help="merge sections of the same kind")
    cutting = commands.add_parser("cut", help="make [Unreleased] a version, and set it in ingest/__init__.py")
    cutting.add_argument("version")
    cutting.add_argument("--date", type=datetime.date.fromisoformat, required=True, help="2026-11-30")
    options = parser.parse_args(arguments)
    changelog, source = ROOT / "CHANGELOG.md", ROOT / "ingest" / "__init__.py"
    try:
        if options.command == "tidy":
            changelog.write_text(render(*parse(changelog.read_text())))
        else:
            text = cut(changelog.read_text(), options.version, options.date)
            source.write_text(set_version(source.read_text(), options.version))
            changelog.write_text(text)
    except BadChangelog as error:
        sys.stderr.write(f"CHANGELOG.md: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
