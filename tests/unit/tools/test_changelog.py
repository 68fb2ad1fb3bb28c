"""The changelog has a section per version, and a release is cut out of it."""

import datetime

import pytest

import ingest
from tests.harness.interpreters import ROOT
from tools.changelog import KINDS, UNRELEASED, BadChangelog, cut, parse, render, set_version

DAY = datetime.date(2026, 11, 30)
TEXT = """\
# Changelog

Words.

## [Unreleased]

### Fixed

- One,
  in two lines.

### Added

- Two.

### Fixed

- Three.

## [0.1.0] - 2026-11-26

### Added

- Four.
"""


def test_a_release_merges_sections_and_keeps_every_entry() -> None:
    assert (
        cut(TEXT, "0.2.0", DAY)
        == """\
# Changelog

Words.

## [Unreleased]

## [0.2.0] - 2026-11-30

### Added

- Two.

### Fixed

- One,
  in two lines.
- Three.

## [0.1.0] - 2026-11-26

### Added

- Four.
"""
    )


@pytest.mark.parametrize(
    ("text", "version", "message"),
    [
        (TEXT, "0.1.0", "'0.1.0' is no new version"),
        (TEXT, "v0.2.0", "'v0.2.0' is no new version"),
        (TEXT.replace("### Fixed", "### Mended"), "0.2.0", "'Mended' is none of Added, Changed"),
        (TEXT.replace("- Two.", "Two."), "0.2.0", "'Two.' is no entry"),
        (TEXT.replace("[0.1.0] - 2026-11-26", "[Unreleased]"), "0.2.0", "[Unreleased] is there twice"),
        (cut(TEXT, "0.2.0", DAY), "0.3.0", "there is nothing under [Unreleased]"),
    ],
)
def test_a_release_that_cannot_be_cut_says_why(text: str, version: str, message: str) -> None:
    with pytest.raises(BadChangelog) as refused:
        cut(text, version, DAY)
    assert message in str(refused.value)


def test_the_version_is_set_in_one_line() -> None:
    assert set_version('"""Doc."""\n\n__version__ = "0.1.0"\n', "0.2.0") == '"""Doc."""\n\n__version__ = "0.2.0"\n'
    with pytest.raises(BadChangelog):
        set_version("nothing", "0.2.0")


def test_the_changelog_of_this_tree_is_in_the_format_and_has_its_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    head, versions = parse(text)
    titles = list(versions)
    assert titles[0] == UNRELEASED
    assert any(title.startswith(f"[{ingest.__version__}] - ") for title in titles[1:])
    assert parse(render(head, versions)) == (head, versions)
    released = text[text.index(f"\n## {titles[1]}") :]
    for part in released.split("\n## ")[1:]:
        kinds = [line.removeprefix("### ") for line in part.splitlines() if line.startswith("### ")]
        assert kinds == [kind for kind in KINDS if kind in kinds], "each kind once, in order"


@pytest.mark.parametrize("version", ["0.1.9", "0.9.9", "1.9.9"])
def test_a_version_that_is_not_newer_is_refused(version: str) -> None:
    text = "# Changelog\n\n## [Unreleased]\n\n### Fixed\n\n- One.\n\n## [1.10.0] - 2026-11-30\n\n### Added\n\n- Two.\n"
    with pytest.raises(BadChangelog, match=rf"{version} is not newer than 1\.10\.0"):
        cut(text, version, datetime.date(2027, 1, 15))
    assert "[1.10.1]" in cut(text, "1.10.1", datetime.date(2027, 1, 15))
