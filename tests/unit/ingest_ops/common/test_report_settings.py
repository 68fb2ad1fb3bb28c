"""Thresholds and addresses from the environment."""

from pathlib import Path

import pytest

from ingest.core.errors import BadSettings
from ingest_ops.common.report_settings import ReportSettings


def test_defaults_are_those_of_the_plan() -> None:
    limits = ReportSettings.load({}).limits
    assert (limits.memory_mb, limits.rate_per_second, limits.reconnects) == (400, 10, 0)
    assert (limits.freshness_percent, limits.connection_age_seconds, limits.pong_age_seconds) == (99.9, 14_520, 195)


def test_every_kind_of_value_is_read() -> None:
    settings = ReportSettings.load(
        {
            "K2_REPORT_MEMORY_MB": "350.5",
            "K2_REPORT_RECONNECTS": "2",
            "K2_REPORT_ALERT_SEVERITIES": "critical, page",
            "K2_REPORT_REPORTS": "/var/reports",
            "K2_REPORT_PROMETHEUS_CA_FILE": "/etc/ca.pem",
            "K2_REPORT_SELECTOR": 'job="ingest",slot=~"blue|green"',
            "K2_REPORT_AUDIT_COMMAND": "",
            "K2_BINANCE_SYMBOLS": "BTCUSDT",
        }
    )
    assert settings.limits.memory_mb == 350.5
    assert settings.limits.reconnects == 2
    assert settings.limits.alert_severities == ("critical", "page")
    assert settings.folder == Path("/var/reports/validation")
    assert settings.prometheus_ca_file == Path("/etc/ca.pem")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MEMORY_MB", "much"), ("MEMORY_MB", "-1"), ("MEMORY_MB", "nan"), ("MEMORY_MB", "inf"), ("RECONNECTS", "0.5"),
        ("LEAST_COVERAGE", "0"), ("LEAST_COVERAGE", "1.1"), ("SELECTOR", 'job="x"} or up{job="y"'), ("SELECTOR", "job"),
        ("PROMETHEUS_URL", "file:///etc/passwd"), ("PROMETHEUS_URL", "http://user:secret@host"),
        ("SCRAPE_SECONDS", "0"), ("MEMORY_MEGABYTES", "400"), ("LIMITS", "1"),
    ],
)  # fmt: skip
def test_a_wrong_or_unknown_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(BadSettings, match=f"K2_REPORT_.*{name}"):
        ReportSettings.load({f"K2_REPORT_{name}": value})


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(BadSettings) as caught:
        ReportSettings.load({"K2_REPORT_MEMORY_MB": "x", "K2_REPORT_NEW": "1", "K2_REPORT_SELECTOR": ""})
    assert len(caught.value.problems) == 2
