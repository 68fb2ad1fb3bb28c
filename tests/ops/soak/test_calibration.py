"""The error rates: measured on planted leaks, and what is committed says what the issue of this method promised."""

import json
from pathlib import Path

import numpy as np
import pytest

from ingest_ops.common.verdict import Verdict
from ingest_ops.soak import calibration
from ingest_ops.soak.calibration import REAL, RECORDING, Recording, cell, recorded
from ingest_ops.soak.error_rates import Rates
from ingest_ops.soak.plan import SOAK_24H


def made_up(count: int = 720) -> Recording:
    random = np.random.default_rng(5)
    return Recording("made-up", 5.0, (61.0 + np.cumsum(random.normal(0.0, 0.02, count))).tolist())


def test_a_leak_above_the_limit_never_passes_and_one_below_does() -> None:
    noise = recorded(made_up(), SOAK_24H)
    above = cell(SOAK_24H, REAL, noise, 60.0, 10, 1)
    below = cell(SOAK_24H, REAL, noise, 20.0, 10, 1)
    assert (above.passed, above.false_pass, above.false_fail) == (0, 0.0, None)
    assert (below.passed, below.false_pass, below.false_fail) == (10, None, 0.0)


def test_the_noise_of_a_recording_has_its_size_and_its_correlation() -> None:
    recording = made_up()
    drawn = recorded(recording, SOAK_24H)(np.random.default_rng(1), 1441)
    kept = np.asarray(recording.sizes_mb[360:])
    assert len(drawn) == 1441
    assert 0.3 * np.ptp(kept) < np.ptp(drawn) < 1.5 * np.ptp(kept)
    steps = np.abs(np.diff(drawn))
    assert np.median(steps) < np.ptp(drawn) / 4


def test_too_short_a_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too few"):
        recorded(made_up(150), SOAK_24H)
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(ValueError, match="no recording"):
        Recording.load(tmp_path / "x.json")


def test_the_rates_are_written_where_the_reports_read_them(tmp_path: Path) -> None:
    source = tmp_path / "noise.json"
    source.write_text(json.dumps(made_up().as_json()))
    text = calibration.run(2, source, tmp_path / "rates.json", ["3min"])
    rates = Rates.load(tmp_path / "rates.json")
    assert "made-up" in rates.source
    assert len(rates.cells) == len(calibration.SHARES) * (1 + len(calibration.GENERATED))
    assert f"false {Verdict.PASS}" in text
    with pytest.raises(ValueError, match="no rates"):
        Rates.load(source)


def test_the_committed_rates_keep_the_promise() -> None:
    """Not one of 200 soaks from real noise passes with 60 MB/24 h; with 20 MB/24 h at least 90 % do."""
    rates = Rates.load()
    source = Recording.load(RECORDING).source
    assert source in rates.source
    assert rates.series >= 200
    real = {one.leak_mb: one for one in rates.of("24h").cells if one.noise == REAL}
    assert real[60.0].passed == 0
    assert real[60.0].series >= 200
    assert real[20.0].passed >= 0.9 * real[20.0].series
    assert real[20.0].failed == 0
