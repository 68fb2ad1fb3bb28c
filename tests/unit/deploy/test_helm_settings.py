"""The chart's schema of settings says what their declarations say."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from deploy.helm_schema import values_schema
from deploy.helm_settings import (
    BY_CHART,
    REQUIRED,
    path_names,
    secret_names,
    settings_schema,
)
from ingest.core.errors import BadSettings
from ingest.settings import declared, load
from ingest.settings.declarations import MOST_PEERS
from tests.harness.helm import CHART, SHARED_ATTEMPTS, fleet_attempts
from tests.harness.processes import ROOT

SCHEMA = settings_schema()
KNOWN = {setting.name: setting for setting in declared()}
REST = dict.fromkeys(REQUIRED, "kafka:9092")


def accepted(**settings: Any) -> bool:
    return bool(jsonschema.Draft7Validator(SCHEMA).is_valid(REST | settings))


def read(name: str, value: Any) -> bool:
    """Whether a value is one that the declaration allows; contradictions with other settings are not meant here."""
    text = ",".join(value) if isinstance(value, list) else json.dumps(value).strip('"')
    try:
        load({name: text})
    except BadSettings as error:
        return not re.search(rf"{name}=.*: allowed is {re.escape(KNOWN[name].allowed)}(;|\n|$)", str(error))
    return True


def test_every_setting_has_one_place_in_the_chart() -> None:
    users, secret = set(SCHEMA["properties"]), {name for name, one in KNOWN.items() if one.secret}
    assert users | secret | BY_CHART >= set(KNOWN)
    assert not users & BY_CHART
    assert not users & secret
    assert set(KNOWN) >= users | secret
    assert secret - BY_CHART <= set(secret_names()["anyOf"][0]["enum"])
    assert path_names()["anyOf"][0]["enum"] == ["K2_BINANCE_CUSTOM_CA_BUNDLE"]


def test_names_in_the_templates_are_declared() -> None:
    files = [*(CHART / "templates").iterdir(), CHART / "values.yaml", *(CHART / "ci").iterdir()]
    found = {(path.name, name) for path in files for name in re.findall(r"\bK2_[A-Z0-9_]+[A-Z0-9]\b", path.read_text())}
    wrong = {(file, name) for file, name in found if name.removesuffix("_FILE") not in KNOWN}
    assert {one for one in wrong if not one[1].startswith("K2_KAFKA_OPTION")} == set()
    assert set(KNOWN) >= BY_CHART


@pytest.mark.parametrize("name", sorted(SCHEMA["properties"]))
def test_a_setting_s_default_is_accepted(name: str) -> None:
    default = KNOWN[name].default
    if default is None or name in REQUIRED:
        return
    assert accepted(**{name: [*default] if isinstance(default, tuple) else default})


@pytest.mark.parametrize("name", sorted(SCHEMA["properties"]))
def test_the_schema_and_the_service_agree_about_a_value(name: str) -> None:
    limits = [limit for word, limit in SCHEMA["properties"][name].items() if "imum" in word.lower()]
    for limit in limits:
        for value in (limit - 1, limit, limit + 1):
            assert accepted(**{name: value}) == read(name, value), f"{name}={value}"
    for value in ("a b", "x" * 300, "trade", True, "LOUD", ["A", "B"], 1.5):
        if accepted(**{name: value}):
            assert read(name, value), f"the schema lets {name}={value!r} pass"


@pytest.mark.parametrize("bad", [{"K2_BINANCE_SYMBOL": "A"}, {"K2_SHARD_INDEX": 0}, {"K2_CONTROL_TOKEN": "x" * 16}])
def test_what_is_no_setting_of_a_user_is_refused(bad: dict[str, Any]) -> None:
    assert not accepted(**bad)


def test_the_schema_is_one_and_knows_every_value(tmp_path: Path) -> None:
    schema = values_schema()
    jsonschema.Draft7Validator.check_schema(schema)
    top = set(re.findall(r"^(\w+):", (CHART / "values.yaml").read_text(), re.M))
    assert top | {"global"} == set(schema["properties"])


@pytest.mark.parametrize(
    "path",
    [CHART / "templates" / "_pod.tpl", ROOT / "docker-compose.yaml", ROOT / "docs" / "how_to" / "scale_to_shards.md"],
    ids=["the chart", "compose", "the guide"],
)
def test_a_fleet_is_given_one_number_of_attempts_everywhere(path: Path) -> None:
    found = re.findall(rf'{SHARED_ATTEMPTS}(?:\n *value: |: |=)"?([0-9]+)', path.read_text())
    assert found == [str(fleet_attempts())]


@pytest.mark.parametrize(("count", "valid"), [(0, False), (1, True), (MOST_PEERS, True), (MOST_PEERS + 1, False)])
def test_a_chart_has_no_more_slots_than_an_instance_may_have_peers(*, count: int, valid: bool) -> None:
    """K2_PEERS has an address of each slot."""
    slots = [{"name": f"s{number}"} for number in range(count)]
    assert jsonschema.Draft7Validator(values_schema()["properties"]["slots"]).is_valid(slots) is valid
