"""HTTP to the parts that run on this machine: never through the proxy of the environment (``http_proxy``)."""

import urllib.request
from http.client import HTTPResponse
from typing import Any, cast

import httpx2

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def urlopen(request: str | urllib.request.Request, *, timeout: float) -> HTTPResponse:
    """As ``urllib.request.urlopen``, directly. Raises ``urllib.error.HTTPError`` for a status of 400 and more."""
    return cast("HTTPResponse", _DIRECT.open(request, timeout=timeout))


def get(url: str, **options: Any) -> httpx2.Response:
    """As ``httpx2.get``, directly."""
    return httpx2.get(url, trust_env=False, **options)


def post(url: str, **options: Any) -> httpx2.Response:
    """As ``httpx2.post``, directly."""
    return httpx2.post(url, trust_env=False, **options)
