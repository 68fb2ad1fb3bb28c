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
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    targets = [match.group(1) for match in LINK.finditer(text)]
    missing = [t for t in targets if "://" not in t and not t.startswith("mailto:") and not (page.parent / t).exists()]
    assert missing == []


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
