"""The Airflow provider: its metadata, and the entry points by which Airflow finds it."""

import importlib.util
import json
import tomllib
from importlib.resources import files

import jsonschema
import pytest

import ingest
from ingest_ops.airflow.provider import get_provider_info
from tests.harness.interpreters import ROOT

PROJECT = tomllib.loads((ROOT / "plugins" / "pyproject.toml").read_text())["project"]
INFO = get_provider_info()


def test_its_metadata_is_what_airflow_wants() -> None:
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(INFO, schema)
    assert (INFO["package-name"], INFO["versions"]) == (PROJECT["name"], [ingest.__version__])


@pytest.mark.parametrize(
    "module", [name for kind in ("operators", "triggers") for part in INFO[kind] for name in part["python-modules"]]
)
def test_every_module_that_it_names_exists(module: str) -> None:
    assert importlib.util.find_spec(module) is not None


def test_its_entry_points_exist() -> None:
    points = PROJECT["entry-points"]["apache_airflow_provider"] | PROJECT["entry-points"]["airflow.plugins"]
    assert set(points) == {"provider_info", "ingest_ops"}
    for point in points.values():
        module, _, _ = point.partition(":")
        assert importlib.util.find_spec(module) is not None
