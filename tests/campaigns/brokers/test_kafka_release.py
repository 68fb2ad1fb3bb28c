"""What ``make kafka-release`` concludes from its kills."""

import pytest

from tests.campaigns.brokers.kafka_release import Attempt, verdict


@pytest.mark.parametrize(
    ("attempts", "code"),
    [
        ([], 2),
        ([Attempt({}, skipped=False)], 0),
        ([Attempt({}, skipped=True)], 0),
        ([Attempt({}, skipped=True), Attempt({3: 1}, skipped=True)], 1),
    ],
)
def test_a_lost_marker_fails_and_no_attempt_is_no_verdict(attempts: list[Attempt], code: int) -> None:
    assert verdict(attempts) == code
