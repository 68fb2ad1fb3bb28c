"""The auditor's HTTP clients: one factory for time-outs, the private CA and the proxy."""

import os
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import certifi
import httpx2

from ingest.audit.model import Inconclusive
from ingest.command.masking import refused

CA_BUNDLE = "K2_BINANCE_CUSTOM_CA_BUNDLE"
PROXY = "K2_BINANCE_PROXY"
"""Environment variables that the service reads, too."""


@dataclass(frozen=True)
class Transport:
    """How HTTP connections are made. ``ca``: PEM file of further authorities; ``proxy``: URL for the exchange."""

    timeout: float = 30.0
    ca: Path | None = None
    proxy: str | None = None

    def client(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        proxied: bool = False,
    ) -> httpx2.Client:
        """Return a client for ``url``. The environment's own proxy variables are not used, except ``NO_PROXY``.

        Raises ``Inconclusive`` if the CA file or the proxy cannot be used.
        """
        try:
            return httpx2.Client(
                base_url=url,
                timeout=self.timeout,
                headers=dict(headers or {}),
                auth=auth,
                trust_env=False,
                verify=_context(self.ca),
                proxy=self.proxy if proxied and self.proxy and not bypassed(url) else None,
            )
        except (OSError, ssl.SSLError) as error:
            raise Inconclusive(f"the CA file {self.ca} cannot be used: {error}") from error
        except (ImportError, ValueError, httpx2.InvalidURL) as error:
            raise Inconclusive(f"the proxy {refused(self.proxy or '')} cannot be used: {error}") from error


@lru_cache(maxsize=4)
def _context(ca: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca is not None:
        context.load_verify_locations(cafile=str(ca))
    return context


def bypassed(url: str) -> bool:
    """Whether ``NO_PROXY`` names the host of ``url``."""
    names = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    parts = urlsplit(url)
    host = f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    return bool(urllib.request.proxy_bypass_environment(host, {"no": names}))  # type: ignore[attr-defined]
