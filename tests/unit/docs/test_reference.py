"""The reference says what the code says, and every relative link in the documentation leads somewhere."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md"), ROOT / "reports" / "README.md"])
LINK = re.compile(r"\]\(([^)\s#]+)(#[^)\s]+)?\)")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_page_of_the_reference_is_stale(generate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert generate.stale() == {}, "run: python docs/generate.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    missing = []
    for name, anchor in LINK.findall(prose(page)):
        target = page.parent / name
        if "://" in name or name.startswith("mailto:"):
            assert ".example" not in name
        elif not target.exists() or (anchor and anchor[1:] not in anchors(target)):
            missing.append(f"{name}{anchor}")
    assert missing == []


def prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(), flags=re.S)


def anchors(page: Path) -> set[str]:
    """What headings are called in links, as GitHub and Sphinx make it."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w -]", "", title.lower().strip()).replace(" ", "-") for title in titles}


def test_decisions_are_numbered_once_and_have_date_status_and_alternatives() -> None:
    numbers = []
    for page in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        text = page.read_text()
        found = re.match(r"# (\d+)\. .+\n\nDate: 20\d\d-\d\d-\d\d\. Status: (accepted|superseded by \S+)\.\n", text)
        assert found, page.name
        assert page.name.startswith(f"{int(found[1]):04d}-")
        assert found[1] == "1" or "**Alternatives.**" in text, page.name
        numbers.append(int(found[1]))
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_examples_of_settings_exist() -> None:
    from ingest.settings import declared
    from ingest.settings.names import is_service_link

    known = {one.name for one in declared()}
    pattern = re.compile(r"\bK2_(?:BINANCE|KAFKA)_[A-Z0-9_]+\b")
    unknown = {
        (str(page.relative_to(ROOT)), name)
        for page in PAGES
        for name in pattern.findall(page.read_text())
        if name.removesuffix("_FILE") not in known
        and not name.startswith("K2_KAFKA_OPTION_")
        and not is_service_link(name, "")
    }
    assert unknown == set()
