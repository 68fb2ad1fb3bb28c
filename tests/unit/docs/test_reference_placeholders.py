"""A placeholder such as ``<name>`` outside of code is an HTML tag to a renderer, which drops it."""

import re

import pytest

from docs.generate import _cell
from tests.harness.interpreters import ROOT

DOCS = ROOT / "docs"
CODE = re.compile(r"^( *)(```|~~~).*?^\1\2|<!--.*?-->|(`+)(?!`).*?(?<!`)\3(?!`)", re.M | re.S)
TAG = re.compile(r"(?<!\\)</?[A-Za-z][^>\n]*>")
LINK = re.compile(r"<(https?://|mailto:)")
HTML = {"<br>", "<br/>", "<details>", "</details>", "</summary>"}


def dropped(text: str) -> list[str]:
    """What a page would not show."""
    found = TAG.findall(CODE.sub("", text))
    return [tag for tag in found if not LINK.match(tag) and tag not in HTML and not tag.startswith("<summary")]


def test_no_page_has_a_placeholder_that_is_not_shown() -> None:
    assert dropped("a <name> of `<code>` and \\<shown> at <https://host.example/>\n```\n<x>\n```\n") == ["<name>"]
    names = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
    pages = [*(ROOT / name for name in names), *(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
    found = {str(page.relative_to(ROOT)): dropped(page.read_text("utf-8")) for page in pages}
    assert {page: tags for page, tags in found.items() if tags} == {}


@pytest.mark.parametrize(("text", "cell"), [
    ("a|b * <name> `<x> *`", r"a\|b \* \<name> `<x> *`"),
    ("``<x>*`` and <y>", r"``<x>*`` and \<y>"),
    ("`<a>` <b> ``<c>`` <d> `<e>`", r"`<a>` \<b> ``<c>`` \<d> `<e>`"),
    ("`` `<x>` `` <y>", r"`` `<x>` `` \<y>"),
    ("``<x>` <y>", r"``\<x>` \<y>"),
    ("`` <x>", r"`` \<x>"),
])  # fmt: skip
def test_a_cell_shows_its_text(text: str, cell: str) -> None:
    """Between single and double backticks alike; those that are not closed begin no code."""
    assert _cell(text) == cell
