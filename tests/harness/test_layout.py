"""The tests tree: unit tests mirror the packages, and nothing but a campaign imports a campaign."""

import ast
from pathlib import Path

import pytest

from tests.harness.processes import ROOT

TESTS = ROOT / "tests"
ROOTS = {
    "ingest": ROOT / "ingest",
    "ingest_ops": ROOT / "plugins" / "ingest_ops",
    "dags": ROOT / "dags",
    "deploy": ROOT / "deploy",
    "docs": ROOT / "docs",
    "tools": ROOT / "tools",
}
"""Each folder of ``tests/unit`` and what it mirrors."""
ABOUT = {
    "docs/test_decoding_places.py": "ingest/decoding/__init__.py",
    "dags/test_deployment_tasks.py": "dags/deploy_blue_green.py",
    "dags/test_deployment_trigger.py": "dags/deploy_blue_green.py",
    "dags/test_soak_tasks.py": "dags/soak_1h.py",
    "dags/test_soak_trigger.py": "dags/soak_1h.py",
    "deploy/test_compose.py": "docker-compose.yaml",
    "deploy/test_compose_settings.py": "docker-compose.yaml",
    "deploy/test_names.py": "deploy/checks.py",
    "docs/test_command_line.py": "docs/reference/command_line.md",
    "docs/test_commands.py": "docs/tutorials",
    "docs/test_contributing.py": "CONTRIBUTING.md",
    "docs/test_counts.py": "docs/index.md",
    "docs/test_own_airflow.py": "docs/how_to/own_airflow.md",
    "docs/test_reference.py": "docs/generate.py",
    "docs/test_validation_report.py": "docs/reference/validation_report.md",
    "docs/test_wording.py": "docs/index.md",
}
"""Unit tests of what has another name, and where that is."""
FOLDERS = {"unit", "integration", "campaigns", "harness"}
MAY_IMPORT = {
    "unit": {"unit", "harness"},
    "integration": {"integration", "harness"},
    "harness": {"harness"},
    "campaigns": {"campaigns", "harness"},
}


def test_modules(folder: str) -> list[Path]:
    return sorted((TESTS / folder).rglob("test_*.py"))


test_modules.__test__ = False  # type: ignore[attr-defined]


def belongs(test: str) -> bool:
    """Whether ``tests/unit/<test>`` has a module or a package that it tests.

    ``test_name.py`` and ``test_name_topic.py`` belong to ``name.py``, ``test_name.py`` also to ``name_*.py`` and to a
    package ``name``.
    """
    if test in ABOUT:
        return (ROOT / ABOUT[test]).exists()
    top, *folders, name = Path(test).parts
    if top not in ROOTS:
        return False
    package = ROOTS[top].joinpath(*folders)
    subject = name.removeprefix("test_").removesuffix(".py")
    if not package.is_dir():
        return False
    modules = {path.stem.strip("_") for path in package.iterdir() if path.suffix in {"", ".py", ".sh"}}
    return subject == package.name or any(
        subject == module or subject.startswith(f"{module}_") or module.startswith(f"{subject}_") for module in modules
    )


def imported(path: Path) -> set[str]:
    """Folders of ``tests`` that a module imports from."""
    names = [
        name
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [f"{node.module}.{alias.name}" for alias in node.names]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    ]
    return {name.split(".")[1] for name in names if name.startswith("tests.")}


def marked(path: Path) -> bool:
    return "mark.integration" in path.read_text()


def test_the_tree_has_four_folders() -> None:
    entries = {path.name for path in TESTS.iterdir() if path.name != "__pycache__"}
    assert entries == FOLDERS | {"__init__.py", "conftest.py"}


@pytest.mark.parametrize("test", [str(path.relative_to(TESTS / "unit")) for path in test_modules("unit")])
def test_each_unit_test_mirrors_a_module(test: str) -> None:
    assert belongs(test), f"no module for tests/unit/{test}: rename it, move it, or add it to ABOUT"


@pytest.mark.parametrize("test", ["ingest/core/test_nothing.py", "ingest/nothing/test_trade.py", "core/test_trade.py"])
def test_a_unit_test_of_nothing_is_found(test: str) -> None:
    assert not belongs(test)


def test_no_line_about_a_test_that_is_gone() -> None:
    assert [test for test in ABOUT if not (TESTS / "unit" / test).is_file()] == []


def test_the_integration_marker_and_the_folder_agree() -> None:
    assert [str(path) for path in test_modules("unit") if marked(path)] == [], "belongs to tests/integration"
    assert [str(path) for path in test_modules("integration") if not marked(path)] == [], "belongs to tests/unit"


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_imports_between_the_folders(folder: str) -> None:
    wrong = {
        str(path.relative_to(TESTS)): found
        for path in sorted((TESTS / folder).rglob("*.py"))
        if (found := (imported(path) & FOLDERS) - MAY_IMPORT[folder])
    }
    assert wrong == {}


CODE = (*ROOTS.values(), TESTS)
LONG = {"plugins/ingest_ops/common/growth.py": 434}
"""Modules that are still to be split, with the length that they may have until then.

Any change of ``growth.py`` draws new held-out families: split it together with the next calibration.
"""


def modules() -> list[Path]:
    return [path for root in CODE for path in sorted(root.rglob("*.py")) if "_build" not in path.parts]


def test_no_module_has_more_than_400_lines() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules()}
    long = {name: length for name, length in lengths.items() if length > max(400, LONG.get(name, 0))}
    assert long == {}, "split it by purpose"


def test_nine_of_ten_functions_of_the_product_have_at_most_20_lines() -> None:
    lengths = sorted(
        (node.end_lineno or 0) - node.lineno + 1
        for path in modules()
        if not path.is_relative_to(TESTS)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert lengths[len(lengths) * 9 // 10] <= 20
