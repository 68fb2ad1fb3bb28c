"""What the chart renders: its resources, their pods and containers."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.harness.helm import VALUES

WORKLOADS = {"Deployment", "StatefulSet", "Job"}
Resource = dict[str, Any]

modes = pytest.mark.parametrize("mode", sorted(VALUES))


def of_kind(resources: list[Resource], *kinds: str) -> list[Resource]:
    return [one for one in resources if one["kind"] in kinds]


def pods(resources: list[Resource]) -> Iterator[tuple[str, Resource]]:
    """Name of the workload, and its pod template."""
    for one in of_kind(resources, *WORKLOADS):
        yield one["metadata"]["name"], one["spec"]["template"]


def containers(pod: Resource) -> list[Resource]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


def expanded(value: str, earlier: Mapping[str, str]) -> str:
    """A variable's value as the kubelet makes it: references to variables that stand before it are replaced."""
    return re.sub(r"\$\((\w+)\)", lambda found: earlier.get(found[1], found[0]), value)


def written(tmp_path: Path, **values: Any) -> Path:
    """A file with values on top of an example's."""
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    return path
