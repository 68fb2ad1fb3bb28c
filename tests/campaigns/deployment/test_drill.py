"""Two deployments over the real parts; all of them by ``make deploy-drill``."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaigns.deployment.drill import attempt
from tests.campaigns.deployment.environment import DeploymentEnvironment
from tests.harness.prometheus import PrometheusUnavailable

pytestmark = [pytest.mark.integration, pytest.mark.timeout(2400)]


@pytest.fixture
def field(tmp_path: Path, kafka: str) -> Iterator[DeploymentEnvironment]:
    try:
        with DeploymentEnvironment(tmp_path / "field", kafka, rate=200, topic="trades.deployment") as made:
            yield made
    except PrometheusUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def test_a_good_version_goes_live_and_one_that_dies_as_the_writer_is_taken_back(field: DeploymentEnvironment) -> None:
    assert field.command("validate", "--slot", "green", "--window", "5", "--scrape-seconds", "1").returncode != 0
    live = attempt(field, "v2")
    assert live.good, live
    back = attempt(field, "dies-in-validation")
    assert back.good, back
    assert back.writers == ("green",)
    done = field.command("roll-back", "--id", "by-hand")
    assert done.returncode == 0, done.stdout + done.stderr
    assert field.writers() == ["blue"]
    assert field.agent.status("blue").version == "v1", "not the version that ran there last: that one was taken back"
    assert field.report("by-hand")["facts"]["audit"]["verdict"] == "PASS"
