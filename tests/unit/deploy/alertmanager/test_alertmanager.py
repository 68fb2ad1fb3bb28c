"""What one alert suppresses of another: never a page about another shard or another slot."""

import re
from typing import Any

import pytest
import yaml

from deploy.checks import ALERTS
from deploy.generate import ROOT

RULES: list[dict[str, Any]] = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yaml").read_text("utf-8"))[
    "inhibit_rules"
]
NAMES = [alert.name for alert in ALERTS]


def matches(matcher: str, labels: dict[str, str]) -> bool:
    """One matcher of Alertmanager's, ``label = value`` or ``label =~ "pattern"``."""
    label, operator, value = re.fullmatch(r'(\w+) (=|=~) "?(.*?)"?', matcher).groups()  # type: ignore[union-attr]
    pattern = value if operator == "=~" else re.escape(value)
    return re.fullmatch(pattern, labels.get(label, "")) is not None


def suppressed(target: dict[str, str], source: dict[str, str]) -> bool:
    """As Alertmanager decides it: an absent label equals an empty one."""
    return any(
        all(matches(one, source) for one in rule["source_matchers"])
        and all(matches(one, target) for one in rule["target_matchers"])
        and all(source.get(label, "") == target.get(label, "") for label in rule.get("equal", ()))
        for rule in RULES
    )


GONE = {"alertname": "IngestTargetAbsent"}
STALE = {"alertname": "IngestFreshnessBurnFast"}
MEMORY = {"alertname": "BinanceMemoryHigh", "slot": "blue"}
CRITICAL = {"alertname": "BinanceMemoryCritical", "slot": "blue"}


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        (STALE, GONE, True),
        # Shard 1 is gone, shard 0 stops committing: its only page.
        (STALE, {**GONE, "shard": "1"}, False),
        ({**STALE, "alertname": "IngestFreshnessBurnSlow"}, STALE, True),
        (MEMORY, CRITICAL, True),
        (MEMORY, {**CRITICAL, "slot": "green"}, False),
        ({**MEMORY, "shard": "0"}, {**CRITICAL, "shard": "1"}, False),
        ({"alertname": "IngestDataLoss"}, GONE, False),
    ],
)
def test_an_alert_suppresses_what_it_explains_and_nothing_else(
    target: dict[str, str], source: dict[str, str], *, expected: bool
) -> None:
    assert suppressed(target, source) is expected


def test_every_name_in_a_rule_is_that_of_an_alert() -> None:
    for rule in RULES:
        for one in (*rule["source_matchers"], *rule["target_matchers"]):
            assert any(matches(one, {"alertname": name}) for name in NAMES), one
