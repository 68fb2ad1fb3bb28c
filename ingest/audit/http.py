"""The auditor's HTTP clients: one factory for time-outs, the private CA and the proxy."""

import os
import ssl
import time
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
ANSWER_SECONDS = 300.0
"""For one answer as a whole, however steadily it comes."""


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


def get(
    client: httpx2.Client,
    path: str,
    params: Mapping[str, str | int] | None = None,
    *,
    most_bytes: int,
    most_seconds: float = ANSWER_SECONDS,
) -> httpx2.Response:
    """GET; the answer has been read, up to a bound in bytes and in time. Raises ``httpx2.HTTPError`` beyond it, too."""
    until = time.monotonic() + most_seconds
    with client.stream("GET", path, params=dict(params or {})) as answer:
        body = bytearray()
        for part in answer.iter_bytes():
            body += part
            if len(body) > most_bytes:
                raise httpx2.ReadError(f"an answer beyond {most_bytes} bytes")
            if time.monotonic() > until:
                raise httpx2.ReadTimeout(f"an answer that takes more than {most_seconds:g} s")
        headers = [(name, value) for name, value in answer.headers.items() if name not in _OF_TRANSPORT]
        return httpx2.Response(answer.status_code, headers=headers, content=bytes(body), request=answer.request)


_OF_TRANSPORT = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""They say how the body came; it has been decoded."""
