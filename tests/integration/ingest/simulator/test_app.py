"""The simulator as a process."""

from pathlib import Path

import pytest

from tests.harness.processes import SimulatorProcess

pytestmark = pytest.mark.integration


def test_as_a_process(tmp_path: Path) -> None:
    with SimulatorProcess(tmp_path, "--symbols", "3", "--rate", "500") as process:
        assert set(process.ready) == {"pid", "ws_url", "rest_url", "admin_url"}
        assert process.process is not None
        assert process.ready["pid"] == process.process.pid
        while process.sent() < 10:
            pass
        assert process.market("stop")["running"] is False
        assert process.fault("gap", count=1)["kind"] == "gap"
        assert process.terminate() == 0
