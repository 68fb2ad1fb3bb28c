"""Where samples come from: the service's own /metrics, or Prometheus that scrapes it."""

import ssl
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import httpx2

from ingest.decoding import Undecodable, decode_json, decoding
from ingest.http.answers import MiB, ask
from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.common.secret import authorization
from ingest_ops.soak.samples import CHILD_LABELS, FIELDS, Sample, build_labels, from_exposition, from_series

TIMEOUT = 10.0
MOST_BYTES = 64 * MiB
"""Of an answer of Prometheus or of a service's metrics."""
Points = Sequence[tuple[float, float]]
CHUNK = 3600.0
"""Seconds of raw samples asked of Prometheus at once."""


class SourceError(Exception):
    """No samples this time: the text says why. The next reading may work."""


class Source(Protocol):
    """What the engine needs. Implementations keep no state between calls that a restart could lose."""

    remembers: bool
    """Whether samples of the past can be read later."""

    def read(self, since: float, until: float) -> list[Sample]:
        """Samples after ``since`` and up to ``until`` (seconds since 1970), oldest first. Raises ``SourceError``."""

    def build(self) -> dict[str, str]:
        """Version and revision of what is running; empty where unknown."""

    def describe(self) -> str:
        """One line for the report."""


class EndpointSource:
    """Reads /metrics once per call: what was not read in time is gone, so a dead watcher costs samples."""

    remembers = False

    def __init__(self, url: str, *, client: httpx2.Client | None = None) -> None:
        self._url = url
        self._client = client or httpx2.Client(timeout=TIMEOUT, trust_env=False)

    def read(self, since: float, until: float) -> list[Sample]:
        """One sample, stamped ``until``."""
        del since
        text = self._text()
        try:
            return [from_exposition(until, text)]
        except ValueError as error:
            raise SourceError(f"{self._url}: no Prometheus text ({error})") from error

    def build(self) -> dict[str, str]:
        """Version and revision from ``ingest_build_info``."""
        try:
            return build_labels(self._text())
        except (SourceError, ValueError):
            return {}

    def describe(self) -> str:
        """Where it reads."""
        return f"/metrics at {self._url}"

    def _text(self) -> str:
        return _get(self._client, self._url, {}).text


Target = tuple[tuple[str, str], ...]
"""The labels that name a target: all that the service did not set itself."""


def _spread(copies: dict[Target, tuple[float, float]], labels: Mapping[str, str], points: Points) -> None:
    """Note from when to when a target was scraped."""
    if not points:
        return
    target = tuple(sorted((name, value) for name, value in labels.items() if name not in CHILD_LABELS))
    first, last = copies.get(target, (points[0][0], points[-1][0]))
    copies[target] = min(first, points[0][0]), max(last, points[-1][0])


def _doubled(copies: Mapping[Target, tuple[float, float]]) -> str:
    """The labels by which two targets differ that were scraped at the same time: replicas would be added up.

    A target that was relabelled has two names one after the other, and no copies.
    """
    ordered = sorted(copies.items(), key=lambda one: one[1])
    for (one, (_, last)), (other, (first, _)) in pairwise(ordered):
        if first < last:
            return ", ".join(f'{name}="{value}"' for name, value in sorted(set(one) ^ set(other)))
    return ""


class PrometheusSource:
    """Reads the raw scrapes of one instance: a dead watcher costs nothing, for the scrapes are still there.

    Raw samples, not ``query_range``: a range query carries a value forward for five minutes and invents samples that
    there was no scrape.
    """

    remembers = True

    def __init__(self, url: str, selector: str, *, client: httpx2.Client | None = None) -> None:
        self._url = url.rstrip("/")
        self._selector = selector
        self._client = client or httpx2.Client(timeout=TIMEOUT, trust_env=False)

    def read(self, since: float, until: float) -> list[Sample]:
        """One sample for each scrape."""
        rows: dict[float, list[tuple[str, Mapping[str, str], float]]] = {}
        instances: set[tuple[str, str]] = set()
        copies: dict[Target, tuple[float, float]] = {}
        start = since
        while start < until:
            end = min(until, start + CHUNK)
            for labels, points in self._raw(end, end - start):
                instances.add((labels.get("job", ""), labels.get("instance", "")))
                _spread(copies, labels, points)
                for at, value in points:
                    if since < at <= until:
                        rows.setdefault(at, []).append((labels["__name__"], labels, value))
            start = end
        if len(instances) > 1:
            raise SourceError(f"{{{self._selector}}} selects {len(instances)} instances: {sorted(instances)}")
        if doubled := _doubled(copies):
            raise SourceError(f"{{{self._selector}}} selects two copies of one instance: {doubled}")
        return [from_series(at, rows[at]) for at in sorted(rows)]

    def build(self) -> dict[str, str]:
        """Version and revision from ``ingest_build_info``."""
        try:
            found = self._query(f"ingest_build_info{{{self._selector}}}")
        except SourceError:
            return {}
        return dict(found[0]["metric"]) if found else {}

    def describe(self) -> str:
        """Where it reads."""
        return f"Prometheus at {self._url}, {{{self._selector}}}"

    def _raw(self, end: float, seconds: float) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        names = "|".join(one.series for one in FIELDS)
        query = f'{{__name__=~"{names}",{self._selector}}}[{max(1, int(seconds * 1000))}ms]'
        return [
            (one["metric"], [(float(at), float(value)) for at, value in one["values"]])
            for one in self._query(query, end)
        ]

    def _query(self, query: str, at: float | None = None) -> list[dict[str, Any]]:
        parameters = {"query": query} | ({} if at is None else {"time": f"{at:.3f}"})
        answer = _get(self._client, f"{self._url}/api/v1/query", parameters)
        try:
            with decoding():
                body = decode_json(answer.content)
                if body["status"] != "success":
                    raise SourceError(f"Prometheus: {body.get('error')}")
                result: list[dict[str, Any]] = body["data"]["result"]
        except Undecodable as error:
            raise SourceError(f"Prometheus answered something else: {error}") from error
        return result


def client_for(settings: ReportSettings) -> httpx2.Client:
    """A client for the Prometheus of the settings: its CA, its token, and no proxy of the environment.

    The token is read for each request: a soak outlives the tokens of a cluster. Raises ``OSError`` for a CA file.
    """
    path = settings.prometheus_token_file

    def authorized(request: httpx2.Request) -> httpx2.Request:
        if path is not None:
            try:
                request.headers["Authorization"] = authorization(path)
            except OSError as error:
                raise httpx2.RequestError(str(error), request=request) from error
        return request

    context = ssl.create_default_context(cafile=settings.prometheus_ca_file)
    return httpx2.Client(timeout=settings.timeout_seconds, trust_env=False, auth=authorized, verify=context)


def source_from(target: Mapping[str, str], client: httpx2.Client | None = None) -> Source:
    """``{"metrics_url"}`` or ``{"prometheus_url", "selector"}``, as triggers and the command line carry it."""
    if target.get("prometheus_url"):
        return PrometheusSource(target["prometheus_url"], target["selector"], client=client)
    if target.get("metrics_url"):
        return EndpointSource(target["metrics_url"], client=client)
    raise ValueError("a soak needs metrics_url, or prometheus_url and selector")


def _get(client: httpx2.Client, url: str, parameters: Mapping[str, str]) -> httpx2.Response:
    try:
        answer = ask(client, "GET", url, params=dict(parameters) or None, most_bytes=MOST_BYTES)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise SourceError(f"{url}: {error!r}") from error
    if answer.status_code != 200:
        raise SourceError(f"{url}: HTTP {answer.status_code} {answer.text[:200]}")
    return answer
