"""The reference of the validation report names every check and every setting, and none that does not exist."""

import re
from dataclasses import fields
from pathlib import Path

from ingest_ops.common.report_settings import Limits, ReportSettings
from ingest_ops.validation.week import CHECKS

PAGE = (Path(__file__).parents[3] / "docs/reference/validation_report.md").read_text(encoding="utf-8")


def _names(section: str) -> set[str]:
    part = PAGE.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([\w.]+)`", row)}


def test_every_check_is_named() -> None:
    assert _names("Checks") == {check.id for check in CHECKS}


def test_every_setting_is_named() -> None:
    known = {field.name.upper() for part in (Limits, ReportSettings) for field in fields(part)} - {"LIMITS"}
    assert _names("Settings") == known
