"""Deployments to two shards on the real parts: the canary stops a bad version, a late failure takes all back."""

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.campaigns.deployment.environment import faulty
from tests.campaigns.deployment.fleet_environment import FleetEnvironment
from tests.harness.prometheus import PrometheusUnavailable

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(2400)]

V1 = [("blue v1",), ("blue v1",)]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> Iterator[FleetEnvironment]:
    special = {"1": {"v3": faulty("dies-at-cut-over")}}
    try:
        with FleetEnvironment(tmp_path_factory.mktemp("fleet") / "fleet", kafka, special) as made:
            yield made
    except PrometheusUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def deployed(fleet: FleetEnvironment, version: str) -> tuple[int, str, list[dict[str, Any]]]:
    """Deploy: exit code, state of the whole, and each shard's part."""
    done = fleet.deploy(version, f"d-{version}")
    assert done.stdout.startswith("{"), done.stderr
    sys.stderr.write(done.stdout)
    found = json.loads(done.stdout)
    return done.returncode, found["state"], found["shards"]


def test_a_bad_version_stops_at_the_canary_and_the_other_shard_is_never_touched(fleet: FleetEnvironment) -> None:
    before = fleet.agents["1"].client.status("blue")
    code, state, shards = deployed(fleet, "alters")
    assert (code, state, shards[0]["deployed"]["state"]) == (1, "NOT_LIVE", "ABORTED")
    assert shards[1] == {"shard": "1", "deployed": None, "undone": None}
    assert fleet.writing() == V1
    after = {slot: fleet.agents["1"].client.status(slot) for slot in ("blue", "green")}
    assert (after["blue"], after["green"].started_at) == (before, None)


def test_what_fails_in_the_second_shard_is_taken_back_from_the_first(fleet: FleetEnvironment) -> None:
    code, state, shards = deployed(fleet, "v3")
    assert (code, state) == (1, "NOT_LIVE")
    assert [one["deployed"]["state"] for one in shards] == ["DONE", "ROLLED_BACK"]
    assert (shards[0]["undone"]["state"], shards[1]["undone"]) == ("ROLLED_BACK", None)
    assert fleet.writing() == V1


def test_a_good_version_goes_live_in_both_and_a_roll_back_takes_it_back_from_both(fleet: FleetEnvironment) -> None:
    code, state, shards = deployed(fleet, "v2")
    assert (code, state, [one["deployed"]["state"] for one in shards]) == (0, "DONE", ["DONE", "DONE"])
    assert fleet.writing() == [("green v2",), ("green v2",)]
    done = fleet.command("roll-back")
    assert done.returncode == 0, done.stdout + done.stderr
    assert fleet.writing() == V1
