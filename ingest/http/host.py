"""Which Host and Origin a request may carry: against DNS rebinding and cross-origin requests of a browser."""

import ipaddress
from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from ingest.http.messages import HttpError, Request

ANY = "*"


def check_host(request: Request, allowed: Collection[str]) -> None:
    """Raise ``HttpError`` (421, 403) for a Host that is not ours or an Origin of another site.

    An address, ``localhost`` and a name without a dot (a container's, a pod's) are always accepted: a public web page
    cannot have such a name. Any other name must be in ``allowed``; ``*`` there accepts every name.
    """
    host = request.header("host")
    name = _name(host)
    if host and not (_local(name) or name in allowed or ANY in allowed):
        raise HttpError(
            HTTPStatus.MISDIRECTED_REQUEST,
            f"the host name {name[:100]!r} is not served here: add it to K2_HTTP_ALLOWED_HOSTS",
        )
    origin = request.header("origin")
    if origin and _netloc(origin) != host.lower():
        raise HttpError(HTTPStatus.FORBIDDEN, "cross-origin requests are refused")


def _netloc(origin: str) -> str | None:
    """Host and port of an origin; None for ``null`` and what is no URL."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return host


def _local(name: str) -> bool:
    if "." not in name and ":" not in name:
        return True
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name.endswith(".localhost")
    return True
