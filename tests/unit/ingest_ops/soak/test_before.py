"""The soak before: found among other reports, and shown beside this one's values."""

from dataclasses import replace
from pathlib import Path

from ingest_ops.soak import report
from ingest_ops.soak.before import before
from ingest_ops.soak.plan import SOAK_1H, SOAK_3MIN, Plan
from ingest_ops.soak.record import Record
from tests.unit.ingest_ops.soak.books import AUDITED, START, finished, sound

DAY = 86_400.0


def soak(name: str, plan: Plan = SOAK_3MIN, *, later: float = 0.0) -> Record:
    """A sound soak that began so many seconds after the first one."""
    found = finished(plan, sound(plan, 1.0))
    return replace(found, run_id=name, started=found.started + later)


def write(folder: Path, record: Record) -> str:
    _, paths = report.write(folder, record, AUDITED, None, now=START + 9e4)
    return paths["html"].read_text()


def test_the_first_soak_is_compared_with_nothing(tmp_path: Path) -> None:
    assert before(tmp_path / "none", soak("first")) is None
    assert ">Before<" not in write(tmp_path, soak("first"))


def test_the_next_one_shows_the_values_before_and_the_change(tmp_path: Path) -> None:
    write(tmp_path, soak("first"))
    html = write(tmp_path, soak("second", later=DAY))
    assert ">Before<" in html
    assert ">Change<" in html
    assert "the soak first" in html
    assert "+0.00" in html, "the same samples"


def test_only_a_like_soak_that_began_before_is_compared(tmp_path: Path) -> None:
    for other in (soak("hour", SOAK_1H), soak("trial", SOAK_3MIN.shortened(60.0)), soak("later", later=2 * DAY)):
        write(tmp_path, other)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[" * 5000)
    assert before(tmp_path, soak("mine", later=DAY)) is None
    write(tmp_path, soak("like"))
    found = before(tmp_path, soak("mine", later=DAY))
    assert found is not None
    assert found.run_id == "like"
    assert found.values


def test_a_report_that_is_made_again_is_not_compared_with_itself(tmp_path: Path) -> None:
    write(tmp_path, soak("one"))
    assert before(tmp_path, soak("one")) is None
