"""Archives are unpacked on the oldest supported Python, and nothing calls what only a later patch release has."""

import ast
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.harness import apicurio
from tests.harness.interpreters import ROOT, environment, interpreters, version_of
from tests.harness.jars import digest
from tests.harness.unpack import UnsafeArchiveError, unpack

NEWER_NAMES = {
    "data_filter", "tar_filter", "fully_trusted_filter", "FilterError",  # tarfile, 3.11.4
    "SetReparseDeferralEnabled", "GetReparseDeferralEnabled",  # pyexpat, 3.11.8
}  # fmt: skip
"""Attributes that patch releases after 3.11.2 added."""
NEWER_KEYWORDS = {
    "extractall": "filter", "extract": "filter", "unpack_archive": "filter",  # 3.11.4
    "getaddresses": "strict", "parseaddr": "strict",  # 3.11.10
}  # fmt: skip
"""Function -> keyword argument that a patch release after 3.11.2 added."""


def newer(source: str) -> list[int]:
    """Lines that need a later patch release than Debian 12's 3.11.2."""
    found: list[int] = []
    if not any(name in source for name in (*NEWER_NAMES, *NEWER_KEYWORDS)):  # parsing a thousand files takes its time
        return found
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in NEWER_NAMES:
            found.append(node.lineno)
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if any(keyword.arg and keyword.arg == NEWER_KEYWORDS.get(name) for keyword in node.keywords):
                found.append(node.lineno)
    return found


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("\narchive.extractall(folder, filter='data')", [2]),
        ("archive.extract(member, filter='data')", [1]),
        ("shutil.unpack_archive(a, b, filter='data')", [1]),
        ("tarfile.data_filter", [1]),
        ("archive.extractall(folder)\nother.find(filter='data', **more)", []),
    ],
)
def test_what_needs_a_later_patch_release_is_found(source: str, lines: list[int]) -> None:
    assert newer(source) == lines


def test_nothing_needs_a_later_patch_release_than_debian_s() -> None:
    folders = ("ingest", "plugins", "dags", "deploy", "docs", "tests", "tools")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(paths) > 500
    assert {str(path.relative_to(ROOT)): lines for path in paths if (lines := newer(path.read_text("utf-8")))} == {}


def archive_of(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname, found.mode = kind, link, 0o4777
    found.size = 1 if kind == tarfile.REGTYPE else 0
    return found


@pytest.mark.parametrize("python", interpreters(), ids=lambda python: ".".join(map(str, version_of(python))))
def test_an_archive_is_unpacked_by_every_interpreter(python: str, tmp_path: Path) -> None:
    path = archive_of(tmp_path / "a.tar.gz", member("a/b"), member("c", tarfile.DIRTYPE))
    code = (
        "import sys, tarfile, pathlib; from tests.harness.unpack import unpack\n"
        "unpack(tarfile.open(sys.argv[1]), pathlib.Path(sys.argv[2]))"
    )
    done = subprocess.run(
        [python, "-W", "error", "-c", code, str(path), str(tmp_path / "to")],
        env=environment(python), capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "to/a/b").read_text() == "x"
    assert (tmp_path / "to/a/b").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "to/c").is_dir()


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (member("../out"), "'../out' leads out of the folder"),
        (member("/out"), "'/out' leads out of the folder"),
        (member("link", tarfile.SYMTYPE, "/etc"), "'link' is neither a file nor a folder"),
        (member("link", tarfile.LNKTYPE, "a"), "'link' is neither a file nor a folder"),
        (member("pipe", tarfile.FIFOTYPE), "'pipe' is neither a file nor a folder"),
    ],
    ids=["parent", "root", "link", "hard link", "pipe"],
)
def test_nothing_is_unpacked_of_an_archive_that_leads_elsewhere(
    bad: tarfile.TarInfo, text: str, tmp_path: Path
) -> None:
    path = archive_of(tmp_path / "a.tar.gz", member("a"), bad)
    with tarfile.open(path) as archive, pytest.raises(UnsafeArchiveError, match=text):
        unpack(archive, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_failed_unpacking_of_the_registry_does_not_repeat_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = archive_of(tmp_path / "packed", member("quarkus-run.jar"))
    maven = tmp_path / "bin" / "mvn"
    maven.parent.mkdir()
    maven.write_text(f'#!/bin/sh\necho once >> "{tmp_path}/log"\ncp "{packed}" "{tmp_path}/downloads/a.tar.gz"\n')
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{maven.parent}{os.pathsep}{os.environ['PATH']}")
    for name, value in {
        "CACHE": tmp_path / "apicurio", "DOWNLOADS": tmp_path / "downloads", "ARCHIVE": "a.tar.gz",
        "ARCHIVE_SHA256": digest(packed),
    }.items():  # fmt: skip
        monkeypatch.setattr(apicurio, name, value)
    with monkeypatch.context() as broken:
        broken.setattr(tarfile, "open", lambda _: (_ for _ in ()).throw(OSError("no space left on device")))
        with pytest.raises(OSError, match="no space left"):
            apicurio.application()
    assert (apicurio.application() / "quarkus-run.jar").read_text() == "x"
    assert (tmp_path / "log").read_text() == "once\n"
    assert list((tmp_path / "downloads").iterdir()) == [], "the archive is not kept beside what was unpacked from it"
    apicurio.application()
    assert (tmp_path / "log").read_text() == "once\n"
