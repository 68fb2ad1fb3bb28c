"""``ingest health`` against the real door."""

from urllib.parse import urlsplit

import pytest

from ingest.control.health_command import ask, port_of
from ingest.control.server import Health
from ingest.core.errors import BadSettings
from tests.control.conftest import FakeProbe
from tests.support.kafka import free_ports


@pytest.mark.parametrize(("ok", "reason"), [(True, ""), (False, "nothing was committed for 31.0 s")])
def test_it_says_what_the_instance_says(status_url: str, probe: FakeProbe, ok: bool, reason: str) -> None:
    probe.fit = Health(ok=ok, reason=reason, details={})
    healthy, text = ask(urlsplit(status_url).port or 0, 3.0)
    assert healthy is ok
    assert reason in text


def test_nobody_there_is_not_healthy() -> None:
    healthy, text = ask(free_ports(1)[0], 1.0)
    assert not healthy
    assert "no answer" in text


def test_the_port_is_the_setting_s_and_no_other_setting_matters() -> None:
    assert port_of({}) == 9095
    assert port_of({"K2_METRICS_PORT": "9195", "K2_BINANCE_SYMBOLS": "no symbol"}) == 9195
    with pytest.raises(BadSettings):
        port_of({"K2_METRICS_PORT": "x"})
