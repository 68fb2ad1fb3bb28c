"""How prometheus-api-client reaches Prometheus: what the client leaves to its caller is done here, once.

Verified TLS, no proxy of the environment, no redirects (both would decide where credentials go), time-outs, retries of
what may pass, and refusal of partial answers: missing data is no data.
"""

from pathlib import Path
from typing import Any

import requests
from prometheus_api_client import PrometheusConnect
from requests.auth import AuthBase
from urllib3.util.retry import Retry

from ingest.decoding import Undecodable, decode_json, decoding
from ingest_ops.common.secret import authorization

CONNECT_SECONDS = 5.0


class PartialAnswer(requests.RequestException):
    """An answer that says of itself that it is incomplete."""


class TokenOfFile(AuthBase):
    """Sends the bearer token that a file holds at the time of a request."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header. Raises ``requests.RequestException`` without a token: the next request may find one."""
        try:
            request.headers["Authorization"] = authorization(self._path)
        except OSError as error:
            raise requests.RequestException(str(error)) from error
        return request


def hardened(
    session: requests.Session, *, ca_file: Path | None = None, token_file: Path | None = None
) -> requests.Session:
    """Set up a session. ``token_file`` holds a bearer token; it is read for each request, as tokens are renewed."""
    session.trust_env = False
    session.verify = str(ca_file) if ca_file is not None else True
    session.max_redirects = 0
    session.hooks["response"].append(_whole)
    if token_file is not None:
        session.auth = TokenOfFile(token_file)
    return session


def connect(url: str, session: requests.Session, *, answer_seconds: float, retry: Retry) -> PrometheusConnect:
    """Return a client on a ``hardened`` session; it asks nothing yet."""
    return PrometheusConnect(
        url=url.rstrip("/"), session=session, timeout=(CONNECT_SECONDS, answer_seconds), retry=retry
    )


def _whole(answer: requests.Response, *_: Any, **__: Any) -> None:
    """Refuse an answer that says of itself that it is incomplete; the client would drop the remark."""
    if b'"warnings"' in answer.content[-8192:]:
        try:
            with decoding():
                warnings = decode_json(answer.content).get("warnings")
        except Undecodable:
            return
        if warnings:
            raise PartialAnswer(f"a partial answer: {'; '.join(map(str, warnings))[:300]}")
