"""Dropped packets do not outlive the process that drops them."""

import os
import subprocess
import sys

import pytest

from tests.harness import netns

CODE = "import os, signal; from tests.harness.netns import Drop; Drop(2).begin(); os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.skipif(not netns.can_drop() and not os.environ.get("CI"), reason="no packet filter")
def test_the_rules_of_a_killed_process_are_removed_by_the_next_one() -> None:
    assert subprocess.run([sys.executable, "-c", CODE], check=False).returncode < 0
    netns.remove_stale()
    assert not (netns.KEPT / "2").exists()
    rules = subprocess.run(["iptables", "-w", "-S", "INPUT"], check=True, capture_output=True, text=True).stdout
    assert "port 2 " not in rules
