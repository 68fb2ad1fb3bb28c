"""Documentation, docstrings and comments use the field's words: the words below are in none of them."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.processes import ROOT

AVOIDED = re.compile(
    r"\b(nobody|somebody|whoever|anybody|everybody|believes?|believed|for ever|anew|heeded|hearsay)\b", re.IGNORECASE
)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
CODE = [
    path
    for folder in ("ingest", "plugins/ingest_ops", "dags", "deploy", "docs")
    for path in (ROOT / folder).rglob("*.py")
]


def shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Comments and string literals of a module, with their lines."""
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string


@pytest.mark.parametrize("page", [page for page in PAGES if "_build" not in page.parts], ids=shown)
def test_pages_avoid_pronouns_for_machines(page: Path) -> None:
    lines = enumerate(page.read_text().splitlines(), 1)
    assert [(number, found[0]) for number, line in lines if (found := AVOIDED.search(line))] == []


def test_code_avoids_pronouns_for_machines() -> None:
    found = [
        (shown(path), line, match[0])
        for path in sorted(CODE)
        for line, text in prose(path)
        if (match := AVOIDED.search(text))
    ]
    assert found == []
