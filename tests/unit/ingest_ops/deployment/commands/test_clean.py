"""What grows is removed, and nothing else."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ingest_ops.__main__ import main
from ingest_ops.deployment.journal import Journal
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.settings import now
from ingest_ops.deployment.state_machine import State

DAY = 86_400.0


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("K2_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("K2_DEPLOY_JOURNAL_URL", f"sqlite:///{tmp_path / 'deployments' / 'journal.db'}")
    monkeypatch.setenv("K2_DEPLOY_REPORTS", str(tmp_path))
    return tmp_path


def written(path: Path, days: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{}")
    os.utime(path, (now() - days * DAY,) * 2)
    return path


def deployed(reports: Path, count: int) -> Journal:
    """Deployments that were closed 400 days ago and earlier, and one that is open since then."""
    at = [now() - 500 * DAY]
    journal = Journal(f"sqlite:///{reports / 'deployments' / 'journal.db'}", lambda: at[0])
    for number in range(count):
        at[0] += 3600
        journal.change(journal.create(f"d{number}", parse({"version": "v2"})), state=State.DONE)
    journal.create("open-one", parse({"version": "v3"}))
    return journal


def test_what_is_older_than_the_setting_goes_and_all_else_stays(
    reports: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (
        "deployments/a.html", "deployments/a.trail.jsonl", "soak/records/s.json", "soak/s.json",
        "validation/days/d.json",
    )  # fmt: skip
    gone = [written(reports / name, 400) for name in names]
    kept = [written(reports / name, days) for name, days in (
        ("deployments/new.html", 300), ("deployments/open-one.trail.jsonl", 400), ("examples/soak/old.json", 400),
        ("elsewhere/old.json", 400),
    )]  # fmt: skip
    (reports / "soak" / "link.json").symlink_to(kept[-1])
    journal = deployed(reports, 25)
    os.utime(reports / "deployments" / "journal.db", (now() - 400 * DAY,) * 2)
    assert main(["clean", "--dry-run"]) == 0
    assert f"{len(gone)} files" in capsys.readouterr().out
    assert all(path.exists() for path in gone)
    assert main(["clean", "--json"]) == 0
    said: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert said["files"] == len(gone)
    assert said["deployments"] == [f"d{number}" for number in range(6)], "the newest 20 stay, the open one among them"
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)
    assert (reports / "soak" / "link.json").is_symlink()
    assert journal.open_one() is not None
    journal.close()


def test_days_that_a_report_may_still_need_are_never_removed(reports: Path, capsys: pytest.CaptureFixture[str]) -> None:
    del reports
    with pytest.raises(SystemExit, match="2"):
        main(["clean", "--keep-days", "7"])
    assert "35" in capsys.readouterr().err
