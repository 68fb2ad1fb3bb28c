"""CONTRIBUTING's table leads to code and tests that exist."""

import re

import pytest

from tests.harness.processes import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
ROWS = [line for line in TEXT.split("| change | code | tests |", 1)[1].splitlines() if line.startswith("| ")][1:]
STEPS = TEXT.split("### A field of the record", 1)[1].split("## ", 1)[0]


def missing(text: str) -> list[str]:
    """Paths that do not exist; a bare name stands beside the path before it, or in a folder of that name's kind."""
    folder, wrong = ROOT, []
    for name in re.findall(r"`([\w./*-]+)`", text):
        if "/" not in name and not name.endswith((".py", ".avsc")):
            continue
        path = (ROOT / name) if "/" in name else folder / name
        if not list(path.parent.glob(path.name)):
            wrong.append(str(path.relative_to(ROOT)))
        folder = path if path.is_dir() else path.parent
    return wrong


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_a_row_names_what_exists(row: str) -> None:
    assert missing(row) == []


def test_the_steps_of_a_field_name_what_exists() -> None:
    assert missing(STEPS) == []


def test_a_path_that_is_gone_is_found() -> None:
    assert missing("`ingest/core/`, `ingest/kafka/encoding.py`, `nothing.py`") == ["ingest/kafka/nothing.py"]
