"""The auditor is another program: whatever it does is a verdict, and never an exception."""

import json
import sys
from pathlib import Path

import pytest

from ingest_ops.common.audit_runner import AuditResult, run_audit
from ingest_ops.common.verdict import Verdict

FIGURES = {"verdict": "PASS", "reason": "clean", "totals": {"missing": 0}}
WRITE = "import sys, json; json.dump({figures}, open(sys.argv[sys.argv.index('--json') + 1], 'w')); print({line!r})"


def auditor(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(("code", "verdict"), [(0, "PASS"), (1, "FAIL"), (2, "INCONCLUSIVE")])
def test_the_exit_code_is_the_verdict(tmp_path: Path, code: int, verdict: str) -> None:
    figures = {**FIGURES, "verdict": verdict}
    script = WRITE.format(figures=figures, line="a table\nthe last line") + f"; sys.exit({code})"
    found = run_audit(auditor(script), tmp_path / "deep" / "figures.json")
    assert found.verdict == verdict
    assert found.reason == f"exit {code}: the last line"
    assert found.figures == figures


@pytest.mark.parametrize("code", [1, 2, 70, 75, 139])
def test_an_exit_code_that_the_figures_do_not_have_is_no_verdict(tmp_path: Path, code: int) -> None:
    script = WRITE.format(figures=FIGURES, line="killed") + f"; sys.exit({code})"
    found = run_audit(auditor(script), tmp_path / "figures.json")
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "figures say PASS" in found.reason


def test_a_python_without_the_package_is_no_fail(tmp_path: Path) -> None:
    """The interpreter itself ends with 1."""
    found = run_audit(auditor("import no_such_package"), tmp_path / "figures.json")
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "ModuleNotFoundError" in found.reason


def test_no_figures_are_no_pass(tmp_path: Path) -> None:
    old = tmp_path / "figures.json"
    old.write_text(json.dumps(FIGURES))
    assert run_audit(auditor("pass"), old).verdict is Verdict.INCONCLUSIVE
    assert not old.exists()


def test_a_missing_or_endless_auditor_is_inconclusive(tmp_path: Path) -> None:
    assert run_audit(["/no/such/program"], tmp_path / "f").verdict is Verdict.INCONCLUSIVE
    slow = run_audit(auditor("import time; time.sleep(60)"), tmp_path / "f", timeout=0.5)
    assert slow.verdict is Verdict.INCONCLUSIVE


def test_figures_alone_are_a_verdict_too() -> None:
    assert AuditResult.of_figures(FIGURES).verdict is Verdict.PASS
    with pytest.raises(ValueError, match="no figures"):
        AuditResult.of_figures({"verdict": "PASS"})
    with pytest.raises(ValueError, match="MAYBE"):
        AuditResult.of_figures({"verdict": "MAYBE", "reason": ""})
