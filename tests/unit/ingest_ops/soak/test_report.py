"""The report: valid by its schema with every sample in it, and a page that says everything without a network."""

import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest

from ingest_ops.common.verdict import Verdict
from ingest_ops.soak import report
from ingest_ops.soak.error_rates import Cell, Rates
from ingest_ops.soak.plan import SOAK_1H, SOAK_3MIN, SOAK_24H, Plan
from ingest_ops.soak.record import PREVIOUS, Record, State
from ingest_ops.soak.samples import Sample
from tests.unit.ingest_ops.soak.books import AUDITED, START, finished, sound

VALIDATOR = jsonschema.Draft202012Validator(json.loads(report.SCHEMA.read_text()))
RATES = Rates(
    "recorded soak (soak-x)",
    200,
    [
        Cell(
            plan="24h",
            family="recorded soak",
            half="held-out",
            promised=True,
            leak_mb=leak,
            truth=truth,
            series=200,
            passed=passed,
            failed=197 - passed,
            inconclusive=3,
        )
        for leak, truth, passed in ((0.0, "clean", 197), (60.0, "leak", 3))
    ],
)


def written(folder: Path, record: Record, rates: Rates | None = RATES) -> tuple[dict[str, object], str]:
    judgement, paths = report.write(folder, record, AUDITED, rates, now=START + 9e4)
    data = json.loads(paths["json"].read_text())
    VALIDATOR.validate(data)
    assert data["verdict"] == judgement.verdict
    return data, paths["html"].read_text()


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)


@pytest.mark.parametrize(
    "plan",
    [SOAK_24H, SOAK_1H, SOAK_3MIN, SOAK_24H.compressed_by(24.0), SOAK_1H.shortened(120.0)],
    ids=["24h", "1h", "3min", "compressed", "trial"],
)
def test_the_report_is_valid_and_has_every_sample(tmp_path: Path, plan: Plan) -> None:
    samples = sound(plan, 1.0)
    data, html = written(tmp_path, finished(plan, samples))
    stored = data["samples"]["candidate"]  # type: ignore[index]
    sizes = [Sample.from_json(row).values["rss"] for row in stored]
    assert sizes == pytest.approx([one.values["rss"] for one in samples])
    assert data["clock"]["kind"] == ("compressed" if plan.compressed else "real")  # type: ignore[index]
    assert str(data["verdict"]) in html
    assert ("compressed 24x" in html) is plan.compressed
    assert ("trial of" in html) is plan.trial
    assert "http://" not in html
    assert "https://" not in html


def test_the_page_has_both_sides_the_reasons_and_the_error_rates(tmp_path: Path) -> None:
    samples = sound(SOAK_24H, 80.0)
    samples[-1] = Sample(samples[-1].at, {**samples[-1].values, "rss": 60.0 * 2**20})
    data, html = written(tmp_path, finished(SOAK_24H, samples))
    assert data["verdict"] == "FAIL"
    assert data["plain"]["verdict"] == "PASS"  # type: ignore[index]
    assert "compares two single samples" in html
    assert "recorded soak" in html
    assert "1.50%" in html  # 3 of 200 false PASS
    assert "held-out: 1 families; false PASS at most 1.50% (below 3.83% with 95 % confidence" in html
    assert "1 families above 1%" in html


def test_without_rates_or_audit_the_page_says_so(tmp_path: Path) -> None:
    judgement, paths = report.write(tmp_path, finished(SOAK_1H, sound(SOAK_1H)), None, None, now=START)
    html = paths["html"].read_text()
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert "have not been measured" in html
    assert "was not audited" in html


def test_a_soak_that_was_ended_says_why_first(tmp_path: Path) -> None:
    record = replace(finished(SOAK_1H, sound(SOAK_1H)[:9]), state=State.ABORTED, reason="memory 401.0 MB is above")
    data, html = written(tmp_path, record)
    assert data["summary"] == "Ended early: memory 401.0 MB is above."
    assert html.index("memory 401.0 MB is above") < html.index("Resident memory and its trend")


def test_a_soak_without_any_sample_has_a_report_too(tmp_path: Path) -> None:
    record = Record(run_id="soak-none", plan=SOAK_1H, started=START, state=State.ABORTED, reason="nothing came")
    data, _ = written(tmp_path, record)
    assert data["verdict"] != "PASS"


def test_the_previous_release_is_beside(tmp_path: Path) -> None:
    record = finished(SOAK_1H, sound(SOAK_1H))
    record.tracks[PREVIOUS] = sound(SOAK_1H, 9.0)
    data, html = written(tmp_path, record)
    assert data["previous"]["growth_mb"]["estimate"] == pytest.approx(9.0, abs=1.0)  # type: ignore[index]
    assert "previous release" in html


def test_the_same_record_gives_the_same_report(tmp_path: Path) -> None:
    record = finished(SOAK_1H, sound(SOAK_1H))
    assert written(tmp_path / "a", record) == written(tmp_path / "b", record)
