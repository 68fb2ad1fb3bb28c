"""The archive's client for the exchange: its REST API and its daily files."""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx2


def exchange_client(
    url: str, *, timeout: float, headers: Mapping[str, str] | None = None, follow_redirects: bool = False
) -> httpx2.Client:
    """A client for addresses below ``url``; ``timeout`` in seconds for each step. Close it.

    The exchange may be behind the proxy of the environment, for which the archive has no setting of its own. On this
    machine it is the simulator, which is reached directly, as the registry and all other parts of the system are.
    """
    return httpx2.Client(
        timeout=timeout, headers=dict(headers or {}), follow_redirects=follow_redirects, trust_env=not is_loopback(url)
    )


def is_loopback(url: str) -> bool:
    """Whether the host of ``url`` is this machine, by its name or its address."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
