"""What the gates ask of Prometheus: a value, and the raw samples behind it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit, urlunsplit

import requests
from prometheus_api_client.exceptions import PrometheusApiClientException
from urllib3.util import Retry

from ingest.command.masking import masked
from ingest.decoding import Undecodable, decoding
from ingest_ops.common.prometheus import connect, hardened

T = TypeVar("T")

TIMEOUT_SECONDS = 10
MOST_CAUSE = 300


class NoAnswer(Exception):
    """Prometheus did not answer, or refused: the text says which. Never a verdict."""


@dataclass(frozen=True)
class Sampled:
    """One series: its labels and its raw samples, oldest first."""

    labels: Mapping[str, str]
    samples: list[tuple[float, float]]


class Queries(Protocol):
    """What judging needs; tests script it."""

    def value(self, query: str, at: float) -> list[float]:
        """The values of an instant query, one for each series; empty where there is no data."""

    def series(self, selector: str, start: float, end: float) -> list[Sampled]:
        """Every series of a selector with its raw samples after ``start`` up to ``end``."""


class Prometheus:
    """The real one. Thread-safe as far as ``requests`` is: use one for each thread."""

    def __init__(self, url: str, *, ca_file: Path | None = None, token_file: Path | None = None) -> None:
        """``ca_file``: PEM bundle to verify by; ``token_file``: with a bearer token, read for each question."""
        # One retry, at once: the deployer asks again at its next look anyway, and must not hang here.
        retry = Retry(total=1, backoff_factor=0.1, status_forcelist=(502, 503, 504))
        self._shown = _without_credentials(url)
        session = hardened(requests.Session(), ca_file=ca_file, token_file=token_file)
        self._client = connect(url, session, answer_seconds=TIMEOUT_SECONDS, retry=retry)

    def value(self, query: str, at: float) -> list[float]:
        """See ``Queries``. Raises ``NoAnswer``."""
        return self._ask(query, at, lambda series: float(series["value"][1]))

    def series(self, selector: str, start: float, end: float) -> list[Sampled]:
        """See ``Queries``. Raises ``NoAnswer``."""
        # A range selector returns the samples as scraped; query_range would repeat the last one for five minutes.
        return self._ask(
            f"{selector}[{milliseconds(end - start)}]",
            end,
            lambda series: Sampled(
                dict(series["metric"]), [(float(at), float(value)) for at, value in series["values"]]
            ),
        )

    def _ask(self, query: str, at: float, read: Callable[[Any], T]) -> list[T]:
        """What ``read`` makes of each series of an instant query."""
        try:
            with decoding():  # an address that is not Prometheus's, a proxy's page: any JSON, or none
                answer = self._client.custom_query(query, params={"time": f"{at:.3f}"})
                if not isinstance(answer, list):
                    raise NoAnswer(f"{self._shown}: no vector in answer to {query}")
                return [read(series) for series in answer]
        except (requests.RequestException, PrometheusApiClientException, Undecodable) as error:
            raise NoAnswer(f"{self._shown}: {_cause(error)}") from error


def _cause(error: Exception) -> str:
    """Why there is no answer, in a few words: the library's own text repeats the whole query, URL-encoded."""
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT_SECONDS} s"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    return masked(str(error))[:MOST_CAUSE]


def _without_credentials(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))


def milliseconds(seconds: float) -> str:
    """A PromQL duration; never 0, which is refused."""
    return f"{max(1, math.floor(seconds * 1000))}ms"
