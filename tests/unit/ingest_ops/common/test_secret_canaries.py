"""No setting of the operations shows a secret of a refused value."""

from dataclasses import fields

import msgspec
import pytest

from ingest.core.errors import BadSettings
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.common.report_settings import Limits, ReportSettings
from ingest_ops.deployment.settings import DeploySettings, load
from tests.unit.ingest.test_settings_refused import CANARY, SPELLINGS

SETTINGS = (
    [("K2_ARCHIVE_" + one.name.upper(), ArchiveSettings.load) for one in fields(ArchiveSettings)]
    + [("K2_REPORT_" + one.name.upper(), ReportSettings.load) for one in fields(ReportSettings) + fields(Limits)]
    + [("K2_DEPLOY_" + one.name.upper(), load) for one in msgspec.structs.fields(DeploySettings)]
    + [(name + suffix, load) for name in ("K2_AGENT_TOKEN", "K2_CONTROL_TOKEN") for suffix in ("", "_FILE")]
)
URLS = [
    ("K2_ARCHIVE_REST_URL", ArchiveSettings.load), ("K2_ARCHIVE_FILES_URL", ArchiveSettings.load),
    ("K2_ARCHIVE_SCHEMA_REGISTRY_URL", ArchiveSettings.load), ("K2_REPORT_PROMETHEUS_URL", ReportSettings.load),
]  # fmt: skip


@pytest.mark.parametrize(("name", "reading"), SETTINGS, ids=[name for name, _ in SETTINGS])
def test_a_refused_value_never_shows_its_secret(name: str, reading: object) -> None:
    for value in SPELLINGS:
        try:
            reading({name: value})  # type: ignore[operator]
        except BadSettings as error:
            told = "\n".join(error.problems)
            assert CANARY not in told, value
            assert "K2_" in told


@pytest.mark.parametrize(("name", "reading"), URLS, ids=[name for name, _ in URLS])
def test_an_address_with_a_password_is_refused_by_its_name(name: str, reading: object) -> None:
    with pytest.raises(BadSettings, match=rf"{name}='http://\*+@h:1'"):
        reading({name: "http://u:CANARY@h:1"})  # type: ignore[operator]
