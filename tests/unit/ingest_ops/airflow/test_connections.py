"""Settings from Airflow's connections, beside those of the environment."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]

TOKEN = "a-token-of-the-agent"  # noqa: S105


def connection(**parts: Any) -> str:
    return json.dumps(parts)


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = connection(conn_type="k2_agent", host="agent.example", port=9099, password=TOKEN)
    monkeypatch.setenv("AIRFLOW_CONN_K2_AGENT", agent)
    monkeypatch.setenv("AIRFLOW_CONN_K2_CONTROL", connection(conn_type="generic", password="of-the-slots"))  # noqa: S106
    prometheus = connection(conn_type="k2_prometheus", host="prometheus.example", schema="https")
    monkeypatch.setenv("AIRFLOW_CONN_K2_PROMETHEUS", prometheus)


WANTED = {
    "K2_DEPLOY_AGENT_URL": "http://agent.example:9099",
    "K2_AGENT_TOKEN": TOKEN,
    "K2_CONTROL_TOKEN": "of-the-slots",
    "K2_DEPLOY_PROMETHEUS_URL": "https://prometheus.example",
    "K2_REPORT_PROMETHEUS_URL": "https://prometheus.example",
}


def test_what_the_environment_leaves_out_comes_from_connections() -> None:
    from ingest_ops.airflow.connections import environment

    assert environment({}) == WANTED


def test_the_environment_comes_first() -> None:
    from ingest_ops.airflow.connections import environment

    stated = {"K2_DEPLOY_AGENT_URL": "http://other:1", "K2_AGENT_TOKEN_FILE": "/run/secrets/agent"}
    found = environment(stated)
    assert found["K2_DEPLOY_AGENT_URL"] == "http://other:1"
    assert "K2_AGENT_TOKEN" not in found, "two places for one secret are refused by the settings"
    assert found["K2_CONTROL_TOKEN"] == WANTED["K2_CONTROL_TOKEN"]


def test_the_triggerer_finds_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from ingest_ops.airflow.connections import async_environment

    for name in WANTED:
        monkeypatch.delenv(name, raising=False)
    found = asyncio.run(async_environment())
    assert {name: found[name] for name in WANTED} == WANTED


@pytest.mark.parametrize("broken", [{"conn_type": "k2_agent"}, {"conn_type": "k2_agent", "host": "x", "schema": "ftp"}])
def test_a_connection_that_is_no_address_is_named(monkeypatch: pytest.MonkeyPatch, broken: dict[str, str]) -> None:
    from ingest_ops.airflow.connections import BadConnection, environment

    monkeypatch.setenv("AIRFLOW_CONN_K2_AGENT", json.dumps(broken))
    with pytest.raises(BadConnection, match="connection k2_agent"):
        environment({})


@pytest.fixture
def server() -> Iterator[int]:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers["Authorization"] == f"Bearer {TOKEN}" and self.path == "/slots"
            self.send_response(200 if allowed else 401)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running.server_port
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(("token", "works"), [(TOKEN, True), ("another", False)])
def test_the_button_test_needs_the_right_token(
    monkeypatch: pytest.MonkeyPatch, server: int, token: str, works: bool
) -> None:
    from ingest_ops.airflow.hooks import AgentHook

    stated = connection(conn_type="k2_agent", host="127.0.0.1", port=server, password=token)
    monkeypatch.setenv("AIRFLOW_CONN_K2_AGENT", stated)
    tested, said = AgentHook().test_connection()
    assert (tested, token not in said) == (works, True)


def test_the_archive_s_catalog_and_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    from ingest_ops.airflow.connections import BadConnection, environment

    catalog = {"conn_type": "postgres", "host": "db.example", "port": 5433, "schema": "archive", "login": "me@home"}
    monkeypatch.setenv("AIRFLOW_CONN_K2_ARCHIVE_CATALOG", json.dumps(catalog | {"password": "a/b:c"}))
    extra = {"endpoint_url": "http://minio:9000", "region_name": "eu"}
    store = {"conn_type": "aws", "login": "key", "password": "secret", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_K2_ARCHIVE_STORE", json.dumps(store))
    found = environment({})
    assert found["K2_ARCHIVE_CATALOG_URI"] == "postgresql+psycopg2://me%40home:a%2Fb%3Ac@db.example:5433/archive"
    assert found["K2_ARCHIVE_CATALOG_OPTIONS"].split(",") == [
        "s3.access-key-id=key", "s3.secret-access-key=secret", "s3.endpoint=http://minio:9000", "s3.region=eu",
    ]  # fmt: skip
    assert "K2_ARCHIVE_CATALOG_URI" not in environment({"K2_ARCHIVE_CATALOG_URI_FILE": "/run/secrets/url"})
    monkeypatch.setenv("AIRFLOW_CONN_K2_ARCHIVE_STORE", json.dumps(store | {"password": "a,b"}))
    with pytest.raises(BadConnection, match="k2_archive_store: a value with a comma"):
        environment({})
    monkeypatch.setenv("AIRFLOW_CONN_K2_ARCHIVE_CATALOG", json.dumps({"conn_type": "postgres", "host": "db"}))
    with pytest.raises(BadConnection, match="k2_archive_catalog: needs a host, and a database"):
        environment({})
