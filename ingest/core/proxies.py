"""Which connections to the exchange go through a proxy. Pure.

Only ``K2_BINANCE_PROXY`` sets one. ``HTTPS_PROXY`` and its relatives are not used, and a warning says so where they
are set; ``NO_PROXY`` is respected.
"""

import urllib.request
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

SCHEMES: Final = ("http", "socks5", "socks5h")
IGNORED: Final = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "WSS_PROXY", "WS_PROXY")
"""Variables that other programs obey."""
ALLOWED: Final = "http://[user:password@]host:port or socks5://[user:password@]host:port"


class ProxyServer(msgspec.Struct, frozen=True):
    """A proxy as its URL describes it. Its text has no credentials."""

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def parse_proxy(url: str) -> ProxyServer:
    """Read a proxy's URL. Raises ``ValueError``, whose text has no credentials."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
        rest = parts.path.strip("/") or parts.query or parts.fragment
    except ValueError:
        raise ValueError(f"allowed is {ALLOWED}") from None
    if scheme not in SCHEMES or not host or not port or rest or any(c.isspace() for c in url):
        raise ValueError(f"allowed is {ALLOWED}")
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if (username is None) != (password is None):
        raise ValueError("a user needs a password, and a password a user")
    return ProxyServer(scheme, host, port, username, password)


class ProxyRules(msgspec.Struct, frozen=True):
    """The proxy, if any, and the hosts that are reached without it (``NO_PROXY``: comma separated, with suffixes)."""

    proxy: ProxyServer | None = None
    no_proxy: str = ""

    def for_host(self, host: str) -> ProxyServer | None:
        """Return the proxy for connections to this host, None for a direct connection."""
        if self.proxy is None or urllib.request.proxy_bypass_environment(  # type: ignore[attr-defined]
            host, {"no": self.no_proxy}
        ):
            return None
        return self.proxy


def proxy_rules(url: str | None, environment: Mapping[str, str]) -> ProxyRules:
    """Build the rules from ``K2_BINANCE_PROXY`` and the environment's ``NO_PROXY``. Raises ``ValueError``."""
    no_proxy = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    return ProxyRules(parse_proxy(url) if url is not None else None, no_proxy)


def unused_proxies(url: str | None, environment: Mapping[str, str]) -> list[str]:
    """Return the names of proxy variables in the environment that are not used, empty where a proxy is set."""
    if url is not None:
        return []
    return [name for name in IGNORED if environment.get(name) or environment.get(name.lower())]
