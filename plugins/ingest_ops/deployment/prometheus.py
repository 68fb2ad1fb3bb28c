"""What the gates ask of Prometheus: a value, and the raw samples behind it."""

import math
from typing import Any, Protocol

import requests
from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util import Retry

TIMEOUT_SECONDS = 10
MAX_POINTS = 11_000
"""Prometheus refuses more in one answer."""


class NoAnswer(Exception):
    """Prometheus did not answer, or refused: the text says which. Never a verdict."""


class Queries(Protocol):
    """What judging needs; tests script it."""

    def value(self, query: str, at: float) -> list[float]:
        """The values of an instant query, one for each series; empty where there is no data."""

    def samples(self, selector: str, start: float, end: float) -> list[list[tuple[float, float]]]:
        """Raw samples after ``start`` up to ``end`` for each series, oldest first."""


class Prometheus:
    """The real one. Thread-safe as far as ``requests`` is: use one for each thread."""

    def __init__(self, url: str) -> None:
        # One retry, at once: the deployer asks again at its next look anyway, and must not hang here.
        retry = Retry(total=1, backoff_factor=0.1, status_forcelist=(502, 503, 504))
        self._url = url
        self._client = PrometheusConnect(url=url.rstrip("/"), retry=retry, timeout=TIMEOUT_SECONDS)

    def value(self, query: str, at: float) -> list[float]:
        """See ``Queries``. Raises ``NoAnswer``."""
        return [float(series["value"][1]) for series in self._ask(query, at)]

    def samples(self, selector: str, start: float, end: float) -> list[list[tuple[float, float]]]:
        """See ``Queries``. Raises ``NoAnswer``."""
        # A range selector returns the samples as scraped; query_range would repeat the last one for five minutes.
        found = self._ask(f"{selector}[{milliseconds(end - start)}]", end)
        return [[(float(at), float(value)) for at, value in series["values"]] for series in found]

    def _ask(self, query: str, at: float) -> list[dict[str, Any]]:
        try:
            answer = self._client.custom_query(query, params={"time": f"{at:.3f}"})
        except (requests.RequestException, PrometheusApiClientException, ValueError, KeyError) as error:
            raise NoAnswer(f"{self._url}: {error}") from error
        if not isinstance(answer, list):
            raise NoAnswer(f"{self._url}: no vector in answer to {query}")
        return answer


def milliseconds(seconds: float) -> str:
    """A PromQL duration; never 0, which is refused."""
    return f"{max(1, math.floor(seconds * 1000))}ms"
