"""The compiled hot path passes every test that the plain one passes: one source, two builds, no difference."""

import importlib
import os
import re
import subprocess
import sys

import pytest

from tests.harness.compiled import hot, tree

INSIDE = "K2_TEST_COMPILED"
TESTS = (
    "tests/integration/compiled/test_compiled.py",
    "tests/unit/ingest/binance/test_frame_scanner.py",
    "tests/unit/ingest/core/test_continuity.py",
    "tests/unit/ingest/core/test_pending_batches.py",
    "tests/unit/ingest/core/test_sequence.py",
    "tests/unit/ingest/core/test_sequence_halts.py",
    "tests/campaigns/deterministic/test_seeds.py",
    "tests/unit/ingest/kafka/test_encoding.py",
    "tests/unit/ingest/kafka/test_transactional_writer.py",
    "tests/unit/ingest/service/test_pipeline.py",
)
"""Where the compiled modules are at work; the seeds run the whole core on models."""
LEFT_OUT = "not planted"
"""Planted faults replace from outside what cannot be replaced once it is compiled."""
SEEDS = 500


@pytest.mark.integration
@pytest.mark.skipif(INSIDE in os.environ, reason="it would run itself")
@pytest.mark.timeout(1800)
def test_what_holds_for_the_sources_holds_for_what_is_compiled_from_them() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not integration", "-k", LEFT_OUT, *TESTS],
        cwd=tree(), env={**os.environ, INSIDE: "1", "SEEDS": str(SEEDS)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 120, "what is deselected proves nothing"


@pytest.mark.skipif(INSIDE not in os.environ, reason="for the tree with the compiled modules")
@pytest.mark.parametrize("name", hot())
def test_the_compiled_module_is_what_was_tested(name: str) -> None:
    assert (importlib.import_module(name).__file__ or "").endswith(".so")
