"""Settings from Airflow's connections, where the environment leaves them out."""

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from ingest.core.errors import IngestError

if TYPE_CHECKING:
    from airflow.sdk import Connection


class BadConnection(IngestError):
    """A connection cannot be used; the text says which and why."""


def address(connection: "Connection") -> str:
    """``http://host:port`` of a connection. Raises ``BadConnection``."""
    scheme = connection.schema or "http"
    if scheme not in ("http", "https") or not connection.host:
        raise BadConnection(f"connection {connection.conn_id}: needs a host, and http or https as the scheme")
    host = connection.host.rpartition("//")[2].rstrip("/")
    return f"{scheme}://{host}:{connection.port}" if connection.port else f"{scheme}://{host}"


def _password(connection: "Connection") -> str:
    return connection.password or ""


def catalog(connection: "Connection") -> str:
    """SQLAlchemy's URL of a PostgreSQL connection. Raises ``BadConnection``."""
    if not connection.host or not connection.schema:
        raise BadConnection(f"connection {connection.conn_id}: needs a host, and a database as its schema")
    user, password = (quote(text or "", safe="") for text in (connection.login, connection.password))
    who = f"{user}:{password}@" if password else f"{user}@" if user else ""
    where = f"{connection.host}:{connection.port}" if connection.port else connection.host
    return f"postgresql+psycopg2://{who}{where}/{quote(connection.schema, safe='')}"


STORE = (("endpoint_url", "s3.endpoint"), ("region_name", "s3.region"), ("aws_session_token", "s3.session-token"))
"""Extras of a connection of the type aws, and PyIceberg's names for them."""


def object_store(connection: "Connection") -> str:
    """PyIceberg's options from a connection of the type ``aws``. Raises ``BadConnection``."""
    extra = connection.extra_dejson
    found = {"s3.access-key-id": connection.login, "s3.secret-access-key": connection.password}
    found |= {name: extra.get(key) for key, name in STORE}
    if any("," in str(value) for value in found.values()):
        raise BadConnection(f"connection {connection.conn_id}: a value with a comma cannot be an option")
    return ",".join(f"{name}={value}" for name, value in found.items() if value)


Reading = Callable[["Connection"], str]
"""What a setting is made of."""

FROM: dict[str, tuple[tuple[str, Reading], ...]] = {
    "k2_agent": (("K2_DEPLOY_AGENT_URL", address), ("K2_AGENT_TOKEN", _password)),
    "k2_archive_catalog": (("K2_ARCHIVE_CATALOG_URI", catalog),),
    "k2_archive_store": (("K2_ARCHIVE_CATALOG_OPTIONS", object_store),),
    "k2_control": (("K2_CONTROL_TOKEN", _password),),
    "k2_prometheus": (("K2_DEPLOY_PROMETHEUS_URL", address), ("K2_REPORT_PROMETHEUS_URL", address)),
}
"""Connection -> the settings that it gives where the environment has none."""


def environment(stated: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment, and from connections what it leaves out. Raises ``BadConnection``."""
    found = dict(os.environ if stated is None else stated)
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    for name in _wanted(found):
        with contextlib.suppress(AirflowNotFoundException):
            found |= _given(name, BaseHook.get_connection(name), found)
    return found


async def async_environment() -> dict[str, str]:
    """The same in the triggerer, whose event loop must not be blocked."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    found = dict(os.environ)
    for name in _wanted(found):
        with contextlib.suppress(AirflowNotFoundException):
            found |= _given(name, await BaseHook.aget_connection(name), found)
    return found


def _missing(name: str, found: Mapping[str, str]) -> list[tuple[str, Reading]]:
    return [(key, get) for key, get in FROM[name] if not found.get(key) and not found.get(f"{key}_FILE")]


def _wanted(found: Mapping[str, str]) -> list[str]:
    return [name for name in FROM if _missing(name, found)]


def _given(name: str, connection: "Connection", found: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, get in _missing(name, found) if (value := get(connection))}
