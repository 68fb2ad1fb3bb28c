"""The archive's clients: only an exchange outside is reached through the proxy of the environment."""

from collections.abc import Iterator

import pytest

from ingest_ops.archive.exchange_client import exchange_client, is_loopback
from ingest_ops.archive.settings import ArchiveSettings
from ingest_ops.archive.source import Schemas
from tests.harness.loopback import answering

SCHEMA = b'{"schema": "\\"string\\""}'
"""What a registry answers."""


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server on this machine, where the environment names a proxy that does not answer."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with answering(SCHEMA) as address:
        yield address


def test_the_registry_and_an_exchange_on_this_machine_answer_although_there_is_a_proxy(url: str) -> None:
    schemas = Schemas(ArchiveSettings(schema_registry_url=url))
    assert schemas[bytes(5)] == "string"
    schemas.close()
    with exchange_client(url, timeout=10.0) as client:
        assert client.get(url).status_code == 200


@pytest.mark.parametrize(("address", "loopback"), [
    ("http://127.0.0.1:9100", True), ("http://127.8.0.1", True), ("http://[::1]:9100/x", True),
    ("http://localhost:9100", True), ("http://sim.localhost", True), ("https://api.binance.com", False),
    ("http://simulator:9100", False), ("http://10.0.0.7:9100", False), ("https://localhost.example", False),
    ("", False),
])  # fmt: skip
def test_this_machine_is_known_by_its_names(address: str, *, loopback: bool) -> None:
    assert is_loopback(address) is loopback


@pytest.mark.parametrize(("address", "obeys"), [("https://api.binance.com", True), ("http://127.0.0.1:9100", False)])
def test_only_an_exchange_outside_may_be_behind_the_proxy_of_the_environment(address: str, *, obeys: bool) -> None:
    with exchange_client(address, timeout=1.0, headers={"X": "y"}, follow_redirects=True) as client:
        assert client.trust_env is obeys
        assert (client.headers["X"], client.follow_redirects) == ("y", True)
