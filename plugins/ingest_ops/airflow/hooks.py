"""Hooks and connection types: the agent, Prometheus and the control API's token, from Airflow's connections.

A setting of the environment (``K2_DEPLOY_AGENT_URL`` and so on) comes first. What is not set there is taken from these
connections, if they exist, and so from Airflow's secrets back ends.
"""

import urllib.request
from typing import Any

from airflow.sdk import BaseHook

from ingest_ops.airflow.connections import address

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Without the environment's proxy, as the tasks reach the same addresses."""
SECONDS = 10.0


class AgentHook(BaseHook):
    """The deploy agent: host, port, schema http or https; its token is the password."""

    conn_name_attr = "agent_conn_id"
    default_conn_name = "k2_agent"
    conn_type = "k2_agent"
    hook_name = "K2 Ingest deploy agent"
    path = "/slots"

    def __init__(self, agent_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.connection_id = agent_conn_id

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """What the form shows."""
        return {
            "hidden_fields": ["login", "extra"],
            "relabeling": {"schema": "Scheme (http or https)", "password": "Token"},
            "placeholders": {"host": "agent", "port": "9099", "schema": "http"},
        }

    def get_conn(self) -> str:
        """Its address."""
        return address(self.get_connection(self.connection_id))

    def test_connection(self) -> tuple[bool, str]:
        """What the button *Test* does: ask for something that only works with the right token."""
        connection = self.get_connection(self.connection_id)
        request = urllib.request.Request(address(connection) + self.path)  # noqa: S310 - http(s), see address
        if connection.password:
            request.add_header("Authorization", f"Bearer {connection.password}")
        try:
            with _DIRECT.open(request, timeout=SECONDS) as answer:
                return True, f"{request.full_url}: {answer.status}"
        except (OSError, ValueError) as error:
            return False, f"{request.full_url}: {error}"


class PrometheusHook(AgentHook):
    """The Prometheus that scrapes both slots; a token is optional."""

    conn_name_attr = "prometheus_conn_id"
    default_conn_name = "k2_prometheus"
    conn_type = "k2_prometheus"
    hook_name = "K2 Ingest Prometheus"
    path = "/-/ready"

    def __init__(self, prometheus_conn_id: str = default_conn_name) -> None:
        super().__init__(prometheus_conn_id)

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """What the form shows."""
        behaviour = super().get_ui_field_behaviour()
        return {**behaviour, "placeholders": {"host": "prometheus", "port": "9090", "schema": "http"}}
