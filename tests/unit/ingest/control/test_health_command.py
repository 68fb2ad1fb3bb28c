"""``ingest health`` against the real door."""

from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry

from ingest.control.health_command import address_of, ask
from ingest.control.server import Health, Process, StatusServer
from ingest.core.errors import BadSettings
from tests.harness.kafka import free_ports
from tests.unit.ingest.control.conftest import FakeProbe


@pytest.mark.parametrize(("ok", "reason"), [(True, ""), (False, "nothing was committed for 31.0 s")])
def test_it_says_what_the_instance_says(status_url: str, probe: FakeProbe, ok: bool, reason: str) -> None:
    probe.fit = Health(ok=ok, reason=reason, details={})
    healthy, text = ask("127.0.0.1", urlsplit(status_url).port or 0, 3.0)
    assert healthy is ok
    assert reason in text


def test_nobody_there_is_not_healthy() -> None:
    healthy, text = ask("127.0.0.1", free_ports(1)[0], 1.0)
    assert not healthy
    assert "no answer" in text


def test_the_address_is_that_of_the_settings_and_no_other_setting_matters() -> None:
    assert address_of({}) == ("127.0.0.1", 9095)
    assert address_of({"K2_METRICS_PORT": "9195", "K2_BINANCE_SYMBOLS": "no symbol"}) == ("127.0.0.1", 9195)
    assert address_of({"K2_METRICS_HOST": "10.1.2.3"}) == ("10.1.2.3", 9095)
    assert address_of({"K2_METRICS_HOST": "0.0.0.0"}) == ("127.0.0.1", 9095)  # noqa: S104 - not bound
    assert address_of({"K2_METRICS_HOST": "::"}) == ("::1", 9095)
    with pytest.raises(BadSettings):
        address_of({"K2_METRICS_PORT": "x"})
    with pytest.raises(BadSettings):
        address_of({"K2_METRICS_HOST": "http://10.1.2.3"})


def test_an_instance_on_another_address_is_asked_there(probe: FakeProbe) -> None:
    with StatusServer(
        "127.0.0.2", 0, registry=CollectorRegistry(), probe=probe, process=Process("blue", "1")
    ) as server:
        port = urlsplit(server.url).port or 0
        assert ask("127.0.0.2", port, 3.0)[0]
        assert not ask("127.0.0.1", port, 3.0)[0]
