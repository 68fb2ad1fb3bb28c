"""The quick half of ``make attack``, on the real processes."""

import os
from contextlib import ExitStack

import pytest

from tests.campaigns.attack.__main__ import play
from tests.campaigns.attack.cgroup import Limit, MemoryLimit, NoLimit
from tests.harness.kafka import KafkaUnavailable

MB = 2**20
QUICK = [
    "large_headers", "connect_flood", "idle_connections", "token_guesses", "replayed_promotion", "commands", "crash",
    "junk_positions", "token_guesses at agent",
]  # fmt: skip


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_the_attacks_that_once_succeeded_are_held(capsys: pytest.CaptureFixture[str]) -> None:
    with ExitStack() as stack:
        limit: Limit
        try:
            limit = stack.enter_context(MemoryLimit("attack-test", 512 * MB))
        except (RuntimeError, OSError):  # without root the resident memory alone is judged
            limit = NoLimit()
        try:
            code = play(2.0, QUICK, limit)
        except KafkaUnavailable as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
    assert code == 0, capsys.readouterr().out
