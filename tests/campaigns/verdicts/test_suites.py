"""The matrix names every suite of gates, and no file that is not there."""

from tests.campaigns.verdicts.__main__ import SUITES
from tests.harness.processes import ROOT

NAMED = {path for paths in SUITES.values() for path in paths}


def test_every_suite_of_gates_is_in_the_matrix() -> None:
    gates = {str(path.relative_to(ROOT)) for path in ROOT.glob("tests/unit/ingest_ops/deployment/test_gate*.py")}
    assert len(gates) >= 3
    assert gates - NAMED == set()


def test_every_suite_of_the_matrix_is_there() -> None:
    assert [path for path in NAMED if not (ROOT / path).is_file()] == []
