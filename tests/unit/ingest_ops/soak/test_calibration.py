"""The error rates: measured on planted leaks, and what is committed says what the issue of this method promised."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ingest_ops.common import growth
from ingest_ops.soak import calibration
from ingest_ops.soak.calibration import RECORDING, Recording, broken, calibrate, recorded
from ingest_ops.soak.error_rates import Cell, Rates, allowed, upper_bound
from ingest_ops.soak.families import HELD_OUT, families
from ingest_ops.soak.plan import PLANS, SOAK_1H, SOAK_24H, Plan


def made_up(count: int = 720) -> Recording:
    random = np.random.default_rng(5)
    return Recording("made-up", 5.0, (61.0 + np.cumsum(random.normal(0.0, 0.02, count))).tolist())


def rates(family: str, plan: Plan = SOAK_24H, count: int = 8) -> dict[float, Cell]:
    noise = recorded(made_up(), plan)
    chosen = [one for one in families() if one.name == family]
    assert chosen, family
    return {one.leak_mb / plan.growth_mb: one for one in calibrate(plan, chosen, noise, count)}


def test_a_leak_above_the_limit_never_passes_and_one_below_does() -> None:
    found = rates("recorded soak")
    assert (found[1.2].truth, found[1.2].passed, found[1.2].failed) == ("leak", 0, 8)
    assert (found[0.0].truth, found[0.0].passed, found[0.0].wrong) == ("clean", 8, 0.0)


@pytest.mark.parametrize("family", [one.name for one in families() if one.half == "named" and not one.plans])
def test_no_leak_passes_in_any_named_family(family: str) -> None:
    for share, one in rates(family, count=4).items():
        assert one.truth != "leak" or one.passed == 0, (share, one)


def test_a_leak_within_the_discarded_warm_up_is_not_counted_against_the_plan() -> None:
    one = replace(next(one for one in families() if one.trend == "bursts"), name="early")
    cells = calibrate(SOAK_1H, [one], recorded(made_up(), SOAK_1H), 20)
    assert {cell.truth for cell in cells if cell.leak_mb >= 12.0} == {"leak", "between"}


def test_the_same_seed_draws_the_same_families() -> None:
    assert families() == families()
    assert len({one.name for one in families()}) == len(families()) >= 60
    assert sum(one.half == "held-out" for one in families()) == 40


def test_the_held_out_seed_is_the_hash_of_the_method() -> None:
    """So that it was not chosen: a change of the method draws other families, and needs another measurement."""
    source = Path(growth.__file__).read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(source) + source, usedforsecurity=False).hexdigest()
    assert f"{HELD_OUT:08x}" == blob[:8]


def test_every_cell_has_the_series_that_were_asked_for() -> None:
    """A family in which few leaks are seen by the plan is drawn more often: one wrong verdict of 60 is no rate."""
    one = next(one for one in families() if one.trend == "bursts")
    cells = calibrate(SOAK_1H, [one], recorded(made_up(), SOAK_1H), 12)
    assert all(cell.series >= 12 for cell in cells if cell.truth in ("leak", "clean"))


def test_a_leak_of_exactly_the_limit_is_measured_apart() -> None:
    found = rates("recorded soak")[1.0]
    assert (found.truth, found.passed) == ("limit", 0)


def test_what_chance_explains_is_not_called_wrong() -> None:
    assert [allowed(series) for series in (62, 100, 300)] == [4, 5, 10]
    cell = rates("recorded soak")[1.2]
    few, many = (replace(cell, series=100, passed=passed, failed=100 - passed) for passed in (2, 6))
    assert (few.beyond_chance, many.beyond_chance) == (False, True)


@pytest.mark.parametrize(("wrong", "series", "bound"), [(0, 300, 0.00994), (1, 300, 0.01572), (3, 1000, 0.00774)])
def test_the_bound_is_that_of_clopper_and_pearson(wrong: int, series: int, bound: float) -> None:
    assert upper_bound(wrong, series) == pytest.approx(bound, rel=2e-3)
    assert upper_bound(series, series) == 1.0


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


def test_the_rates_are_written_where_the_reports_read_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a few families of each half: each takes its time on a busy machine, and their number proves nothing more."""
    of_plan = [one for one in families() if one.applies(PLANS["3min"])]
    few = [one for half in ("named", "held-out") for one in [one for one in of_plan if one.half == half][:3]]
    other = next(one for one in families() if not one.applies(PLANS["3min"]))
    monkeypatch.setattr(calibration, "families", lambda: [*few, other])
    source = tmp_path / "noise.json"
    source.write_text(json.dumps(made_up().as_json()))
    text, _ = calibration.run(1, source, tmp_path / "rates.json", ["3min"])
    found = Rates.load(tmp_path / "rates.json")
    assert "made-up" in found.source
    assert {one.family for one in found.families()} == {one.name for one in few}
    assert "false PASS" in text
    with pytest.raises(ValueError, match="no rates"):
        Rates.load(source)


@pytest.mark.parametrize("plan", ["24h", "12h", "1h"])
def test_the_committed_rates_keep_the_promise(plan: str) -> None:
    """At most 1 % wrong verdicts in every family, the held-out half included, from at least 300 series a cell."""
    found = Rates.load()
    assert Recording.load(RECORDING).source in found.source
    assert found.series >= 300
    mine = found.of(plan)
    assert [one.family for one in broken(mine)] == []
    by_name = {one.family: one for one in mine.families()}
    assert set(by_name) == {one.name for one in families() if one.applies(PLANS[plan])}
    assert {one.series for one in mine.cells if one.truth == "clean" and one.leak_mb == 0.0} == {found.series}
    assert by_name["recorded soak"].clean.passed >= 0.9 * by_name["recorded soak"].clean.series
    assert any("held-out: " in line for line in mine.summary())
