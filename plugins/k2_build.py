"""What both distributions, k2-ingest and k2-ingest-ops, compute while they are built. Imported by their setup.py only.

The version is ``ingest.__version__``, the repository ``[tool.k2]`` in pyproject.toml. Archives are reproducible: the
same sources give the same bytes, whatever the times, owners and permissions of the files are.
"""

import gzip
import io
import os
import re
import tarfile
import tomllib
from email import message_from_string
from email.message import Message
from pathlib import Path

from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
EPOCH = 315_532_800
"""1980-01-01, the earliest time that a ZIP archive can hold: the default of ``SOURCE_DATE_EPOCH``."""


def epoch() -> int:
    """Time of every file in the archives."""
    return int(os.environ.setdefault("SOURCE_DATE_EPOCH", str(EPOCH)))


def own_sdist() -> Message | None:
    """Metadata of the sdist of k2-ingest-ops if this is one: what is beside it in the repository is not there."""
    path = HERE / "PKG-INFO"
    return message_from_string(path.read_text()) if path.exists() else None


def version() -> str:
    """Version of both distributions."""
    if (metadata := own_sdist()) is not None:
        return metadata["Version"]
    source = HERE.parent / "ingest" / "__init__.py"
    found = re.search(r'^__version__ = "([^"]+)"$', source.read_text(), re.M)
    if found is None:
        raise SystemExit(f'{source}: no line __version__ = "..."')
    return found[1]


def dependencies() -> list[str]:
    """What k2-ingest-ops needs besides k2-ingest. In its pyproject.toml, from which the locks are made, too."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())
    found: list[str] = project["tool"]["k2"]["dependencies"]
    return found


def urls() -> dict[str, str]:
    """Links of the metadata, made from the one setting that names the repository."""
    if (metadata := own_sdist()) is not None:
        return dict(line.split(", ", 1) for line in metadata.get_all("Project-URL", []))
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())
    repository = project["tool"]["k2"]["repository"]
    pages = f"{repository}/blob/v{version()}"
    return {
        "Repository": repository,
        "Documentation": f"{pages}/README.md#documentation",
        "Changelog": f"{pages}/CHANGELOG.md",
        "Issues": f"{repository}/issues",
    }


def readme(path: Path) -> str:
    """Text of a readme; its relative links point into the repository at the tag of this version."""
    base = urls()["Repository"]

    def absolute(link: re.Match[str]) -> str:
        kind = "raw" if link["image"] else "blob"
        return f"{link['image']}[{link['text']}]({base}/{kind}/v{version()}/{link['target']})"

    return re.sub(
        r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>(?![a-z]+:|#|/)[^)\s]+)\)", absolute, path.read_text()
    )


class ReproducibleSdist(sdist):
    """An sdist whose bytes depend on nothing but the names and contents of its files."""

    def make_archive(self, *arguments: object, **options: object) -> str:
        """Make the archive, and write it again with fixed times, owners and permissions."""
        made: str = super().make_archive(*arguments, **options)
        normalise(Path(made))
        return made


def normalise(archive: Path) -> None:
    """Write a .tar.gz again: sorted, times and owners fixed, permissions 644 or 755."""
    packed = io.BytesIO()
    with tarfile.open(archive) as old, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new:
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            member.mtime, member.uid, member.gid, member.uname, member.gname = epoch(), 0, 0, "", ""
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    with archive.open("wb") as file, gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=epoch()) as zipped:
        zipped.write(packed.getvalue())
